"""Engines compute predictions: scikit-learn, the compiled pipeline, compiled trees, ONNX Runtime, Treelite.

Imports columns and artifact. Start at registry.py, which makes the engine that the manifest names.
"""
