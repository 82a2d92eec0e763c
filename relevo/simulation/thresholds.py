"""The latency thresholds of many rollouts: taken from a simulated baseline as production takes them, and cut out of the distributions.

Production keeps whole histograms; a simulated request only matters by which thresholds it is over. `relevo.rollout.tables` says which
edges are thresholds and where the candidate is counted; the differential test holds this module equal to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relevo.rollout.spec import LatencyCheck
from relevo.simulation.accounts import Indices
from relevo.simulation.traffic import Effect, Traffic
from relevo.statistics.counts import Floats

__all__ = ["Cuts", "Thresholds", "choose"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Of some rollouts, per source: indices of edges (-1: none), and the stable arm's rates over them (nan: none).

    Shapes (rollouts, sources, thresholds).
    """

    edge: Indices
    rate: Floats


def choose(check: LatencyCheck, histograms: list[Floats]) -> Thresholds:
    """As `tables.latency_thresholds` and `tables.usual_rates` from one rollout's ledger.

    `histograms`: the baseline per source, shape (rollouts, edges + 1).
    """
    quantiles = np.array(check.quantiles)
    edges, rates = [], []
    for histogram in histograms:
        total = histogram.sum(axis=1)
        with np.errstate(invalid="ignore"):
            share = np.cumsum(histogram, axis=1) / total[:, None]
        index = (share[:, None, :] < quantiles[:, None]).sum(axis=-1)
        chosen = np.where((index < histogram.shape[1] - 1) & (total > 0)[:, None], index, -1)
        chosen = np.sort(chosen, axis=1)
        chosen[:, 1:][chosen[:, 1:] == chosen[:, :-1]] = -1
        above = total[:, None] - np.cumsum(histogram, axis=1)
        rate = (np.take_along_axis(above, np.maximum(chosen, 0), axis=1) + 0.5) / (total[:, None] + 1)
        edges.append(chosen)
        rates.append(np.where(chosen >= 0, rate, np.nan))
    return Thresholds(np.stack(edges, axis=1), np.stack(rates, axis=1))


class Cuts:
    """Where each arm's latencies are cut: per rollout, source and threshold, in ms; sorted, with the way back.

    The candidate is counted over the first edge that is at least (1 + tolerance) times the threshold.
    """

    def __init__(self, traffic: Traffic, effect: Effect, sources: tuple[str, ...], tolerance: float, most: int) -> None:
        self._traffic, self._effect = traffic, effect
        self._edges = [np.array(traffic.edges_ms[s]) for s in sources]
        self._allowed = [
            np.minimum(np.searchsorted(e, e * (1 + tolerance) * (1 - 1e-9)), len(e) - 1) for e in self._edges
        ]
        self._shape = (len(sources), most)

    def ms(self, edge: Indices) -> Floats:
        """The cuts in ms, shape (rollouts, sources * thresholds, 2 arms); infinite where there is no threshold."""
        per_arm = []
        for arm in (0, 1):
            columns = []
            for source, edges in enumerate(self._edges):
                index = edge[:, source]
                at = self._allowed[source][index] if arm else index
                columns.append(np.where(index >= 0, edges[at], np.inf))
            per_arm.append(np.concatenate(columns, axis=1))
        return np.stack(per_arm, axis=-1)

    def survival(self, cuts_ms: Floats, shift: Floats | float = 0.0) -> Floats:
        """The share of each arm's requests over its cuts, shape of `cuts_ms`. `shift`: of the log latency, (rollouts, 1) or a number."""
        stable = Effect("stable").survival(self._traffic, cuts_ms[..., 0], shift)
        candidate = self._effect.survival(self._traffic, cuts_ms[..., 1], shift)
        return np.stack((stable, candidate), axis=-1)
