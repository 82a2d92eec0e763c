"""Latency where requests wait behind one another: in which of many windows of time was the candidate the slower one?

Requests that queue are slow together, so a bet on each of them (`exceedance`) takes one busy moment for hundreds of witnesses. A window is
one witness, however many requests it has and however alike they are: the bet is on which arm had the larger share of its requests over a
threshold, `(2p)**won * (2(1-p))**lost`, averaged over chances p above a half. Ties say nothing, and to win takes half a request more than
a tie (`compared`). Then a candidate that is no slower wins no more windows than it loses, although a small count's share is skewed and
grainy: exactly where it has no more requests than the stable arm. No share of traffic enters, so a wrong one does no harm.

Where a busy period outlasts a window, neighbouring windows are alike too. `correlation` measures that on the differences between the
arms' shares, and the log of the e-value is multiplied by (1 - r) / (1 + r), the share of the windows that are witnesses of their own if
what they have in common fades from window to window by a factor r (an AR(1) process). That is a correction by measurement and no theorem;
`benchmarks/queueing.py` shows how far it holds.

Sources: the sign test as an e-process, Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference" (arXiv 2210.01948);
the number of independent observations in a correlated series, Bartlett (1946), "On the theoretical specification and sampling properties of
autocorrelated time-series".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.counts import Floats
from relevo.statistics.mixture import Prior, log_mean_exp

__all__ = ["CHANCES", "KEPT", "compared", "correlation", "correlations", "log_e_slower_in_windows", "witnesses"]

CHANCES = Prior.of(np.array([0.6, 0.7, 0.8, 0.9, 0.97]), np.ones(5))
"""Chances p that a slower candidate has the larger share of slow requests in a window, above a half."""

KEPT = 32
"""So many of the last windows tell how alike neighbours are. With all, a fault that shows late would pass for one long busy period."""

_MOST = 0.97


N = TypeVar("N", int, Floats)


def compared(stable: N, candidate: N, over_stable: N, over_candidate: N) -> N:
    """Above 0 where the candidate was the slower one in a window, below 0 where the stable arm was, else 0.

    `stable`, `candidate`: answers of each arm; `over_stable`, `over_candidate`: those over the threshold. Arrays broadcast. The candidate
    is slower where its share is larger by more than half a request of the arm that has fewer. Whole numbers, so that a tie is a tie.
    """
    difference = over_candidate * stable - over_stable * candidate
    fewer = np.minimum(stable, candidate)
    slower = 2 * difference * fewer > stable * candidate
    verdict: N = slower * 1 - (difference < 0) * 1
    return verdict


def log_e_slower_in_windows(won: ArrayLike, lost: ArrayLike, *, prior: Prior = CHANCES) -> Floats:
    """Evidence against the candidate: the log e-value against "it is the slower one in at most half of the windows".

    `won`, `lost`: windows in which the candidate had the larger, or the smaller, share of slow requests; counts of equal shape (...).
    Result: shape (...), before any correction by `witnesses`. Raises ValueError.
    """
    larger, smaller = (np.asarray(counts, dtype=np.float64) for counts in (won, lost))
    if larger.shape != smaller.shape:
        raise ValueError(f"lost: must have the shape of won, {larger.shape}, not {smaller.shape}")
    for name, counts in (("won", larger), ("lost", smaller)):
        if counts.size and not (counts.min() >= 0 and counts.max() < np.inf):
            raise ValueError(f"{name}: must be finite and at least 0")
    gain, loss = np.log(2 * prior.effects), np.log(2 * (1 - prior.effects))
    return log_mean_exp(larger[..., None] * gain + smaller[..., None] * loss, prior.log_weights)


def correlation(differences: Sequence[float]) -> float:
    """How alike neighbouring windows are: the correlation of successive differences between the arms' shares, from 0 to below 1.

    `differences`: oldest first; fewer than three say nothing (0). The estimate from n of them is too low by about (1 + 3 r) / n (Kendall
    1954), which is added.
    """
    n = len(differences)
    if n < 3:
        return 0.0
    mean = math.fsum(differences) / n
    around = [d - mean for d in differences]
    spread = math.fsum(a * a for a in around)
    if spread < 1e-12:
        return _corrected(0.0, n)
    return _corrected(math.fsum(a * b for a, b in pairwise(around)) / spread, n)


def correlations(differences: Floats, count: Floats) -> Floats:
    """`correlation` of many series at once. `differences`: (..., KEPT), of which the last `count` (...) are known, oldest first."""
    known = np.arange(differences.shape[-1]) >= differences.shape[-1] - count[..., None]
    n = np.maximum(count, 1.0)
    around = np.where(known, differences - (np.where(known, differences, 0.0).sum(axis=-1) / n)[..., None], 0.0)
    spread = (around * around).sum(axis=-1)
    shared = (around[..., 1:] * around[..., :-1]).sum(axis=-1)
    raw = np.where(spread < 1e-12, 0.0, shared / np.maximum(spread, 1e-12))
    corrected = np.clip(raw + (1 + 3 * np.maximum(raw, 0.0)) / n, 0.0, _MOST)
    return np.where(count < 3, 0.0, corrected)


def witnesses(correlation_of_neighbours: float) -> float:
    """Which share of the windows are witnesses of their own, from 1 (none is like its neighbour) to almost 0."""
    return (1 - correlation_of_neighbours) / (1 + correlation_of_neighbours)


def _corrected(raw: float, n: int) -> float:
    return min(max(raw + (1 + 3 * max(raw, 0.0)) / n, 0.0), _MOST)
