"""Derives a contract: what the fitted estimator accepts and answers, found by asking it.

Imports errors; of the service artifact, columns and engines. Start at derive.py, then probe.py.
"""
