"""The ONNX form of a scikit-learn model, made so that it computes what scikit-learn computes. `parity` checks that it does."""

from __future__ import annotations

import logging
from typing import Any

from relevo.packaging.session import open_session
from relevo.packaging.trees import is_tree_ensemble, tree_graph

__all__ = ["ExportImpossible", "to_onnx_bytes"]

_log = logging.getLogger(__name__)
_BETWEEN = "prepared"
"""The rows between the steps that skl2onnx converts and the trees that `trees` does."""


class ExportImpossible(Exception):
    """This model cannot be expressed; the message says which part of it."""


def to_onnx_bytes(estimator: Any, *, n_features: int, input_name: str) -> bytes:
    """Convert a fitted classifier or regressor to ONNX.

    One FP64 input [rows, n_features]; the outputs are the label [rows] and the probabilities [rows, classes] of a classifier, the values
    of a regressor.

    Raises:
        ExportImpossible: a step of the pipeline has no ONNX converter.
    """
    steps = [
        step for step in getattr(estimator, "steps", [("model", estimator)]) if step[1] not in (None, "passthrough")
    ]
    try:
        if steps and is_tree_ensemble(steps[-1][1]):
            model = _with_trees(steps, n_features, input_name)
        else:
            model = _converted(estimator, n_features, input_name)
        serialized = bytes(model.SerializeToString())
        open_session(serialized)  # not all that can be written can be run in float64
    except Exception as error:  # skl2onnx raises many unrelated types, some of them bare RuntimeError and NameError
        _log.debug("no ONNX form", exc_info=True)
        raise ExportImpossible(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    return serialized


def _with_trees(steps: list[tuple[str, Any]], n_features: int, input_name: str) -> Any:
    """The steps by skl2onnx, the trees by `trees`, in one graph."""
    from onnx import compose
    from sklearn.pipeline import Pipeline

    *before, (_, trees) = steps
    if not before:
        return tree_graph(trees, input_name)
    last = tree_graph(trees, _BETWEEN)
    opset = next(entry.version for entry in last.opset_import if entry.domain == "")
    first = _converted(Pipeline(before), n_features, input_name, target_opset={"": opset, "ai.onnx.ml": 3})
    # The operators for preparing rows mean the same in every later version.
    first.ir_version = last.ir_version
    del first.opset_import[:]
    first.opset_import.extend(last.opset_import)
    prepared = first.graph.output[0].name
    return compose.merge_models(first, compose.add_prefix(last, "trees_", rename_outputs=False, rename_inputs=False),
                                io_map=[(prepared, _BETWEEN)])  # fmt: skip


def _converted(estimator: Any, n_features: int, input_name: str, **more: Any) -> Any:
    # skl2onnx takes about a second to import: only who exports pays for it.
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType

    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    return to_onnx(
        estimator, initial_types=[(input_name, DoubleTensorType([None, n_features]))], options=options, **more
    )
