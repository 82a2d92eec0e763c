"""Latency: is the candidate slower, given the counts of requests that took longer than a few fixed thresholds?

Each request has an outcome, over the threshold or not, and the bet is on the arm given the outcome: `w**A / (rho*w + 1 - rho)` with
w = P(outcome | the bet's candidate) / P(outcome | stable). A bet names an odds ratio psi of exceeding; with q the stable arm's rough rate,
w = psi / (1 - q + psi*q) for "over" and 1 / (1 - q + psi*q) for "not over". Given the outcome, the expected factor is at most 1 when the
candidate is no slower, whatever the true rates: a wrong threshold or a wrong q costs power and never validity. For common outcomes (the
median) this is far sharper than `betting`, which ignores the requests that were not over.

Shadow traffic (each row to both arms, rho = 0.5) keeps the guarantee when the two latencies of a row are not negatively correlated.

A practical tolerance is the caller's: count the candidate's requests over `threshold * (1 + tolerance)`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.betting import NOT_WORSE
from relevo.statistics.counts import CANDIDATE, Floats, as_counts, as_fractions, as_positive, as_shares
from relevo.statistics.mixture import Prior, log_mean_exp, mix

__all__ = ["SLOWER", "log_e_not_slower", "log_e_slower", "margin_at"]

SLOWER = Prior.of(np.geomspace(1.1, 40.0, 32), np.ones(32))
"""Odds ratios psi, above 1."""


def log_e_slower(
    over: ArrayLike,
    total: ArrayLike,
    rho: ArrayLike,
    usual_rate: ArrayLike,
    *,
    prior: Prior = SLOWER,
    held_back: float = 0.0,
) -> Floats:
    """Evidence against the candidate: the log e-value against "at every threshold it exceeds at most as often as the stable arm".

    `over`: requests over each threshold, shape (..., thresholds, steps, 2). `total`: all requests, shape (..., steps, 2). `rho`: the
    candidate's share of the traffic per step, shape (steps,). `usual_rate`: the stable arm's rough rate of exceeding each threshold, shape
    (thresholds,), at least 0 and below 1, fixed before the counts (from the shadow stage or before). Result: shape (...), the average
    over the thresholds.

    If the hypothesis is true, the chance that the e-value ever reaches 1/alpha is at most alpha. Raises ValueError.
    """
    over_counts, under, shares, rate = _checked(over, total, rho, usual_rate)
    denominator = 1 - rate[:, None] + rate[:, None] * prior.effects
    factors = _outcome(over_counts, shares, np.log(prior.effects) - np.log(denominator))
    factors += _outcome(under, shares, -np.log(denominator))
    per_threshold = mix(factors, prior.log_weights, held_back)
    return log_mean_exp(per_threshold, np.full(rate.size, -np.log(rate.size)))


def log_e_not_slower(
    over: ArrayLike,
    total: ArrayLike,
    rho: ArrayLike,
    usual_rate: ArrayLike,
    margin: ArrayLike,
    *,
    prior: Prior = NOT_WORSE,
    held_back: float = 0.0,
) -> Floats:
    """Evidence for the candidate, per threshold: the log e-value against "it exceeds at least `margin` times as often as the stable arm".

    Arguments as in `log_e_slower`; `margin`: above 1, one number or shape (thresholds,), see `margin_at`. Result: (..., thresholds).

    A candidate may be promoted when it is shown not slower at every gated threshold, so the gate is the smallest of these
    (`combine.weakest`): an intersection-union test, whose alpha is not split. Their average would only show that some threshold is fine.
    Gate the thresholds up to p95; at p99 so few requests are over that the wait would be several times as long.

    The bet is label betting on the requests over the threshold. Bets on a candidate faster than the stable arm also win on the requests
    that were not over, which under the hypothesis come from the candidate with a chance of at most rho.
    """
    over_counts, under, shares, rate = _checked(over, total, rho, usual_rate)
    null = np.broadcast_to(as_positive("margin", margin, above=1.0), rate.shape)
    bets = null[:, None] ** (1 - prior.effects)
    faster = np.minimum(bets, 1.0)
    factors = _outcome(over_counts, shares, np.log(bets / null[:, None]), null[:, None])
    factors += _outcome(under, shares, np.log((1 - faster * rate[:, None]) / (1 - rate[:, None])))
    return mix(factors, prior.log_weights, held_back)


def margin_at(margin: ArrayLike, usual_rate: ArrayLike) -> Floats:
    """The margin of a risk ratio at each threshold that is the same odds ratio `margin` at all of them.

    A ratio of 2 is mild at p99 and impossible to reach at p50, where it would mean that every request is over: the odds are comparable.
    `margin`: above 1. `usual_rate`: shape (thresholds,). Result: shape (thresholds,), from 1 to `margin`.
    """
    odds = as_positive("margin", margin, above=1.0)
    rate = as_fractions("usual_rate", usual_rate, zero_allowed=True)
    scaled: Floats = odds / (1 - rate + odds * rate)
    return scaled


def _checked(
    over: ArrayLike, total: ArrayLike, rho: ArrayLike, usual_rate: ArrayLike
) -> tuple[Floats, Floats, Floats, Floats]:
    over_counts = as_counts("over", over)
    total_counts = as_counts("total", total)
    if over_counts.ndim < 3:
        raise ValueError(f"over: must have the shape (..., thresholds, steps, 2), not {over_counts.shape}")
    if over_counts.shape[:-3] + over_counts.shape[-2:] != total_counts.shape:
        raise ValueError(f"total: must have the shape of over without its thresholds, not {total_counts.shape}")
    under = total_counts[..., None, :, :] - over_counts
    if under.size and under.min() < 0:
        raise ValueError("over: must be at most total")
    rate = as_fractions("usual_rate", usual_rate, zero_allowed=True)
    if rate.shape != over_counts.shape[-3:-2]:
        raise ValueError(f"usual_rate: must have one rate for each of {over_counts.shape[-3]} thresholds")
    return over_counts, under, as_shares("rho", rho, over_counts.shape[-2]), rate


def _outcome(counts: Floats, rho: Floats, log_w: Floats, null: Floats | float = 1.0) -> Floats:
    """The logs of the betting factors for one outcome. `log_w`: (thresholds, bets). Result: (..., thresholds, steps, bets)."""
    share = rho[:, None]
    informative = (share > 0) & (share < 1)
    w = np.exp(log_w)[:, None, :]
    scale = np.asarray(null, dtype=np.float64)
    scale = scale[:, None] if scale.ndim else scale
    either = np.where(informative, np.log(share * scale + 1 - share) - np.log(share * scale * w + 1 - share), 0.0)
    candidate = np.where(informative, log_w[:, None, :], 0.0)
    factors: Floats = counts.sum(axis=-1)[..., None] * either + counts[..., CANDIDATE, None] * candidate
    return factors
