"""How many times as often: the estimate of the risk ratio and an interval that holds at every look.

The interval collects the ratios that two-sided label betting (see `betting`) does not reject at 1/alpha. The capital is spread over a grid
that does not depend on the ratio tested, so the e-value against a ratio is (average likelihood) / (likelihood of that ratio), and as the
likelihood has one peak on the log scale the collected ratios are one interval, whose ends are found by bisection.
It is valid while the ratio is the same in all steps; where it is not, it speaks of a ratio in between. Used in messages, not to decide.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.counts import CANDIDATE, Floats, as_counts, as_fractions, as_shares
from relevo.statistics.mixture import Prior, log_mean_exp

__all__ = ["RATIOS", "ratio_estimate", "ratio_interval"]

_LOG_BOUND = 30.0
"""Estimates and ends of intervals are sought between exp(-30) and exp(30)."""

_HALVINGS = 36

_LOG_RATIOS = np.linspace(-9.0, 9.0, 181)
RATIOS = Prior.of(_LOG_RATIOS, 1 / (1 + _LOG_RATIOS**2))
"""Logs of risk ratios, weighted by a Cauchy density: most likely near 1, and no ratio out of reach."""


def ratio_estimate(bad: ArrayLike, rho: ArrayLike) -> Floats:
    """The maximum-likelihood estimate of the risk ratio, candidate to stable, from the arms of the bad events.

    `bad`: shape (..., steps, 2). `rho`: shape (steps,). Result: shape (...); 0 with no bad event in the candidate, infinite with none in
    the stable arm, nan with none at all. Steps with rho 0 or 1 are left out. Raises ValueError.
    """
    events, shares = _informative(bad, rho)
    return np.exp(_log_estimate(events, shares))


def ratio_interval(
    bad: ArrayLike, rho: ArrayLike, alpha: float = 0.05, *, prior: Prior = RATIOS
) -> tuple[Floats, Floats]:
    """The ends of an anytime-valid interval of the risk ratio: it covers the true ratio at all looks at once with probability 1 - alpha.

    Arguments and errors as in `ratio_estimate`; `alpha` is above 0 and below 1. Result: (low, high), each of shape (...); low is 0 with no
    bad event in the candidate, high is infinite with none in the stable arm.
    """
    limit = -np.log(as_fractions("alpha", alpha))
    events, shares = _informative(bad, rho)
    best = _log_estimate(events, shares)
    average = log_mean_exp(_log_likelihood(events, shares, prior.effects), prior.log_weights)

    def rejected(log_ratio: Floats) -> Floats:
        return average - _log_likelihood(events, shares, log_ratio[..., None])[..., 0] - limit

    peak = np.clip(np.nan_to_num(best, nan=0.0), -_LOG_BOUND, _LOG_BOUND)
    floor, ceiling = np.full_like(peak, -_LOG_BOUND), np.full_like(peak, _LOG_BOUND)
    low = _bisect(rejected, inside=peak, outside=floor)
    high = _bisect(rejected, inside=peak, outside=ceiling)
    candidate, stable = events[..., CANDIDATE].sum(axis=-1), events[..., 1 - CANDIDATE].sum(axis=-1)
    return np.where(candidate > 0, np.exp(low), 0.0), np.where(stable > 0, np.exp(high), np.inf)


def _informative(bad: ArrayLike, rho: ArrayLike) -> tuple[Floats, Floats]:
    events = as_counts("bad", bad)
    shares = np.array(as_shares("rho", rho, events.shape[-2]))
    kept = (shares > 0) & (shares < 1)
    return events[..., kept, :], shares[kept]


def _log_likelihood(events: Floats, rho: Floats, log_ratio: Floats) -> Floats:
    """Up to a constant; `log_ratio`: (..., points). Result: (..., points)."""
    share = rho[:, None]
    normaliser = np.log(share * np.exp(log_ratio)[..., None, :] + 1 - share)
    candidate = events[..., CANDIDATE].sum(axis=-1)[..., None] * log_ratio
    likelihood: Floats = candidate - (events.sum(axis=-1)[..., None] * normaliser).sum(axis=-2)
    return likelihood


def _log_estimate(events: Floats, rho: Floats) -> Floats:
    """Where the slope of the log likelihood, which falls everywhere, is zero."""
    total = events.sum(axis=-1)
    candidate = events[..., CANDIDATE].sum(axis=-1)

    def expected_surplus(log_ratio: Floats) -> Floats:
        odds = rho * np.exp(log_ratio)[..., None]
        surplus: Floats = (total * odds / (odds + 1 - rho)).sum(axis=-1) - candidate
        return surplus

    bound = np.full(candidate.shape, _LOG_BOUND)
    estimate = _bisect(expected_surplus, inside=-bound, outside=bound)
    everything = total.sum(axis=-1)
    estimate = np.where(candidate == everything, np.inf, np.where(candidate == 0, -np.inf, estimate))
    return np.where(everything == 0, np.nan, estimate)


def _bisect(function: Callable[[Floats], Floats], inside: Floats, outside: Floats) -> Floats:
    """Between `inside`, where `function` is below 0, and `outside`, where it is above: the point of change, elementwise."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        below = function(middle) < 0
        inside, outside = np.where(below, middle, inside), np.where(below, outside, middle)
    return outside
