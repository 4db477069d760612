"""The host: CPU and memory limits from cgroups, the number of threads, and the C library's allocator.

Imports no other package of the service. Start at cgroup.py.
"""
