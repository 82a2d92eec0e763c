"""The seam to evidence: what a source and a load generator can do. `locust` and `envoy` implement it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from relevo import errors
from relevo.rollout.observation import Reading, Silence

__all__ = ["EvidenceSource", "LoadGenerator", "LoadPlan", "ShadowTargets"]


@dataclass(frozen=True, slots=True)
class ShadowTargets:
    """Both revisions' direct addresses (`http://HOST:PORT`), and the label under which their shadow traffic is counted."""

    label: str
    stable_revision: str
    stable_url: str
    candidate_revision: str
    candidate_url: str


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How much load there shall be: simulated users, how fast their number changes, and whether rows are shadowed."""

    users: int
    spawn_rate_per_second: float
    shadow: ShadowTargets | None = None

    def __post_init__(self) -> None:
        if self.users < 0:
            raise errors.BadInput(f"load plan: users is {self.users}", next_step="Give 0 or more users.")
        if not (math.isfinite(self.spawn_rate_per_second) and self.spawn_rate_per_second > 0):
            raise errors.BadInput(
                f"load plan: spawn_rate_per_second is {self.spawn_rate_per_second}", next_step="Give a number above 0."
            )


class EvidenceSource(Protocol):
    """Where cumulative counts come from."""

    name: str

    def read(self) -> Reading | Silence:
        """Read the counts once. Never raises for a source that is down, slow or answers nonsense: that is a `Silence`."""


class LoadGenerator(Protocol):
    """What makes the load."""

    def ensure(self, plan: LoadPlan) -> None:
        """Make the load be as planned. Idempotent, and sends nothing when it already is. Raises `errors.Transient`."""

    def announce(self, label: str) -> None:
        """Say by which split requests are routed from now on; "" while a change is under way. Raises `errors.Transient`.

        For a load generator behind a proxy that stamps its answers itself there is nothing to do.
        """
