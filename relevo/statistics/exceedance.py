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

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.betting import NOT_WORSE, log_label_factors
from relevo.statistics.counts import Floats, as_counts, as_fractions, as_number, as_shares, flat_events
from relevo.statistics.mixture import LATE_SHARE, Bets, Prior, check_held_back, log_mean_exp

__all__ = ["SLOWER", "log_e_not_slower", "log_e_slower", "margin_at", "not_slower_bets", "slower_bets"]

SLOWER = Prior.of(np.geomspace(1.1, 8.0, 14), np.ones(14))
"""Odds ratios psi, above 1. The grid is chosen with `benchmarks/operating_table.py`."""


def log_e_slower(
    over: ArrayLike,
    total: ArrayLike,
    rho: ArrayLike,
    usual_rate: ArrayLike,
    *,
    prior: Prior = SLOWER,
    held_back: float = LATE_SHARE,
) -> Floats:
    """Evidence against the candidate: the log e-value against "at every threshold it exceeds at most as often as the stable arm".

    `over`: requests over each threshold, shape (..., thresholds, steps, 2). `total`: all requests, shape (..., steps, 2). `rho`: the
    candidate's share of the traffic per step, shape (steps,). `usual_rate`: the stable arm's rough rate of exceeding each threshold, shape
    (thresholds,), at least 0 and below 1, fixed before the counts (from the shadow stage or before). Result: shape (...), the average
    over the thresholds.

    If the hypothesis is true, the chance that the e-value ever reaches 1/alpha is at most alpha. Raises ValueError.
    """
    events, shares, rates = _checked(over, total, rho, usual_rate)
    per_threshold = slower_bets(shares, rates, prior, held_back).log_e(events)
    return log_mean_exp(per_threshold, np.full(len(rates), -np.log(len(rates))))


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
    events, shares, rates = _checked(over, total, rho, usual_rate)
    margins = np.asarray(margin, dtype=np.float64)
    if margins.shape not in ((), (len(rates),)) or not all(1 < m < np.inf for m in margins.flat):
        raise ValueError(f"margin: must be finite and above 1, one for all or for each of {len(rates)} thresholds")
    null = tuple(np.broadcast_to(margins, len(rates)).tolist())
    return not_slower_bets(shares, rates, null, prior, held_back).log_e(events)


def margin_at(margin: float, usual_rate: ArrayLike) -> Floats:
    """The margin of a risk ratio at each threshold that is the same odds ratio `margin` at all of them.

    A ratio of 2 is mild at p99 and impossible to reach at p50, where it would mean that every request is over: the odds are comparable.
    `margin`: above 1. `usual_rate`: shape (thresholds,). Result: shape (thresholds,), from 1 to `margin`.
    """
    odds = as_number("margin", margin, above=1.0)
    rate = as_fractions("usual_rate", usual_rate, zero_allowed=True)
    scaled: Floats = odds / (1 - rate + odds * rate)
    return scaled


@lru_cache(maxsize=256)
def slower_bets(rho: tuple[float, ...], usual_rate: tuple[float, ...], prior: Prior, held_back: float) -> Bets:
    """The bets of `log_e_slower`, one set per threshold, on events in the order (step, over or not, arm)."""
    rate = np.array(usual_rate)[:, None]
    denominator = 1 - rate + rate * prior.effects
    factors = np.concatenate(
        (
            log_label_factors(np.array(rho), 1.0, prior.effects / denominator),
            log_label_factors(np.array(rho), 1.0, 1 / denominator),
        ),
        axis=-2,
    )
    return Bets.starting_at_every_step(factors, prior.log_weights, check_held_back(held_back))


@lru_cache(maxsize=256)
def not_slower_bets(
    rho: tuple[float, ...], usual_rate: tuple[float, ...], margin: tuple[float, ...], prior: Prior, held_back: float
) -> Bets:
    """The bets of `log_e_not_slower`, one set per threshold, on events in the order (step, over or not, arm)."""
    rate, null = np.array(usual_rate)[:, None], np.array(margin)
    bets = null[:, None] ** (1 - prior.effects)
    faster = np.minimum(bets, 1.0)  # a bet on a slower candidate has nothing to win on "not over": its w there is 1
    factors = np.concatenate(
        (
            log_label_factors(np.array(rho), null, bets),
            log_label_factors(np.array(rho), 1.0, (1 - faster * rate) / (1 - rate)),
        ),
        axis=-2,
    )
    return Bets.starting_at_every_step(factors, prior.log_weights, check_held_back(held_back))


def _checked(
    over: ArrayLike, total: ArrayLike, rho: ArrayLike, usual_rate: ArrayLike
) -> tuple[Floats, tuple[float, ...], tuple[float, ...]]:
    """The events (..., thresholds, steps * 2 outcomes * 2 arms), the shares and the rates."""
    over_counts = as_counts("over", over)
    total_counts = as_counts("total", total)
    if over_counts.ndim < 3 or not over_counts.shape[-3]:
        raise ValueError(f"over: must have the shape (..., thresholds, steps, 2), not {over_counts.shape}")
    *batch, thresholds, steps, _ = over_counts.shape
    if (*batch, steps, 2) != total_counts.shape:
        raise ValueError(f"total: must have the shape of over without its thresholds, not {total_counts.shape}")
    outcomes = np.empty((*batch, thresholds, steps, 4))
    outcomes[..., :2] = over_counts
    np.subtract(total_counts[..., None, :, :], over_counts, out=outcomes[..., 2:])
    if outcomes.size and outcomes.min() < 0:
        raise ValueError("over: must be at most total")
    rate = as_fractions("usual_rate", usual_rate, zero_allowed=True)
    if rate.shape != (thresholds,):
        raise ValueError(f"usual_rate: must have one rate for each of {thresholds} thresholds, not {rate.shape}")
    return flat_events(outcomes), as_shares("rho", rho, steps), tuple(rate.tolist())
