"""The compiled pipeline: scikit-learn's arithmetic in the same order, without its checks.

Training makes it of a fitted estimator (`training.engines.compile_pipeline`), as frozen dataclasses: steps that turn
the columns of a request into a matrix (`cells`, `steps`), and a model (`models`). The service reads them from a file
(`serialization`) and prepares their closures once, so that a step of a request costs a few NumPy calls.
"""
