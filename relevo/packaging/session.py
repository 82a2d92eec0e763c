"""ONNX Runtime as relevo uses it, when a package is made and when it is served: one thread, no lines of its own on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["open_session"]

_FATAL = 4
"""What a row raises is answered and counted; a line on stderr each adds nothing."""


def open_session(model: bytes | Path) -> Any:
    """An `InferenceSession`. Raises whatever ONNX Runtime raises on a model that it cannot run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Requests are what runs in parallel, and ORT's own pool would spin on the cores that they need. Several threads would also add
    # the trees of a forest in another order than scikit-learn does.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, sess_options=options, providers=["CPUExecutionProvider"])
