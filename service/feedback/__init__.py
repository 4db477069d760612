"""True values of earlier predictions: parsed, matched with remembered requests, counted as losses.

Imports inference and what it imports. Start at collector.py.
"""
