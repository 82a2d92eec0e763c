"""The ONNX form of a scikit-learn model, made so that it computes what scikit-learn computes. `parity` checks that it does."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

__all__ = ["ExportImpossible", "to_onnx_bytes"]

_log = logging.getLogger(__name__)


class ExportImpossible(Exception):
    """skl2onnx cannot express this model; the message says which part of it."""


def to_onnx_bytes(estimator: Any, *, n_features: int, input_name: str) -> bytes:
    """Convert a fitted classifier to ONNX.

    One FP64 input [rows, n_features]; two outputs, the label [rows] and FP32 probabilities [rows, classes].

    Raises:
        ExportImpossible: a step of the pipeline has no ONNX converter.
    """
    # skl2onnx takes about a second to import: only who exports pays for it.
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType

    convertible = _with_float32_trees(estimator)
    try:
        model = to_onnx(
            convertible,
            initial_types=[(input_name, DoubleTensorType([None, n_features]))],
            options={id(convertible): {"zipmap": False}},
        )
    except Exception as error:  # skl2onnx raises many unrelated types, some of them bare RuntimeError and NameError
        _log.debug("no ONNX form", exc_info=True)
        raise ExportImpossible(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    return bytes(model.SerializeToString())


def _with_float32_trees(estimator: Any) -> Any:
    """Put a cast to float32 before the trees of a pipeline.

    scikit-learn's trees round their input to float32 before they compare it with a threshold; the steps before them compute in
    float64. Without the cast, ONNX Runtime compares the float64 value, and a row next to a threshold goes the other way.
    """
    from skl2onnx.sklapi import CastTransformer
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.tree import DecisionTreeClassifier

    trees = (DecisionTreeClassifier, ExtraTreesClassifier, RandomForestClassifier)
    steps = list(estimator.steps) if isinstance(estimator, Pipeline) else [("model", estimator)]
    if not isinstance(steps[-1][1], trees):
        return estimator
    return Pipeline([*steps[:-1], ("to_float32", CastTransformer(dtype=np.float32)), steps[-1]])
