"""Latency where requests wait behind one another: in which of many windows of time was the candidate the slower one?

Requests that queue are slow together, so a bet on each of them (`exceedance`) takes one busy moment for hundreds of witnesses. A window is
one witness, however many requests it has and however alike they are. The bet, per threshold, is on who wins the window:

- the arm with the larger share of its requests over the threshold. Ties say nothing, and the candidate only wins by more than half a
  request of the arm that has fewer (`compared`). Then, if it is no slower, it wins no more windows than it loses, although a
  small count's share is skewed and grainy: exactly where it has no more requests than the stable arm.
- Where fewer than RARE slow requests are to be expected of it among those that the window has: the candidate, if any of them is its own.
  The chance of that, pi, is known from the arms' numbers of requests where slow ones do not come in clumps. Where they do, and the
  arms' numbers differ much, this bet (and only this) is somewhat in the candidate's disfavour; the tests say by how much.

To win at odds pi : 1 - pi with a bet on odds r times as high multiplies the capital by r / (1 - pi + pi r), to lose by 1 / (1 - pi + pi r);
pi is a half in the first case. The e-value is the average over r and over the thresholds. No share of traffic enters.

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

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from relevo.statistics.counts import Floats

__all__ = [
    "KEPT",
    "RARE",
    "RATIOS",
    "compared",
    "correlation",
    "correlations",
    "log_e_of_windows",
    "log_factor",
    "log_factors",
    "witnesses",
]

RATIOS = np.array([1.5, 7 / 3, 4.0, 9.0, 32.0])
"""By how much the odds of winning a window are bet to be higher than they would be: chances of 0.6, 0.7, 0.8, 0.9, 0.97 at even odds."""

RARE = 0.7
"""Slow requests of the candidate to be expected in a window, below which the bet is on whether there is any."""

KEPT = 32
"""So many of the last windows tell how alike neighbours are. With all, a fault that shows late would pass for one long busy period."""

_MOST = 0.97


def compared(stable: Floats, candidate: Floats, over_stable: Floats, over_candidate: Floats) -> NDArray[np.int64]:
    """1 where the candidate had the larger share over the threshold in a window, -1 where the stable arm had, 0 for a tie.

    `stable`, `candidate`: answers of each arm, above 0; `over_stable`, `over_candidate`: those over the threshold. They broadcast.
    """
    # Whole numbers, so that a tie is a tie.
    difference = over_candidate * stable - over_stable * candidate
    slower = 2 * difference * np.minimum(stable, candidate) > stable * candidate
    verdict: NDArray[np.int64] = slower.astype(np.int64) - (difference < 0)
    return verdict


def log_factors(stable: Floats, candidate: Floats, over_stable: Floats, over_candidate: Floats) -> Floats:
    """The logs of what one window multiplies the capital of each bet by. Arguments as in `compared`; result: (..., RATIOS)."""
    verdict = compared(stable, candidate, over_stable, over_candidate)
    factors: Floats = np.array([_LOST, _TIED, _WON])[verdict + 1]
    over, everything = over_stable + over_candidate, stable + candidate
    rare = np.asarray(over * candidate < RARE * everything)
    if rare.any():
        n_stable, n_all, n_over, n_own = (
            np.broadcast_to(part, rare.shape)[rare] for part in (stable, everything, over, over_candidate)
        )
        # All of the slow ones drawn from the stable arm's requests, without replacement; impossible where it has fewer.
        left = np.maximum(n_stable - n_over, 0.0)
        log_none = gammaln(n_stable + 1) - gammaln(left + 1) - gammaln(n_all + 1) + gammaln(n_all - n_over + 1)
        chance = np.where(n_over <= n_stable, -np.expm1(np.minimum(log_none, 0.0)), 1.0)[:, None]
        lost = -np.log(1 - chance + chance * RATIOS)
        factors[rare] = np.where(
            (n_own > 0)[:, None], lost + np.log(RATIOS), np.where((n_over > 0)[:, None], lost, 0.0)
        )
    return factors


def log_factor(stable: int, candidate: int, over_stable: int, over_candidate: int) -> tuple[float, ...]:
    """`log_factors` of one window and threshold: a decision has a thousandth of a second, and arrays this small cost most of it."""
    over, everything = over_stable + over_candidate, stable + candidate
    if over * candidate >= RARE * everything:
        difference = over_candidate * stable - over_stable * candidate
        if difference < 0:
            return _LOST
        return _WON if 2 * difference * min(stable, candidate) > stable * candidate else _TIED
    if not over:
        return _TIED
    log_none = (
        math.lgamma(stable + 1)
        - math.lgamma(stable - over + 1)
        - math.lgamma(everything + 1)
        + math.lgamma(everything - over + 1)
        if over <= stable
        else -math.inf
    )
    chance = -math.expm1(min(log_none, 0.0))
    return tuple(
        [(log_ratio if over_candidate else 0.0) - math.log(1 - chance + chance * ratio) for ratio, log_ratio in _LOGS]
    )


_LOGS = tuple((float(ratio), math.log(ratio)) for ratio in RATIOS)
_LOST = tuple(-math.log((1 + ratio) / 2) for ratio, _ in _LOGS)
_WON = tuple(lost + log_ratio for lost, (_, log_ratio) in zip(_LOST, _LOGS, strict=True))
_TIED = (0.0,) * len(_LOGS)


def log_e_of_windows(log_capitals: Sequence[Sequence[float]]) -> float:
    """Evidence against the candidate: the log e-value against "it wins no window more often than by chance", before `witnesses`.

    `log_capitals`: per threshold, sums of `log_factor` over the windows. Raises ValueError.
    """
    if not log_capitals or {len(bets) for bets in log_capitals} != {len(_LOGS)}:
        raise ValueError(f"log_capitals: must be {len(_LOGS)} numbers for each of one or more thresholds")
    logs = [log for bets in log_capitals for log in bets]
    highest = max(logs)
    return highest + math.log(sum([math.exp(log - highest) for log in logs]) / len(logs))


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
    raw = math.fsum(a * b for a, b in pairwise(around)) / spread if spread >= 1e-12 else 0.0
    return min(max(raw + (1 + 3 * max(raw, 0.0)) / n, 0.0), _MOST)


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
