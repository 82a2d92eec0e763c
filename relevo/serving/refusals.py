"""Why a request is not answered with a prediction, whatever protocol it came by. Each protocol gives these their status."""

from __future__ import annotations

__all__ = ["InvalidRequest", "ModelFailed", "NotFound", "Overloaded"]


class InvalidRequest(Exception):
    """The request is not what the model takes; answered 400 or INVALID_ARGUMENT. The message names the field and the reason."""


class NotFound(Exception):
    """The request names another model or version; answered 404 or NOT_FOUND."""


class ModelFailed(Exception):
    """The model raised on a valid request; answered 500 or INTERNAL."""

    def __init__(self, error: Exception) -> None:
        reason = " ".join(str(error).split())[:200]
        super().__init__(f"the model failed on this input: {type(error).__name__}: {reason}")


class Overloaded(Exception):
    """So many requests wait for the model that another would wait too long; answered 503 or RESOURCE_EXHAUSTED."""

    retry_after_seconds = 1

    def __init__(self, waiting: int) -> None:
        super().__init__(f"overloaded: {waiting} requests wait for the model; try again in a second")
