"""Metadata of packages that are not there, for tests that need no more than that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from relevo.packaging.metadata import DataInfo, Feature, Input, Metadata, Parity

__all__ = ["about", "frame_of"]


def about(features: tuple[str, ...] = ("a", "b"), **changes: Any) -> Metadata:
    """A classifier of numbers into 0 and 1, served by scikit-learn; `changes` replace fields."""
    fields: dict[str, Any] = {
        "name": "m",
        "version": "1",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "git_commit": None,
        "libraries": {},
        "parameters": {},
        "data": DataInfo(name="d", digest="sha256:0", train_rows=1, validation_rows=0, test_rows=1),
        "input": Input(features=tuple(Feature(name=name) for name in features)),
        "classes": (0, 1),
        "metrics": {},
        "parity": Parity(checked=False),
        "runtime": "sklearn",
        "runtime_reason": "asked for",
    }
    return Metadata(**(fields | changes))


def frame_of(*features: Feature) -> Metadata:
    """A classifier of a frame with these columns."""
    return about(input=Input(kind="frame", features=features))
