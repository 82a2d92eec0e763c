"""Counts of many rollouts at once: what one tick adds, and what the sources have told so far.

The last axis is the arm, the stable one first; a row is the shadow stage (0) or a step of the ramp (from 1), as in
`relevo.rollout.tables`. `streams` draws increments, `engine` attributes them to rows, `evidence` judges the sums.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from relevo.statistics.counts import Floats

__all__ = ["Accounts", "Increments", "Indices"]

Indices = NDArray[np.intp]


@dataclass(slots=True)
class Increments:
    """What one tick adds to some rollouts. Counts as floats."""

    requests: Floats
    """(rollouts, 2)"""
    errors: Floats
    """(rollouts, 2)"""
    over: Floats
    """Successful requests over each source's thresholds, (rollouts, sources, thresholds, 2)."""
    predicted: Floats
    """Successful requests per class, (rollouts, classes, 2)."""
    wrong: Floats
    """(rollouts, 2)"""
    labelled: Floats
    """Successful requests of rows whose label is known, (rollouts, 2)."""
    compared: Floats
    """Shadow pairs, (rollouts,)."""
    disagreed: Floats
    """(rollouts,)"""


@dataclass(slots=True)
class Accounts:
    """What the sources have told: sums per rollout, source, row and arm."""

    requests: Floats
    """(rollouts, sources, rows, 2)"""
    errors: Floats
    """(rollouts, sources, rows, 2)"""
    over: Floats
    """(rollouts, sources, thresholds, rows, 2)"""
    predicted: Floats
    """By the client's source, (rollouts, classes, rows, 2)."""
    wrong: Floats
    """By the client's source, (rollouts, rows, 2)."""
    labelled: Floats
    """By the client's source, (rollouts, rows, 2)."""
    compared: Floats
    """(rollouts,)"""
    disagreed: Floats
    """(rollouts,)"""

    @classmethod
    def empty(cls, rollouts: int, sources: int, thresholds: int, classes: int, rows: int) -> Accounts:
        """Nothing counted yet."""
        return cls(
            np.zeros((rollouts, sources, rows, 2)),
            np.zeros((rollouts, sources, rows, 2)),
            np.zeros((rollouts, sources, thresholds, rows, 2)),
            np.zeros((rollouts, classes, rows, 2)),
            np.zeros((rollouts, rows, 2)),
            np.zeros((rollouts, rows, 2)),
            np.zeros(rollouts),
            np.zeros(rollouts),
        )

    def take(self, kept: Indices) -> None:
        """Keep these rollouts only."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name)[kept])

    def add(self, which: Indices, row: Indices, source: int, added: Increments, *, as_client: bool) -> None:
        """Attribute what came to the rollouts of `which` to one row of each, for one source."""
        self.requests[which, source, row] += added.requests
        self.errors[which, source, row] += added.errors
        self.over[which, source, :, row] += added.over[:, source]
        if as_client:
            self.predicted[which, :, row] += added.predicted
            self.wrong[which, row] += added.wrong
            self.labelled[which, row] += added.labelled
            self.compared[which] += added.compared
            self.disagreed[which] += added.disagreed

    def move(
        self, other: Accounts, which: Indices, source: int, *, as_client: bool, into: Indices | None = None
    ) -> None:
        """Add what `other` has of one source to this, and leave it empty there. `into`: all of it to this row; else each row to itself."""
        pairs = [(self.requests, other.requests), (self.errors, other.errors), (self.over, other.over)]
        for mine, theirs in pairs:
            if into is None:
                mine[which, source] += theirs[which, source]
            elif theirs is other.over:
                mine[which, source, :, into] += theirs[which, source].sum(axis=-2)
            else:
                mine[which, source, into] += theirs[which, source].sum(axis=-2)
            theirs[which, source] = 0
        if as_client:
            for name in ("predicted", "wrong", "labelled", "compared", "disagreed"):
                getattr(self, name)[which] += getattr(other, name)[which]
                getattr(other, name)[which] = 0

    def forget(self, which: Indices) -> None:
        """Empty these rollouts' accounts."""
        for each in fields(self):
            getattr(self, each.name)[which] = 0
