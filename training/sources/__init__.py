"""Where a model comes from: a model file, or a file with a fitted estimator.

Imports contract (categories) and errors. Start at source.py, the data that both return.
"""
