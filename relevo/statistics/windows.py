"""Latency where requests wait behind one another: in many windows of time, which arm holds the slow requests?

Requests that queue are slow together, so a bet on each of them (`exceedance`) takes one busy moment for hundreds of witnesses. A window is
one witness, however many requests it has and however alike they are. In each there are two kinds of bets:

- On ranks. Every request of the one arm is compared with every one of the other by the thresholds that it is over: `standing` is how much
  more often the candidate's is the slower one (Mann and Whitney's statistic), in units of its standard deviation among like requests. If
  the candidate is no slower, a standing is as likely as its opposite, and the bet multiplies the capital by 2 / (1 + exp(-2 s z)) at a
  standing of z: by up to two for a clear one, by next to nothing for its opposite; s is how steep that is. It asks for no more than
  symmetry, so clumps of slow requests, which make standings large in either direction, do no harm. The skew that unequal numbers of
  requests leave lifts the mean factor above 1 by a few hundredths at most, and only where nearly all requests are over every threshold.
- On the tail: for each threshold that is usually exceeded by fewer than RARE_RATE, where ranks see next to nothing. Where fewer than
  RARE slow requests are to be expected of the candidate among those that the window has, the bet is on whether any of them is its own.
  The chance of that, pi, is known from the arms' numbers of requests where slow ones do not come in clumps. Where they do, and the
  arms' numbers differ much, this bet (and only this) is somewhat in the candidate's disfavour; the tests say by how much. Where more
  are to be expected, the arm with the larger share over the threshold wins at even odds (`compared`). To win at odds pi : 1 - pi
  with a bet on odds r times as high multiplies the capital by r / (1 - pi + pi r), to lose by 1 / (1 - pi + pi r).

The capital is spread over the bets (`prior`), and with each new step DEALT_ANEW of all of it is dealt out again (`dealt`), so that a fault
which shows under load finds bets that healthy windows have not ruined. The e-value is the sum. No share of traffic enters.

Where a busy period outlasts a window, neighbouring windows are alike too. `correlation` measures that on the standings, and the log of the
e-value is multiplied by (1 - r) / (1 + r), the share of the windows that are witnesses of their own if what they have in common fades from
window to window by a factor r (an AR(1) process). That is a correction by measurement and no theorem; `benchmarks/queueing.py` shows how
far it holds.

Sources: bets on symmetry, Ramdas, Ruf, Larsson and Koolen, "Admissible anytime-valid sequential inference must rely on nonnegative
martingales" (arXiv 2009.03167), after de la Peña (1999); dealing anew, Herbster and Warmuth (1998), "Tracking the best expert"; the
number of independent observations in a correlated series, Bartlett (1946), "On the theoretical specification and sampling properties of
autocorrelated time-series".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln

from relevo.statistics.counts import Floats

__all__ = [
    "DEALT_ANEW",
    "KEPT",
    "MOST_CAPITAL",
    "ODDS",
    "RANKS_SHARE",
    "RARE",
    "RARE_RATE",
    "STEEPNESS",
    "compared",
    "correlation",
    "correlations",
    "dealt",
    "prior",
    "rank_factor",
    "rank_factors",
    "standing",
    "standings",
    "tail_factor",
    "tail_factors",
    "witnesses",
]

STEEPNESS = (0.35, 1.2)
"""Of the bets on ranks: the best against a candidate whose standing is about as much. Of those tried, the two that find x1.05 and x1.25
soonest in windows of 20."""

ODDS = (4.0, 10.0, 32.0)
"""By how much the odds of winning a window by the tail are bet to be higher than they would be."""

RANKS_SHARE = 0.7
"""The share of the capital that is bet on ranks, where there is a tail to bet on."""

RARE_RATE = 0.03
"""The tail begins at thresholds that the stable revision usually exceeds less often than this."""

RARE = 0.7
"""Slow requests of the candidate to be expected in a window, below which the bet is on whether there is any."""

DEALT_ANEW = 0.05
"""The share of the capital that is dealt out again with each step. (Done after each window, a thirtieth as much would find faults that show
late as well within a step, but each busy period too would be taken for one: at 90 % busy it made 41 % of false alarms of 13 %.)"""

MOST_CAPITAL = 1e250
"""More than this a bet never has, so that it stays a number."""

KEPT = 32
"""So many of the last windows tell how alike neighbours are. With all, a fault that shows late would pass for one long busy period."""

_MOST = 0.97
_BETS = len(STEEPNESS)
_ARRAY_OF_STEEPNESS, _ARRAY_OF_ODDS = np.array(STEEPNESS), np.array(ODDS)


@lru_cache(maxsize=64)
def prior(tails: int) -> tuple[float, ...]:
    """The shares of the capital at the start: the bets on ranks, then the ODDS at each of so many thresholds of the tail."""
    ranks = RANKS_SHARE if tails else 1.0
    of_tails = (1 - ranks) / (tails * len(ODDS)) if tails else 0.0
    return (ranks / _BETS,) * _BETS + (of_tails,) * (tails * len(ODDS))


def dealt(capitals: Sequence[float], shares: Sequence[float]) -> tuple[float, ...]:
    """The capital of each bet, of which DEALT_ANEW has been put together and dealt out as at the start. The sum stays."""
    total = sum(capitals)
    pairs = zip(capitals, shares, strict=True)
    return tuple([(1 - DEALT_ANEW) * capital + DEALT_ANEW * share * total for capital, share in pairs])


def standing(stable: int, candidate: int, over_stable: Sequence[int], over_candidate: Sequence[int]) -> float:
    """How much slower the candidate's requests were than the stable arm's in a window: positive for slower, about 1 by chance.

    `stable`, `candidate`: answers of each arm, above 0; `over_stable`, `over_candidate`: those over each threshold, in rising order of
    thresholds, so that neither sequence rises.
    """
    won = 0
    higher_candidate, higher_stable = candidate, stable
    for next_candidate, next_stable in zip((*over_candidate, 0), (*over_stable, 0), strict=True):
        won += (higher_candidate - next_candidate) * (stable - higher_stable - next_stable)
        higher_candidate, higher_stable = next_candidate, next_stable
    return won * math.sqrt(3 / (stable * candidate * (stable + candidate)))


def standings(stable: Floats, candidate: Floats, over_stable: Floats, over_candidate: Floats) -> Floats:
    """`standing` of many windows. `stable`, `candidate`: (...), above 0; the others: (..., thresholds), not rising. Result: (...)."""
    edges = [np.concatenate((n[..., None], over, np.zeros_like(n)[..., None]), axis=-1) for n, over in
             ((stable, over_stable), (candidate, over_candidate))]  # fmt: skip
    of_stable, of_candidate = edges
    here = of_candidate[..., :-1] - of_candidate[..., 1:]
    won = (here * (stable[..., None] - of_stable[..., :-1] - of_stable[..., 1:])).sum(axis=-1)
    scaled: Floats = won * np.sqrt(3 / (stable * candidate * (stable + candidate)))
    return scaled


def rank_factor(z: float) -> tuple[float, ...]:
    """What a window with this standing multiplies the capital of each bet on ranks by."""
    return tuple([2 / (1 + math.exp(-2 * min(max(s * z, -300.0), 300.0))) for s in STEEPNESS])


def rank_factors(z: Floats) -> Floats:
    """`rank_factor` of many windows: (...) to (..., STEEPNESS)."""
    factors: Floats = 2 * expit(2 * np.clip(z[..., None] * _ARRAY_OF_STEEPNESS, -300.0, 300.0))
    return factors


def compared(stable: Floats, candidate: Floats, over_stable: Floats, over_candidate: Floats) -> NDArray[np.int64]:
    """1 where the candidate had the larger share over the threshold in a window, -1 where the stable arm had, 0 for a tie.

    The candidate only by more than half a request of the arm that has fewer: then it wins no more windows than it loses if it is no
    slower, although a small count's share is skewed and grainy; exactly where it has no more requests than the stable arm. `stable`,
    `candidate`: answers of each arm, above 0; `over_stable`, `over_candidate`: those over the threshold. They broadcast.
    """
    # Whole numbers, so that a tie is a tie.
    difference = over_candidate * stable - over_stable * candidate
    slower = 2 * difference * np.minimum(stable, candidate) > stable * candidate
    verdict: NDArray[np.int64] = slower.astype(np.int64) - (difference < 0)
    return verdict


def tail_factors(stable: Floats, candidate: Floats, over_stable: Floats, over_candidate: Floats) -> Floats:
    """What one window multiplies the capital of each bet on a threshold by. Arguments as in `compared`; result: (..., ODDS)."""
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
        lost = 1 / (1 - chance + chance * _ARRAY_OF_ODDS)
        factors[rare] = np.where(
            (n_own > 0)[:, None], lost * _ARRAY_OF_ODDS, np.where((n_over > 0)[:, None], lost, 1.0)
        )
    return factors


def tail_factor(stable: int, candidate: int, over_stable: int, over_candidate: int) -> tuple[float, ...]:
    """`tail_factors` of one window and threshold: a decision has a thousandth of a second, and arrays this small cost most of it."""
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
    return tuple([(odds if over_candidate else 1.0) / (1 - chance + chance * odds) for odds in ODDS])


_LOST = tuple(2 / (1 + odds) for odds in ODDS)
_WON = tuple(2 * odds / (1 + odds) for odds in ODDS)
_TIED = (1.0,) * len(ODDS)


def correlation(scores: Sequence[float], fresh: int) -> float:
    """How alike neighbouring windows are: the correlation of successive standings, from 0 to below 1.

    `scores`: oldest first; the last `fresh` of them are of the present step and are taken around their mean, the others around the mean of
    theirs (a candidate that turns slow with a step is not a busy period). Fewer than three say nothing (0). The estimate from n of them
    is too low by about (1 + 3 r) / n (Kendall 1954), which is added.
    """
    n = len(scores)
    if n < 3:
        return 0.0
    mean = math.fsum(scores[n - fresh :]) / fresh if fresh else 0.0
    around = [*scores[: n - fresh], *(s - mean for s in scores[n - fresh :])]
    spread = math.fsum([a * a for a in around])
    raw = math.fsum([a * b for a, b in pairwise(around)]) / spread if spread >= 1e-12 else 0.0
    return min(max(raw + (1 + 3 * max(raw, 0.0)) / n, 0.0), _MOST)


def correlations(scores: Floats, count: Floats, fresh: Floats) -> Floats:
    """`correlation` of many series at once. `scores`: (..., KEPT), of which the last `count` (...) are known, `fresh` of them new."""
    place = np.arange(scores.shape[-1], 0, -1)
    known, new = place <= count[..., None], place <= fresh[..., None]
    n = np.maximum(count, 1.0)
    mean = np.where(new, scores, 0.0).sum(axis=-1) / np.maximum(fresh, 1.0)
    around = np.where(known, scores - np.where(new, mean[..., None], 0.0), 0.0)
    spread = (around * around).sum(axis=-1)
    shared = (around[..., 1:] * around[..., :-1]).sum(axis=-1)
    raw = np.where(spread < 1e-12, 0.0, shared / np.maximum(spread, 1e-12))
    corrected = np.clip(raw + (1 + 3 * np.maximum(raw, 0.0)) / n, 0.0, _MOST)
    return np.where(count < 3, 0.0, corrected)


def witnesses(correlation_of_neighbours: float) -> float:
    """Which share of the windows are witnesses of their own, from 1 (none is like its neighbour) to almost 0."""
    return (1 - correlation_of_neighbours) / (1 + correlation_of_neighbours)
