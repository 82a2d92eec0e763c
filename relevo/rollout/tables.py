"""The ledger's counts as arrays, in the shapes that `relevo.statistics` takes: (steps, 2) with the stable arm first.

Rows are the steps in which both arms had traffic: the shadow stage (each row to both, so the candidate's share is a half) and the steps of
the ramp. Baseline traffic, all of it to the stable revision, compares nothing; it only sets the latency thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relevo.rollout.ledger import SHADOW, SourceLedger, cell
from relevo.rollout.observation import Arm, Counts
from relevo.rollout.ramp import Step
from relevo.rollout.spec import LatencyCheck
from relevo.rollout.state import RolloutState
from relevo.statistics.counts import Floats

__all__ = ["Table", "latency_thresholds", "table_of", "usual_rates"]


@dataclass(frozen=True, slots=True)
class Table:
    """One source's counts over the steps."""

    source: str
    rho: Floats
    """The candidate's share of the traffic per step, shape (steps,)."""
    cells: tuple[tuple[Counts, Counts], ...]
    """Per step: stable, candidate."""
    edges_ms: tuple[float, ...]

    def count(self, of: Callable[[Counts], float]) -> Floats:
        """One number per step and arm, shape (steps, 2)."""
        return np.array([[of(stable), of(candidate)] for stable, candidate in self.cells], dtype=np.float64)

    @property
    def has_latency(self) -> bool:
        return any(c.latency for row in self.cells for c in row)

    @property
    def has_labels(self) -> bool:
        return any(c.labelled for row in self.cells for c in row)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes predicted by either arm."""
        return tuple(sorted({name for row in self.cells for c in row for name in c.predictions}))

    def exceedances(self, thresholds: tuple[int, ...], tolerance: float) -> tuple[Floats, Floats]:
        """Requests over each threshold, shape (thresholds, steps, 2), and all with a latency, shape (steps, 2).

        The candidate is counted over the first edge that is at least (1 + tolerance) times the threshold, so that being slower by
        less than the tolerance is not held against it.
        """
        width = len(self.edges_ms) + 1
        histograms = np.array([[c.latency or (0,) * width for c in row] for row in self.cells], dtype=np.float64)
        above = np.cumsum(histograms[:, :, ::-1], axis=2)[:, :, ::-1]  # [i]: slower than edge i-1
        edges = np.array(self.edges_ms)
        allowed = np.searchsorted(edges, edges[list(thresholds)] * (1 + tolerance) * (1 - 1e-9))
        stable = above[:, 0, [i + 1 for i in thresholds]]
        candidate = above[:, 1, np.minimum(allowed, len(edges) - 1) + 1]
        return np.stack([stable, candidate], axis=-1).transpose(1, 0, 2), above[:, :, 0]


def table_of(state: RolloutState, source: str, ledger: SourceLedger, steps: tuple[Step, ...]) -> Table:
    """The counts of one source, shadow stage first."""
    counts = ledger.table
    keys: list[tuple[str, float]] = [
        (SHADOW, 0.5),
        *((str(i), s.weight_percent / 100) for i, s in enumerate(steps[: state.step], 1)),
    ]
    cells = tuple(
        (counts.get(cell(k, Arm.STABLE), Counts()), counts.get(cell(k, Arm.CANDIDATE), Counts())) for k, _ in keys
    )
    return Table(source, np.array([rho for _, rho in keys]), cells, ledger.edges_ms)


def latency_thresholds(ledger: SourceLedger, check: LatencyCheck) -> tuple[int, ...]:
    """Indices of the edges nearest above the stable revision's quantiles, from its traffic before the candidate had any."""
    histogram = np.array(ledger.table.get(cell(0, Arm.STABLE), Counts()).latency, dtype=np.float64)
    if not histogram.sum():
        return ()
    share = np.cumsum(histogram) / histogram.sum()
    indices = {int(np.searchsorted(share, q)) for q in check.quantiles}
    return tuple(sorted(i for i in indices if i < len(ledger.edges_ms)))


def usual_rates(ledger: SourceLedger, thresholds: tuple[int, ...]) -> tuple[float, ...]:
    """How often the stable revision exceeded each threshold in its baseline traffic; kept off 0 and 1."""
    histogram = ledger.table.get(cell(0, Arm.STABLE), Counts()).latency
    return tuple((sum(histogram[i + 1 :]) + 0.5) / (sum(histogram) + 1) for i in thresholds)
