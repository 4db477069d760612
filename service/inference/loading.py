"""Loads a model: verify the artifact, make the engine, replay the golden requests."""

from pathlib import Path

from service.artifact.reader import verify
from service.engines.registry import load_engine
from service.inference.batching import Batcher
from service.inference.golden import replay_golden
from service.inference.model import Model


def load_model(directory: Path) -> Model:
    """Return the model in an artifact, once it was verified, loaded, and gave its golden answers again.

    Raises:
        ArtifactError: If a digest, the format, a library version or a golden answer does not fit.
    """
    artifact = verify(directory)
    engine = load_engine(artifact)
    model = Model(artifact, Batcher(engine) if artifact.manifest["batching"] else engine)
    replay_golden(model)
    return model
