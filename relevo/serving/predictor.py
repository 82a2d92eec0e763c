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
from relevo.packaging.speed import one_job

__all__ = ["Predictor", "load_large", "load_predictor"]

Rows = NDArray[np.float64]
_MANY_ROWS = 64
_WARM_UPS = 3
_SLOW_SECONDS = 0.02


class Predictor:
    """Answers rows with classes or values [rows] or [rows, outputs], and on request with probabilities [rows, classes].

    Rows are float64 [rows, features], a pandas DataFrame or texts [rows], as the package says. `both` is None for a model without
    probabilities.
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
        # Of several outputs there is one array each.
        scores = np.stack(scores, axis=1) if isinstance(scores, list) else scores
        return np.asarray(labels), np.asarray(scores, dtype=np.float64)

    def seconds(self, rows: int) -> float:
        """About how long an answer takes, as `measure` found it: infinite if the model was never seen to answer."""
        return self._seconds[0] + self._seconds[1] * rows

    def measure(self, row: Any) -> None:
        """Answer `row`, one of them, a few times, alone and repeated: no request then pays for what the model sets up lazily.

        A model that raises on this very row may have its reasons: that is an answer to a request, not to starting.
        """
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
            if self._both is not None:
                self.answer(row, probabilities=True)
            one = self._best(row)
            many = self._best(_repeated(row, _MANY_ROWS))
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


class TwoPredictors(Predictor):
    """The ONNX form for small requests, and scikit-learn, once it is loaded, for those of `from_rows` rows and more.

    Both answer the same; which is faster was measured when the package was made.
    """

    def __init__(self, small: Predictor, from_rows: int) -> None:
        super().__init__(small._classes, small._both)
        self._from_rows = from_rows
        self._large: Predictor | None = None

    def add(self, large: Predictor) -> None:
        """scikit-learn is there."""
        self._large = large

    def answer(self, rows: Rows, *, probabilities: bool) -> tuple[NDArray[Any], Rows | None]:
        """As `Predictor` does."""
        if self._large is not None and len(rows) >= self._from_rows:
            return self._large.answer(rows, probabilities=probabilities)
        return super().answer(rows, probabilities=probabilities)

    def seconds(self, rows: int) -> float:
        """As `Predictor` does."""
        if self._large is not None and rows >= self._from_rows:
            return self._large.seconds(rows)
        return super().seconds(rows)


def load_predictor(package: Package) -> Predictor:
    """Load the model and measure it. What is to answer large requests besides is loaded later, by `load_large`.

    Raises:
        errors.BadInput: the model does not load here.
    """
    about = package.metadata
    predictor = _onnx(package) if about.runtime == "onnx" else _sklearn(package)
    if about.runtime == "onnx" and about.sklearn_from_rows is not None:
        predictor = TwoPredictors(predictor, about.sklearn_from_rows)
    predictor.measure(package.heldout().x[:1])
    return predictor


def load_large(package: Package, predictor: Predictor) -> None:
    """Load scikit-learn as well, if it is faster for large requests: it takes seconds, so the server is ready before.

    Raises:
        errors.BadInput: the model does not load here.
    """
    if isinstance(predictor, TwoPredictors):
        large = _sklearn(package)
        large.measure(package.heldout().x[:1])
        predictor.add(large)


def _repeated(row: Any, count: int) -> Any:
    if hasattr(row, "iloc"):
        return row.iloc[[0] * count]
    return np.repeat(row, count, axis=0)


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
        both=(lambda rows: run(None, {name: rows})) if len(session.get_outputs()) > 1 else None,
    )


def _sklearn(package: Package) -> Predictor:
    estimator = one_job(package.estimator())
    if not package.metadata.probabilities or not hasattr(estimator, "predict_proba"):
        return Predictor(estimator.predict, None)
    return Predictor(estimator.predict, lambda rows: (estimator.predict(rows), estimator.predict_proba(rows)))
