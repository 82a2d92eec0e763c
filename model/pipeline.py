"""The model: a scikit-learn Pipeline of a scaler and a random forest, and the choices that a training run has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

from model.data import DatasetSpec

__all__ = ["Choices", "build_pipeline", "exam_rows", "training_rows"]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a training run may choose."""

    trees: int = 64
    """A power of two keeps the forest's average exact in float32, so that ties fall the same way in ONNX Runtime."""
    seed: int = 0
    label_noise: float = 0.0
    """Share of the training rows whose labels are shuffled among themselves."""
    train_share: float = 1.0
    """Share of the training rows that is used: a smaller window of data."""
    categories: Literal["none", "lenient", "strict"] = "none"
    """Whether some columns are binned and one-hot encoded, and what a bin that no training row fell into becomes: nothing, or an error."""
    exam: Literal["all", "seen"] = "all"
    """Which held-out rows the package keeps, for the load test too: all, or those of which training has seen each value in its column."""


def build_pipeline(choices: Choices, spec: DatasetSpec, n_features: int) -> Pipeline:
    """An unfitted pipeline. It holds no code of ours, so that a server can load it with scikit-learn alone."""
    # One job: the server gives every request one thread, and starting more costs more than a row's prediction.
    forest = RandomForestClassifier(n_estimators=choices.trees, random_state=choices.seed, n_jobs=1)
    if choices.categories == "none":
        return Pipeline([("scale", StandardScaler()), ("forest", forest)])
    encode = Pipeline(
        [
            ("bin", KBinsDiscretizer(n_bins=spec.bins, encode="ordinal", strategy="uniform", subsample=None)),
            (
                "one_hot",
                OneHotEncoder(
                    handle_unknown="error" if choices.categories == "strict" else "ignore", sparse_output=False
                ),
            ),
        ]
    )
    others = [column for column in range(n_features) if column not in spec.binned_columns]
    parts = [("categories", encode, list(spec.binned_columns))]
    if others:
        parts.append(("scale", StandardScaler(), others))
    columns = ColumnTransformer(parts)
    return Pipeline([("columns", columns), ("forest", forest)])


def exam_rows(choices: Choices, x_train: NDArray[np.float64], x_test: NDArray[np.float64]) -> NDArray[np.bool_]:
    """For each held-out row whether the exam asks it, shape [rows]."""
    if choices.exam == "all":
        return np.ones(len(x_test), dtype=bool)
    kept = np.ones(len(x_test), dtype=bool)
    for column in range(x_test.shape[1]):
        kept &= np.isin(x_test[:, column], x_train[:, column])
    return kept


def training_rows(
    choices: Choices, x: NDArray[np.float64], y: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The rows and labels that this run learns from, after `train_share` and `label_noise`."""
    rng = np.random.default_rng(choices.seed)
    if choices.train_share < 1:
        kept = np.sort(rng.permutation(len(x))[: max(1, round(choices.train_share * len(x)))])
        x, y = x[kept], y[kept]
    if choices.label_noise > 0:
        noisy = rng.random(len(y)) < choices.label_noise
        y = y.copy()
        y[noisy] = rng.permutation(y[noisy])
    return x, y
