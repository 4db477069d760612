"""A loaded model: its engine, its golden requests, its latency, and batching.

Imports engines, codec, observability and what these import. Start at loading.py.
"""
