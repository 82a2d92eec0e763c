"""A package's model, ready to answer: by ONNX Runtime or by scikit-learn, as the package says. Thread-safe, no protocol."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo import errors
from relevo.packaging.package import Package
from relevo.packaging.session import open_session

__all__ = ["Predictor", "load_predictor"]

Rows = NDArray[np.float64]
_MANY_ROWS = 64
_WARM_UPS = 3
_SLOW_SECONDS = 0.02


class Predictor:
    """Answers rows [rows, features] with classes [rows], and on request with probabilities [rows, classes].

    `both` is None for a model without probabilities.
    """

    def __init__(self, classes: Callable[[Rows], NDArray[Any]], both: Callable[[Rows], tuple[Any, Any]] | None) -> None:
        self._classes = classes
        self._both = both
        self._seconds = (float("inf"), float("inf"))

    def answer(self, rows: Rows, *, probabilities: bool) -> tuple[NDArray[Any], Rows | None]:
        """The class of each row, and the probability of every class if they are wanted. Raises whatever the model raises."""
        if not probabilities:
            return np.asarray(self._classes(rows)), None
        if self._both is None:
            raise NotImplementedError("this model has no probabilities")
        labels, scores = self._both(rows)
        return np.asarray(labels), np.asarray(scores, dtype=np.float64)

    def seconds(self, rows: int) -> float:
        """About how long an answer takes, as `measure` found it: infinite if the model was never seen to answer."""
        return self._seconds[0] + self._seconds[1] * rows

    def measure(self, row: Rows) -> None:
        """Answer `row` [1, features] a few times, alone and repeated: no request then pays for what the model sets up lazily.

        A model that raises on this very row may have its reasons: that is an answer to a request, not to starting.
        """
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
            if self._both is not None:
                self.answer(row, probabilities=True)
            one = self._best(row)
            many = self._best(np.repeat(row, _MANY_ROWS, axis=0))
            per_row = max(many - one, 0.0) / (_MANY_ROWS - 1)
            self._seconds = (max(one - per_row, 0.0), per_row)

    def _best(self, rows: Rows) -> float:
        best = float("inf")
        for _ in range(_WARM_UPS):
            began = perf_counter()
            self.answer(rows, probabilities=self._both is not None)
            best = min(best, perf_counter() - began)
            if best > _SLOW_SECONDS:
                break
        return best


def load_predictor(package: Package) -> Predictor:
    """Load the model and measure it.

    Raises:
        errors.BadInput: the model does not load here.
    """
    predictor = _onnx(package) if package.metadata.runtime == "onnx" else _sklearn(package)
    predictor.measure(package.heldout().x[:1])
    return predictor


def _onnx(package: Package) -> Predictor:
    try:
        session = open_session(package.onnx_path or Path())
    except Exception as error:  # ORT's exception types are generated and share no public base
        raise errors.BadInput(
            f"model package {package.folder}: model.onnx does not load: {error}",
            next_step="Train it again with the onnxruntime that is installed here.",
        ) from error
    name = package.metadata.input.name
    label = [session.get_outputs()[0].name]
    run = session.run
    return Predictor(
        classes=lambda rows: run(label, {name: rows})[0],
        both=lambda rows: run(None, {name: rows}),
    )


def _sklearn(package: Package) -> Predictor:
    estimator = package.estimator()
    if hasattr(estimator, "get_params"):
        # A pool of threads per request costs more than the prediction of a row.
        estimator.set_params(**{key: 1 for key in estimator.get_params() if key.split("__")[-1] == "n_jobs"})
    if not hasattr(estimator, "predict_proba"):
        return Predictor(estimator.predict, None)
    return Predictor(estimator.predict, lambda rows: (estimator.predict(rows), estimator.predict_proba(rows)))
