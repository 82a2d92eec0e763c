"""The data sets, and how each is divided: the same rows are held out whatever the version, so that versions can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import train_test_split

from relevo.packaging.provenance import data_digest

__all__ = ["DATASETS", "DatasetSpec", "Split", "load_split"]

_SPLIT_SEED = 0
_TEST_SHARE = 0.5
_VALIDATION_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A data set of scikit-learn's. Half of it is held out: accuracy is judged on those rows, under load, during the rollout."""

    load: Callable[[], Any]
    binned_columns: tuple[int, ...]
    """Columns that `--categories` cuts into bins, which become categories."""
    bins: int
    """Into how many equally wide bins each of these columns is cut."""


DATASETS = {
    "iris": DatasetSpec(load_iris, binned_columns=(2,), bins=32),  # petal length
    # Pixels near the edge, which few digits reach: whole numbers from 0 to 16.
    "digits": DatasetSpec(load_digits, binned_columns=(1, 6, 7, 14, 15, 22, 25, 49), bins=16),
}


@dataclass(frozen=True, slots=True)
class Split:
    """A data set, divided. `x_*` have shape [rows, features] and dtype float64, `y_*` shape [rows]."""

    name: str
    digest: str
    feature_names: tuple[str, ...]
    x_train: NDArray[np.float64]
    y_train: NDArray[Any]
    x_validation: NDArray[np.float64]
    y_validation: NDArray[Any]
    x_test: NDArray[np.float64]
    y_test: NDArray[Any]


def load_split(name: str) -> Split:
    """Load a data set by its name in `DATASETS` and divide it: half to test, an eighth to validate, the rest to train."""
    bunch = DATASETS[name].load()
    x, y = np.asarray(bunch.data, dtype=np.float64), np.asarray(bunch.target)
    x_rest, x_test, y_rest, y_test = train_test_split(x, y, test_size=_TEST_SHARE, random_state=_SPLIT_SEED, stratify=y)
    x_train, x_validation, y_train, y_validation = train_test_split(
        x_rest, y_rest, test_size=_VALIDATION_SHARE, random_state=_SPLIT_SEED, stratify=y_rest
    )
    return Split(
        name=name,
        digest=data_digest(x, y),
        feature_names=tuple(str(feature) for feature in bunch.feature_names),
        x_train=x_train,
        y_train=y_train,
        x_validation=x_validation,
        y_validation=y_validation,
        x_test=x_test,
        y_test=y_test,
    )
