"""Why a request is not answered with a prediction, whatever protocol it came by. `protocols` and `front` give each its status."""

from __future__ import annotations

__all__ = ["InvalidRequest", "ModelFailed"]


class InvalidRequest(Exception):
    """The request is not what the model takes; answered 400 or INVALID_ARGUMENT. The message names the field and the reason."""


class ModelFailed(Exception):
    """The model raised on a valid request; answered 500 or INTERNAL."""

    def __init__(self, error: Exception) -> None:
        reason = " ".join(str(error).split())[:200]
        super().__init__(f"the model failed on this input: {type(error).__name__}: {reason}")
