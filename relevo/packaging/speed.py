"""From how many rows on scikit-learn is faster than the ONNX form that answers the same: measured when the package is made.

ONNX Runtime wins where a request is small, for scikit-learn spends a tenth of a millisecond and more on checks; on thousands of rows its
loops over shallow trees are sometimes the faster.
"""

from __future__ import annotations

import copy
from time import process_time
from typing import Any

import numpy as np

from relevo.packaging.session import open_session

__all__ = ["one_job", "sklearn_from_rows"]

_SIZES = (1, 30, 100, 300, 1000, 3000)
_TIMES = 3
_LEAST_SECONDS = 0.004
"""Of CPU time per measurement: a small request is repeated until it comes to that."""
_TOO_LONG_SECONDS = 1.0
_WORTH = 0.85
"""scikit-learn must take at most this share of the other's time: what is about as fast is not worth a second copy of the model."""


def one_job(estimator: Any) -> Any:
    """The estimator, told to predict in one thread: a pool of threads per request costs more than the prediction of a row."""
    if hasattr(estimator, "get_params"):
        jobs = {key: 1 for key in estimator.get_params() if key.split("__")[-1] == "n_jobs"}
        if jobs:
            estimator.set_params(**jobs)
    return estimator


def sklearn_from_rows(estimator: Any, model: bytes, rows: Any) -> int | None:
    """The smallest of the measured sizes from which on scikit-learn is faster, or None. `rows` [rows, features] are repeated as needed."""
    session = open_session(model)
    name = session.get_inputs()[0].name
    single = one_job(copy.deepcopy(estimator))
    found: int | None = None
    for size in _SIZES:
        sample = np.resize(rows, (size, rows.shape[1]))
        try:
            theirs = _seconds(lambda sample=sample: single.predict(sample))
            ours = _seconds(lambda sample=sample: session.run(None, {name: sample}))
        except Exception:  # a model that raises on held-out rows has no speed to choose by
            return None
        if theirs > ours * _WORTH:
            found = None
        elif found is None:
            found = size
        if max(theirs, ours) > _TOO_LONG_SECONDS:
            break
    return found


def _seconds(call: Any) -> float:
    """CPU seconds of one call, the best of a few: a busy machine delays it, but does not make it cost more."""
    best = float("inf")
    for _ in range(_TIMES):
        began, count = process_time(), 0
        while True:
            call()
            count += 1
            spent = process_time() - began
            if spent >= _LEAST_SECONDS:
                break
        best = min(best, spent / count)
    return best
