"""The losses of predictions, row by row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_LOSS = 1e200  # so that the sum of any number of them is finite: a counter would never come back from infinity


# ---------------------------------------------------------------------------------------------- what is counted


def regression_losses(y_true: NDArray[np.float64], y_pred: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return for each row by how much the prediction is over the truth, by how much under it, and the square of that.

    Args:
        y_true: The true numbers, of shape (n_samples,).
        y_pred: The predictions, of shape (n_samples,).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        errors = y_pred - y_true
        return {"over": np.maximum(errors, 0), "under": np.maximum(-errors, 0), "squared_error": errors**2}


def classification_losses(
    y_true: NDArray[np.intp], y_pred: NDArray[np.intp], probabilities: NDArray[np.floating[Any]] | None
) -> dict[str, NDArray[np.float64]]:
    """Return for each row whether the prediction is right, and log loss and Brier loss where there are probabilities.

    Args:
        y_true: Places of the true classes among the model's, of shape (n_samples,).
        y_pred: The same of the predicted classes.
        probabilities: Of shape (n_samples, n_classes).
    """
    losses = {"correct": (y_pred == y_true).astype(np.float64)}
    if probabilities is not None:
        of_truth = np.arange(len(y_true)), y_true
        # As sklearn.metrics.log_loss: a probability of 0 costs much, but not everything.
        smallest = np.finfo(probabilities.dtype).eps
        losses["log_loss"] = -np.log(np.clip(probabilities[of_truth], smallest, 1 - smallest), dtype=np.float64)
        distances = -probabilities.astype(np.float64)
        distances[of_truth] += 1
        squares = distances**2
        losses["brier"] = squares[:, 1] if probabilities.shape[1] == 2 else squares.sum(axis=1)
    return losses
