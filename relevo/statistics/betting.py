"""Label betting: is the candidate worse, or at worst slightly worse, given from which arm each bad event came?

Whatever the base rate of bad events does over time, and however many requests there are, a bad event comes from the candidate with odds
rho * ratio : (1 - rho), where rho is the candidate's share of the traffic when the request was routed and `ratio` the risk ratio. Betting
on the arm of each bad event therefore needs only the counts of bad events per step and arm, and stays exact across steps. Requests that
went well are not needed. `exceedance` has the sharper bet for latency, `confidence` inverts this one into an interval.

Shadow traffic, where each row goes to both arms, is a step with rho = 0.5: however the two answers to a row depend on each other, a pair's
expected factor is at most 1 (pairs with one bad answer are the fair bet of McNemar's test, pairs with two only lose).

Sources: Lindon and Malek, "Anytime-valid inference for multinomial count data" (arXiv 2011.03567); Ramdas, Grünwald, Vovk and Shafer,
"Game-theoretic statistics and safe anytime-valid inference" (arXiv 2210.01948).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.counts import CANDIDATE, Floats, as_counts, as_positive, as_shares
from relevo.statistics.mixture import Prior, mix

__all__ = ["NOT_WORSE", "WORSE", "label_factors", "log_e_not_worse", "log_e_worse"]

WORSE = Prior.of(np.geomspace(1.25, 40.0, 32), np.ones(32))
"""Effects r / ratio, above 1."""

NOT_WORSE = Prior.of(np.array([0.5, 0.75, 1.0, 1.5, 2.0, 4.0]), np.array([1.0, 1.0, 6.0, 1.0, 1.0, 1.0]))
"""Effects u of r = margin ** (1 - u): 1 is a candidate exactly as good as the stable one, below 1 a worse and above 1 a better one."""


def log_e_worse(
    bad: ArrayLike, rho: ArrayLike, ratio: ArrayLike = 1.0, *, prior: Prior = WORSE, held_back: float = 0.0
) -> Floats:
    """Evidence against the candidate: the log e-value against "its risk is at most `ratio` times the stable arm's".

    `bad`: counts of bad events, shape (..., steps, 2). `rho`: the candidate's share of the traffic per step, shape (steps,), from 0 to 1;
    steps with 0 or 1 carry no evidence. `ratio`: above 0, broadcasts against the batch. `held_back`: see `mixture.mix`.
    Result: shape (...).

    If the hypothesis is true, the chance that the e-value ever reaches 1/alpha is at most alpha, however often one looks.
    Raises ValueError.
    """
    counts = as_counts("bad", bad)
    shares = as_shares("rho", rho, counts.shape[-2])
    null = as_positive("ratio", ratio)
    return mix(label_factors(counts, shares, null, null[..., None] * prior.effects), prior.log_weights, held_back)


def log_e_not_worse(
    bad: ArrayLike, rho: ArrayLike, margin: ArrayLike, *, prior: Prior = NOT_WORSE, held_back: float = 0.0
) -> Floats:
    """Evidence for the candidate: the log e-value against "its risk is at least `margin` times the stable arm's".

    Arguments and result as in `log_e_worse`; `margin` must be above 1. With no bad event at all it stays 0 (an e-value of 1): a ratio of
    two rates cannot be judged without events. `bounded.log_e_rate_below` judges the candidate's rate on its own.
    """
    counts = as_counts("bad", bad)
    shares = as_shares("rho", rho, counts.shape[-2])
    null = as_positive("margin", margin, above=1.0)
    return mix(
        label_factors(counts, shares, null, null[..., None] ** (1 - prior.effects)), prior.log_weights, held_back
    )


def label_factors(bad: Floats, rho: Floats, null: Floats, bets: Floats) -> Floats:
    """The logs of the betting factors: of risk ratio `bets` against `null`, per step and bet.

    `bad`: (..., steps, 2); `rho`: (steps,); `null`: broadcasts against the batch; `bets`: the shape of null and an axis of bets.
    Result: (..., steps, bets).
    """
    share = rho[:, None]
    null = null[..., None, None]
    bets = bets[..., None, :]
    # Where rho is 0 or 1 the arm of an event says nothing: there both the logs below would cancel only up to rounding.
    informative = (share > 0) & (share < 1)
    either = np.where(informative, np.log(share * null + 1 - share) - np.log(share * bets + 1 - share), 0.0)
    candidate = np.where(informative, np.log(bets / null), 0.0)
    factors: Floats = bad.sum(axis=-1)[..., None] * either + bad[..., CANDIDATE, None] * candidate
    return factors
