"""Where each of many simulated rollouts is: the part of production's `RolloutState` and `Routes` that a simulation needs, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from relevo.simulation.accounts import Indices
from relevo.simulation.outcomes import End, Outcomes
from relevo.statistics.counts import Floats

__all__ = [
    "DECIDED",
    "NOT_HELD",
    "PREPARING",
    "SHADOWING",
    "SHIFTING",
    "SPLIT_MISMATCH",
    "UNMEASURABLE",
    "US",
    "Flags",
    "Ints",
    "Live",
]

PREPARING, SHADOWING, SHIFTING, DECIDED = range(4)
NOT_HELD, UNMEASURABLE, SPLIT_MISMATCH = range(3)
US = 1_000_000
"""Microseconds in a second: time is kept in whole ones, as `datetime` does, so that equal times are equal."""

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(slots=True)
class Live:
    """Where each rollout is; the first axis of every array is the rollout."""

    number: Indices
    phase: Ints
    row: Indices
    """0 in the shadow stage and before, else the step."""
    ordered_row: Indices
    """What the proxy is told: 0 is all traffic to the stable revision."""
    routed_row: Indices
    """By which label the proxy routes."""
    weight_row: Indices
    """By whose weight it does: another for a while, where labels come before weights."""
    routed_label: Indices
    """The label until the last look."""
    heard_label: Indices
    """The label at the last look at which the sources told something; -1 if it has changed since."""
    effective_us: Ints
    weight_us: Ints
    step_since_us: Ints
    held_us: Ints
    hold: Ints
    hold_since_us: Ints
    split_held: Flags
    extended: Flags
    end: Ints
    decided_us: Ints
    requests: Floats
    baseline: Floats
    edge: Indices
    cuts_ms: Floats
    between: Floats
    """The shares of requests between the cuts, falling by rank; with their ranks in `order`."""
    order: Indices
    histograms: list[Floats]

    @classmethod
    def start(cls, runs: int, edges: Sequence[Sequence[float]], thresholds: int) -> Live:
        """Rollouts that have just been asked for. `edges`: each source's."""

        def zeros() -> Ints:
            return np.zeros(runs, dtype=np.int64)

        def flags() -> Flags:
            return np.zeros(runs, dtype=bool)

        return cls(
            number=np.arange(runs),
            phase=zeros(),
            row=zeros(),
            ordered_row=zeros(),
            routed_row=zeros(),
            weight_row=zeros(),
            routed_label=zeros(),
            heard_label=np.full(runs, -1),
            effective_us=zeros(),
            weight_us=zeros(),
            step_since_us=zeros(),
            held_us=zeros(),
            hold=zeros(),
            hold_since_us=zeros(),
            split_held=flags(),
            extended=flags(),
            end=zeros(),
            decided_us=zeros(),
            requests=np.zeros((runs, 2)),
            baseline=np.zeros((runs, len(edges))),
            edge=np.full((runs, len(edges), thresholds), -1),
            cuts_ms=np.full((runs, len(edges) * thresholds, 2), np.inf),
            between=np.eye(1, len(edges) * thresholds + 1)[..., None].repeat(runs, axis=0).repeat(2, axis=-1),
            order=np.zeros((runs, len(edges) * thresholds, 2), dtype=np.intp),
            histograms=[np.zeros((runs, len(e) + 1)) for e in edges],
        )

    def take(self, kept: Indices) -> None:
        """Keep these rollouts only."""
        for each in fields(self):
            value = getattr(self, each.name)
            setattr(self, each.name, [v[kept] for v in value] if isinstance(value, list) else value[kept])

    def outcomes(self, which: Indices, now_us: int) -> Outcomes:
        """Of these rollouts; the open ones have come to `now_us`."""
        decided_us = np.where(self.end[which] == End.OPEN, now_us, self.decided_us[which])
        return Outcomes(
            self.end[which].astype(np.int8),
            decided_us / US,
            self.requests[which].sum(axis=1),
            self.requests[which, 1],
            self.row[which].astype(np.int16),
            self.split_held[which],
        )
