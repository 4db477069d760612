"""The models that ship, each a model file to bake as it is or to start your own from.

Imports scikit-learn and pandas, nothing of the project. Start at house_prices.py.
"""
