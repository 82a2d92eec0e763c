"""How good a model is, and whether it is good enough to be packaged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score, log_loss

__all__ = ["GATE_MARGIN", "baseline", "evaluate", "gate"]

GATE_MARGIN = 0.1
"""By how much a model's accuracy must be above the baseline's on the validation set."""


def evaluate(estimator: Any, x: NDArray[np.float64], y: NDArray[Any]) -> dict[str, float]:
    """Accuracy, macro F1 and log loss on rows `x` [rows, features] with labels `y` [rows].

    A row on which the model raises is counted in `failed_rows` and as wrong: its user would have got no answer. F1 and log loss are
    over the rows that were answered, and left out if there are none.
    """
    answered = _answered(estimator, x)
    metrics: dict[str, float] = {"failed_rows": float(len(y) - answered.sum())}
    if not answered.any():
        return {"accuracy": 0.0, **metrics}
    predicted, actual = estimator.predict(x[answered]), y[answered]
    probabilities = estimator.predict_proba(x[answered])
    return {
        "accuracy": float((predicted == actual).sum() / len(y)),
        "f1_macro": float(f1_score(actual, predicted, average="macro")),
        "log_loss": float(log_loss(actual, probabilities, labels=estimator.classes_)),
        **metrics,
    }


def _answered(estimator: Any, x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """For each row whether the model answers it, shape [rows]."""
    try:
        estimator.predict(x)
    except Exception:  # a pipeline's steps raise what they like; what matters is on how many rows
        if len(x) == 1:
            return np.zeros(1, dtype=bool)
        middle = len(x) // 2
        return np.concatenate([_answered(estimator, x[:middle]), _answered(estimator, x[middle:])])
    return np.ones(len(x), dtype=bool)


def baseline(x_train: NDArray[np.float64], y_train: NDArray[Any]) -> DummyClassifier:
    """The trivial model: always the most frequent class."""
    return DummyClassifier(strategy="prior").fit(x_train, y_train)


def gate(validation: dict[str, float], trivial: dict[str, float]) -> str:
    """Why a model with these metrics must not be packaged, as one sentence; empty if it may."""
    needed = min(1.0, trivial["accuracy"] + GATE_MARGIN)
    if validation["accuracy"] >= needed:
        return ""
    return (
        f"quality gate: accuracy {validation['accuracy']:.1%} on the validation set, but at least {needed:.1%} is needed "
        f"(a trivial model has {trivial['accuracy']:.1%}); nothing was written"
    )
