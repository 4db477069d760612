"""Compiles a fitted estimator: its arithmetic as a pipeline of the service, which needs no scikit-learn.

What a step does is read off its fitted attributes; what an encoder makes of a category is found by asking it. Nothing
here has to be trusted: the bake serves no pipeline whose answers it did not compare with the estimator's own.

`models` compiles the estimator, `composition` what puts transformers together, `numbers` and `cells` transformers.
"""

from training.engines.compile_pipeline.models import compile_pipeline

__all__ = ["compile_pipeline"]
