"""Feedback: parses true values of earlier predictions, finds the remembered requests, and counts the losses.

Imports inference and what it imports. Start at collector.py.
"""
