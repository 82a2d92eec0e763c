"""A package's model, ready to answer: by ONNX Runtime or by scikit-learn, as the package says. Thread-safe, no protocol."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo import errors
from relevo.packaging.package import Package

__all__ = ["Predictor", "load_predictor"]

Rows = NDArray[np.float64]
_FATAL = 4


class Predictor:
    """Answers rows [rows, features] with classes [rows], and on request with probabilities [rows, classes]."""

    def __init__(self, classes: Callable[[Rows], NDArray[Any]], both: Callable[[Rows], tuple[Any, Any]]) -> None:
        self._classes = classes
        self._both = both

    def classes(self, rows: Rows) -> NDArray[Any]:
        """The class of each row. Raises whatever the model raises."""
        return np.asarray(self._classes(rows))

    def classes_and_probabilities(self, rows: Rows) -> tuple[NDArray[Any], Rows]:
        """The class of each row and the probability of every class. Raises whatever the model raises."""
        labels, probabilities = self._both(rows)
        return np.asarray(labels), np.asarray(probabilities, dtype=np.float64)


def load_predictor(package: Package) -> Predictor:
    """Load the model and let it answer once, so that no request pays for what is set up lazily.

    Raises:
        errors.BadInput: the model does not load here.
    """
    predictor = _onnx(package) if package.metadata.runtime == "onnx" else _sklearn(package)
    row = package.heldout().x[:1]
    # The model may refuse this very row for a reason of its own: that is an answer to a request, not to starting.
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
        predictor.classes_and_probabilities(row)
    return predictor


def _onnx(package: Package) -> Predictor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: requests are what runs in parallel, and ORT's own pool would spin on the cores that they need.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = (
        _FATAL  # what a request raises is answered and counted; a line on stderr each adds nothing
    )
    try:
        session = onnxruntime.InferenceSession(
            str(package.onnx_path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ORT's exception types are generated and share no public base
        raise errors.BadInput(
            f"model package {package.folder}: model.onnx does not load: {error}",
            next_step="Train it again with the onnxruntime that is installed here.",
        ) from error
    name = package.metadata.input.name
    label = session.get_outputs()[0].name
    return Predictor(
        classes=lambda rows: session.run([label], {name: rows})[0],
        both=lambda rows: session.run(None, {name: rows}),
    )


def _sklearn(package: Package) -> Predictor:
    estimator = package.estimator()
    if hasattr(estimator, "get_params"):
        # A pool of threads per request costs more than the prediction of a row.
        estimator.set_params(**{key: 1 for key in estimator.get_params() if key.split("__")[-1] == "n_jobs"})
    if not hasattr(estimator, "predict_proba"):

        def both(rows: Rows) -> tuple[Any, Any]:
            raise NotImplementedError("this model has no probabilities")

        return Predictor(estimator.predict, both)
    return Predictor(estimator.predict, lambda rows: (estimator.predict(rows), estimator.predict_proba(rows)))
