"""Derives a contract: what the fitted estimator accepts and answers, found by asking it.

Imports nothing else of training but errors. Start at derive.py.
"""
