"""Label betting: is the candidate worse, or at worst slightly worse, given from which arm each bad event came?

Whatever the base rate of bad events does over time, and however many requests there are, a bad event comes from the candidate with odds
rho * ratio : (1 - rho), where rho is the candidate's share of the traffic when the request was routed and `ratio` the risk ratio. Betting
on the arm of each bad event therefore needs only the counts of bad events per step and arm, and stays exact across steps. Requests that
went well are not needed. `exceedance` has the sharper bet for latency, `confidence` inverts this one into an interval.

Shadow traffic, where each row goes to both arms, is a step with rho = 0.5: however the two answers to a row depend on each other, a
pair's expected factor is at most 1 (pairs with one bad answer are the fair bet of McNemar's test, pairs with two only lose).

Sources: Lindon and Malek, "Anytime-valid inference for multinomial count data" (arXiv 2011.03567); Ramdas, Grünwald, Vovk and Shafer,
"Game-theoretic statistics and safe anytime-valid inference" (arXiv 2210.01948).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.counts import Floats, as_counts, as_number, as_shares, flat_events
from relevo.statistics.mixture import Bets, Prior, check_held_back

__all__ = [
    "NOT_WORSE",
    "WORSE",
    "WORSE_BY_LITTLE",
    "log_e_not_worse",
    "log_e_worse",
    "log_label_factors",
    "not_worse_bets",
    "worse_bets",
]

WORSE = Prior.of(
    np.array([1.8, 2.2, 2.8, 3.6, 5.0, 10.0, 22.0]), np.array([0.02, 0.095, 0.365, 0.03, 0.185, 0.125, 0.18])
)
"""Effects r / ratio, above 1: the weights that expose the fewest requests to candidates which fail 1.5 to 10 times as often, among those
that expose to none of them more than the design's reference does, and with no more false alarms (`benchmarks/priors_chosen.py`)."""

WORSE_BY_LITTLE = Prior.of(np.array([1.2, 1.4, 1.7, 2.2, 3.5, 8.0]), np.array([2.0, 3.0, 3.0, 2.0, 1.0, 1.0]))
"""The same where events are common (wrong answers, predicted classes): there is evidence of small effects, and none are large."""

NOT_WORSE = Prior.of(np.array([0.9, 1.1, 2.0, 4.0]), np.array([0.15, 0.8, 0.04, 0.01]))
"""Effects u of r = margin ** (1 - u): 1 is a candidate exactly as good as the stable one, below 1 a worse and above 1 a better one.
The weights promote a candidate that is as good soonest (`benchmarks/priors_chosen.py`)."""


def log_e_worse(
    bad: ArrayLike, rho: ArrayLike, ratio: float = 1.0, *, prior: Prior = WORSE, held_back: float = 0.0
) -> Floats:
    """Evidence against the candidate: the log e-value against "its risk is at most `ratio` times the stable arm's".

    `bad`: counts of bad events, shape (..., steps, 2). `rho`: the candidate's share of the traffic per step, shape (steps,), from 0 to 1;
    steps with 0 or 1 carry no evidence. `ratio`: above 0. `held_back`: the share of the bet that starts at a later step than the first,
    see `mixture`. Result: shape (...).

    If the hypothesis is true, the chance that the e-value ever reaches 1/alpha is at most alpha, however often one looks.
    Raises ValueError.
    """
    counts = as_counts("bad", bad)
    null = as_number("ratio", ratio)
    return worse_bets(as_shares("rho", rho, counts.shape[-2]), null, prior, held_back).log_e(flat_events(counts))


def log_e_not_worse(
    bad: ArrayLike, rho: ArrayLike, margin: float, *, prior: Prior = NOT_WORSE, held_back: float = 0.0
) -> Floats:
    """Evidence for the candidate: the log e-value against "its risk is at least `margin` times the stable arm's".

    Arguments and result as in `log_e_worse`; `margin` must be above 1. With no bad event at all it stays 0 (an e-value of 1): a ratio of
    two rates cannot be judged without events. `bounded.log_e_rate_below` judges the candidate's rate on its own.
    """
    counts = as_counts("bad", bad)
    null = as_number("margin", margin, above=1.0)
    return not_worse_bets(as_shares("rho", rho, counts.shape[-2]), null, prior, held_back).log_e(flat_events(counts))


@lru_cache(maxsize=256)
def worse_bets(rho: tuple[float, ...], ratio: float, prior: Prior, held_back: float) -> Bets:
    """The bets of `log_e_worse`, on events in the order (step, arm)."""
    factors = log_label_factors(np.array(rho), ratio, ratio * prior.effects)
    return Bets.starting_at_every_step(factors, prior.log_weights, check_held_back(held_back))


@lru_cache(maxsize=256)
def not_worse_bets(rho: tuple[float, ...], margin: float, prior: Prior, held_back: float) -> Bets:
    """The bets of `log_e_not_worse`, on events in the order (step, arm)."""
    factors = log_label_factors(np.array(rho), margin, margin ** (1 - prior.effects))
    return Bets.starting_at_every_step(factors, prior.log_weights, check_held_back(held_back))


def log_label_factors(rho: Floats, null: Floats | float, bets: Floats) -> Floats:
    """The log of what one event multiplies the capital by, when the bet is on risk ratio `bets` against `null`.

    `rho`: (steps,); `bets`: (..., bets); `null`: a number or (...). Result: (..., steps, 2 arms, bets), 0 in steps with rho 0 or 1.
    """
    share = rho[:, None]
    hypothesis = np.asarray(null, dtype=np.float64)[..., None, None]
    bet = bets[..., None, :]
    either = np.log(share * hypothesis + 1 - share) - np.log(share * bet + 1 - share)
    factors = np.stack((either, either + np.log(bet / hypothesis)), axis=-2)
    return np.where(((share > 0) & (share < 1))[..., None], factors, 0.0)
