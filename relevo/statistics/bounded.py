"""One rate against a limit: an absolute error objective, or how often shadowed predictions may differ.

Bets on each request being bad at a rate p against the limit p0: `(p/p0)**bad * ((1-p)/(1-p0))**good`, averaged over p on one side of p0.
This judges the candidate alone, so it also works where `betting` cannot: with no bad event in either arm. It asks that requests
are alike in distribution over time, or at least that the rate stays on one side of the limit all the time.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (arXiv 2010.09686); the interval is the
beta-binomial mixture of Robbins (1970), "Statistical methods related to the law of the iterated logarithm".
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, xlog1py, xlogy

from relevo.statistics.counts import Floats, as_counts, as_fractions
from relevo.statistics.mixture import Bets, Prior, log_mean_exp

__all__ = ["ABOVE", "BELOW", "log_e_rate_above", "log_e_rate_below", "rate_bets", "rate_interval"]

ABOVE = Prior.of(np.geomspace(1.2, 60.0, 24), np.ones(24))
"""Odds ratios to the limit, above 1."""

BELOW = Prior.of(np.array([0.0, 0.1, 0.2, 0.35, 0.5, 0.65]), np.array([6.0, 1.0, 1.0, 2.0, 4.0, 2.0]))
"""Odds ratios to the limit, below 1: most of the capital is on a candidate that never fails, and most of the rest near half the limit,
where it takes longest. A candidate that fails half as often as it may is promoted 9 % sooner than with the rest spread evenly, others as
soon."""

_HALVINGS = 50

_NOTHING_LEFT = -1e9
"""The log of the factor by which a bet on a rate of 0 loses all. It is not -inf, which times no bad event would be nan."""


def log_e_rate_above(bad: ArrayLike, total: ArrayLike, limit: ArrayLike, *, prior: Prior = ABOVE) -> Floats:
    """Evidence against the candidate: the log e-value against "the rate of bad ones is at most `limit`".

    `bad`, `total`: counts of any equal shape (...). `limit`: above 0 and below 1, broadcasts against the batch. Result: shape (...).
    Raises ValueError.
    """
    return _log_e(bad, total, limit, prior)


def log_e_rate_below(bad: ArrayLike, total: ArrayLike, limit: ArrayLike, *, prior: Prior = BELOW) -> Floats:
    """Evidence for the candidate: the log e-value against "the rate of bad ones is at least `limit`". Arguments as in `log_e_rate_above`.

    With no bad one, it takes about log(2 / alpha) / limit requests to reach 1 / alpha.
    """
    return _log_e(bad, total, limit, prior)


def rate_interval(bad: ArrayLike, total: ArrayLike, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """The ends of an interval that covers the rate at all looks at once with probability 1 - alpha. For messages, not to decide.

    `bad`, `total`: counts of any equal shape (...). Result: (low, high), each of shape (...), from 0 to 1. Raises ValueError.
    """
    limit = -np.log(as_fractions("alpha", alpha))
    bad_counts, good = _checked(bad, total)
    average = betaln(bad_counts + 0.5, good + 0.5) - betaln(0.5, 0.5)
    peak = (bad_counts + 0.5) / (bad_counts + good + 1)

    def end(outside: Floats) -> Floats:
        inside = peak
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            kept = average - xlogy(bad_counts, middle) - xlog1py(good, -middle) < limit
            inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
        return outside

    low = np.where(bad_counts > 0, end(np.zeros_like(peak)), 0.0)
    return low, np.where(good > 0, end(np.ones_like(peak)), 1.0)


@lru_cache(maxsize=256)
def rate_bets(limits: tuple[float, ...], prior: Prior) -> Bets:
    """The bets of `log_e_rate_above` or, with its prior, `log_e_rate_below`: one set per limit, on events in the order (bad, all)."""
    p0, odds = np.array(limits)[:, None], prior.effects
    bad = np.log(odds, out=np.full_like(odds, _NOTHING_LEFT), where=odds > 0)
    every = -np.log(1 - p0 + p0 * odds)
    return Bets(np.stack((np.broadcast_to(bad, every.shape), every), axis=-2), prior.log_weights)


def _log_e(bad: ArrayLike, total: ArrayLike, limit: ArrayLike, prior: Prior) -> Floats:
    bad_counts, good = _checked(bad, total)
    p0 = as_fractions("limit", limit)[..., None]
    odds = prior.effects
    scale = 1 - p0 + p0 * odds  # p = odds * p0 / scale and 1 - p = (1 - p0) / scale
    log_bets = xlogy(bad_counts[..., None], odds) - (bad_counts + good)[..., None] * np.log(scale)
    return log_mean_exp(log_bets, prior.log_weights)


def _checked(bad: ArrayLike, total: ArrayLike) -> tuple[Floats, Floats]:
    bad_counts = as_counts("bad", bad, arms=False)
    total_counts = as_counts("total", total, arms=False)
    if bad_counts.shape != total_counts.shape:
        raise ValueError(f"total: must have the shape of bad, {bad_counts.shape}, not {total_counts.shape}")
    good = total_counts - bad_counts
    if good.size and good.min() < 0:
        raise ValueError("bad: must be at most total")
    return bad_counts, good
