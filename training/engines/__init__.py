"""Compiles an estimator into engines, compares them with it, times them and selects one.

Imports contract and errors; of the service artifact, columns and engines. Start at selection.py, then equivalence.py.
"""
