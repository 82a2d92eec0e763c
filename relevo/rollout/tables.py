"""The ledger's counts as arrays, in the shapes that `relevo.statistics` takes: (steps, 2) with the stable arm first.

Rows are the steps in which both arms had traffic: the shadow stage (each row to both, so the candidate's share is a half), the steps of
the ramp below 100 %, and the watch over a switch (rows to both again). Baseline traffic, all of it to the stable revision, compares
nothing; it only sets the latency thresholds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np

from relevo.rollout.ledger import SHADOW, WATCH, SourceLedger, cell
from relevo.rollout.observation import Arm, Counts
from relevo.rollout.ramp import Step
from relevo.rollout.spec import LatencyCheck
from relevo.rollout.state import RolloutState
from relevo.statistics.counts import Floats

__all__ = ["Table", "latency_thresholds", "over_allowed", "slow_counts", "table_of", "usual_rates"]


@dataclass(frozen=True, slots=True)
class Table:
    """One source's counts over the steps."""

    source: str
    shares: tuple[float, ...]
    """The candidate's share of the traffic per step."""
    cells: tuple[tuple[Counts, Counts], ...]
    """Per step: stable, candidate."""
    edges_ms: tuple[float, ...]
    switched: tuple[Counts, Counts] | None = None
    """What users had before the first step and have now, while all are with the candidate; the last row is the watch then."""

    @property
    def last_step(self) -> int:
        """The row of the last step in which chance sent users to either arm, or of the shadow stage where there was none."""
        return len(self.cells) - (1 if self.switched is None else 2)

    @property
    def rehearsed(self) -> bool:
        """Whether this source saw the rows of the shadow stage."""
        return any(counts.requests for counts in self.cells[0])

    @property
    def rho(self) -> Floats:
        """The shares as an array, shape (steps,)."""
        return np.array(self.shares)

    def count(self, of: Callable[[Counts], float]) -> Floats:
        """One number per step and arm, shape (steps, 2)."""
        return np.array([[of(stable), of(candidate)] for stable, candidate in self.cells], dtype=np.float64)

    @property
    def has_labels(self) -> bool:
        return any(c.labelled for row in self.cells for c in row)

    def exceedances(self, thresholds: tuple[int, ...], tolerance: float) -> tuple[Floats, Floats]:
        """Requests over each threshold, shape (thresholds, steps, 2), and all with a latency, shape (steps, 2).

        The candidate is counted over the first edge that is at least (1 + tolerance) times the threshold, so that being slower by
        less than the tolerance is not held against it.
        """
        events = np.array(self.latency_events(thresholds, tolerance), dtype=np.float64)
        outcomes = events.reshape(len(thresholds), len(self.cells), 2, 2)
        return outcomes[:, :, 0, :], outcomes[0].sum(axis=1)

    def latency_events(
        self, thresholds: tuple[int, ...], tolerance: float, *, last_alone: bool = False
    ) -> list[list[int]]:
        """For each threshold, requests per step, outcome (over, not over) and arm, in this order; counted as in `exceedances`.

        `last_alone`: of the last step only.
        """
        allowed = _allowed(self.edges_ms, thresholds, tolerance)
        counted = [
            (_over(stable.latency, thresholds), _over(candidate.latency, allowed))
            for stable, candidate in (self.cells[self.last_step : self.last_step + 1] if last_alone else self.cells)
        ]
        rows = []
        for k in range(len(thresholds)):
            row: list[int] = []
            for (over, total), (over_allowed, all_candidate) in counted:
                row += (over[k], over_allowed[k], total - over[k], all_candidate - over_allowed[k])
            rows.append(row)
        return rows


def over_allowed(
    table: Table, counts: Counts, thresholds: tuple[int, ...], tolerance: float
) -> tuple[tuple[int, ...], int]:
    """The candidate's requests over each threshold, counted as in `Table.exceedances`, and all with a latency."""
    return _over(counts.latency, _allowed(table.edges_ms, thresholds, tolerance))


def slow_counts(
    ledger: SourceLedger, step: int | str, thresholds: tuple[int, ...], tolerance: float
) -> tuple[int, ...]:
    """What `Windows` takes: one step's answers of the stable and of the candidate arm, then per threshold those over it by arm.

    Counted as in `Table.exceedances`.
    """
    stable, candidate = (ledger.counts(cell(step, arm)).latency for arm in (Arm.STABLE, Arm.CANDIDATE))
    over_stable, all_stable = _over(stable, thresholds)
    over_candidate, all_candidate = _over(candidate, _allowed(ledger.edges_ms, thresholds, tolerance))
    pairs = zip(over_stable, over_candidate, strict=True)
    return (all_stable, all_candidate, *(count for pair in pairs for count in pair))


@lru_cache(maxsize=1024)
def _over(latency: tuple[int, ...], edges: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Requests over each of these edges, by index, and all. The cells of past steps no longer change: they are summed once."""
    if not latency:
        return (0,) * len(edges), 0
    at_most = list(accumulate(latency))
    return tuple([at_most[-1] - at_most[i] for i in edges]), at_most[-1]


@lru_cache(maxsize=64)
def _allowed(edges_ms: tuple[float, ...], thresholds: tuple[int, ...], tolerance: float) -> tuple[int, ...]:
    """For each threshold, the first edge that is at least (1 + tolerance) times it, or the last."""
    wanted = [edges_ms[i] * (1 + tolerance) * (1 - 1e-9) for i in thresholds]
    return tuple(min(bisect_left(edges_ms, edge), len(edges_ms) - 1) for edge in wanted)


def table_of(state: RolloutState, source: str, ledger: SourceLedger, steps: tuple[Step, ...]) -> Table:
    """The counts of one source, shadow stage first, the watch over a switch last."""
    taken = steps[: state.step]
    watched = bool(taken) and taken[-1].is_switch
    below = taken[:-1] if watched else taken
    watch = (WATCH,) if watched else ()
    keys = (SHADOW, *map(str, range(1, len(below) + 1)), *watch)
    shares = (0.5, *(s.weight_percent / 100 for s in below), *(0.5 for _ in watch))
    cells = tuple((ledger.counts(cell(key, Arm.STABLE)), ledger.counts(cell(key, Arm.CANDIDATE))) for key in keys)
    if not watched:
        return Table(source, shares, cells, ledger.edges_ms)
    switched = ledger.counts(cell(0, Arm.STABLE)), ledger.counts(cell(state.step, Arm.CANDIDATE))
    return Table(source, shares, cells, ledger.edges_ms, switched)


def latency_thresholds(ledger: SourceLedger, check: LatencyCheck) -> tuple[int, ...]:
    """Indices of the edges nearest above the stable revision's quantiles, from its traffic before the candidate had any."""
    histogram = np.array(ledger.counts(cell(0, Arm.STABLE)).latency, dtype=np.float64)
    if not histogram.sum():
        return ()
    share = np.cumsum(histogram) / histogram.sum()
    indices = {int(np.searchsorted(share, q)) for q in check.quantiles}
    return tuple(sorted(i for i in indices if i < len(ledger.edges_ms)))


def usual_rates(ledger: SourceLedger, thresholds: tuple[int, ...]) -> tuple[float, ...]:
    """How often the stable revision exceeded each threshold in its baseline traffic; kept off 0 and 1."""
    histogram = ledger.counts(cell(0, Arm.STABLE)).latency
    return tuple((sum(histogram[i + 1 :]) + 0.5) / (sum(histogram) + 1) for i in thresholds)
