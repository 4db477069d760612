"""Computes the losses of predictions, row by row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_LOSS = 1e200  # larger losses could make a sum infinite, and a counter stays infinite


def regression_losses(y_true: NDArray[np.float64], y_pred: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return for each row how far the prediction is over the true value, how far under it, and the squared error.

    Args:
        y_true: The true numbers, shape (n_samples,).
        y_pred: The predictions, shape (n_samples,).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        errors = y_pred - y_true
        return {"over": np.maximum(errors, 0), "under": np.maximum(-errors, 0), "squared_error": errors**2}


def classification_losses(
    y_true: NDArray[np.intp], y_pred: NDArray[np.intp], probabilities: NDArray[np.floating[Any]] | None
) -> dict[str, NDArray[np.float64]]:
    """Return for each row whether the prediction is correct and, with probabilities, its log loss and Brier loss.

    Args:
        y_true: The places of the true classes in the model's list of classes, shape (n_samples,).
        y_pred: The places of the predicted classes, shape (n_samples,).
        probabilities: Shape (n_samples, n_classes), or None without probabilities.
    """
    losses = {"correct": (y_pred == y_true).astype(np.float64)}
    if probabilities is not None:
        true_cells = np.arange(len(y_true)), y_true
        # Clip as sklearn.metrics.log_loss does, so that the loss of a probability of 0 is large, but finite.
        smallest = np.finfo(probabilities.dtype).eps
        losses["log_loss"] = -np.log(np.clip(probabilities[true_cells], smallest, 1 - smallest), dtype=np.float64)
        distances = -probabilities.astype(np.float64)
        distances[true_cells] += 1
        squares = distances**2
        losses["brier"] = squares[:, 1] if probabilities.shape[1] == 2 else squares.sum(axis=1)
    return losses
