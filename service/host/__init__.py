"""What the container gives: CPU and memory limits from cgroups, threads, the C library's allocator.

Imports nothing of the other packages. Start at cgroup.py.
"""
