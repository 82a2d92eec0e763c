"""The seam to where traffic is shifted. `relevo.platforms` holds its implementations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relevo.rollout.observation import Arm, Routes

__all__ = ["ModelRef", "Platform", "Split"]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model that a revision serves, named as an InferenceService names it."""

    storage_uri: str


@dataclass(frozen=True, slots=True)
class Split:
    """A weight, and the label that tells requests routed by it from all others."""

    weight_percent: int
    label: str


class Platform(Protocol):
    """Where traffic is shifted. Every method is idempotent ("make it so") and raises only `errors.Transient` or `errors.Permanent`.

    `target` is the name of an InferenceService.
    """

    def observe(self, target: str) -> Routes:
        """Read back the live split and the state of both revisions."""

    def prepare(self, target: str, candidate: ModelRef) -> None:
        """See to it that a revision of `candidate` exists beside the stable one, at 0 %. Does not wait for it to be ready."""

    def set_weight(self, target: str, split: Split) -> None:
        """Give the candidate this share of the traffic. Refuses (`Transient`) a weight above 0 for a candidate that is not ready."""

    def settle(self, target: str, keep: Arm) -> None:
        """Give all traffic to `keep`, make it the stable revision, and retire the other once its requests have ended."""
