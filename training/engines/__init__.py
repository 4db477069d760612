"""Compiles an estimator into engines, compares them with it, times them and selects one.

Imports contract and errors; of the service its engines. Start at selection.py.
"""
