"""Does the traffic arrive in the shares that were set? If not, something else than chance chose the arms, and no comparison is fair.

The test is an e-process too: the likelihood of the observed split under shares drawn from a beta distribution around rho, divided by its
likelihood under rho itself, per step, multiplied over the steps. Several concentrations of the beta are averaged in each
step, so that small and gross mismatches are both found.

Source: Lindon and Malek, "Anytime-valid inference for multinomial count data" (arXiv 2011.03567).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

from relevo.statistics.counts import CANDIDATE, STABLE, Floats, as_counts, as_number, as_shares
from relevo.statistics.mixture import log_mean_exp

__all__ = ["CONCENTRATIONS", "log_e_split_differs"]

CONCENTRATIONS = (20.0, 200.0, 2000.0)
"""A beta with concentration c around rho spreads by about sqrt(rho * (1 - rho) / c)."""


def log_e_split_differs(
    requests: ArrayLike, rho: ArrayLike, *, concentrations: tuple[float, ...] = CONCENTRATIONS
) -> Floats:
    """The log e-value against "each request went to the candidate with chance rho, independently".

    `requests`: all requests, shape (..., steps, 2), counted at the unit that was randomised. `rho`: shape (steps,); steps with 0 or 1 carry
    no evidence. Result: shape (...). Raises ValueError.
    """
    counts = as_counts("requests", requests)
    bets = _bets(as_shares("rho", rho, counts.shape[-2]), concentrations)
    stable, candidate = counts[..., bets.kept, STABLE], counts[..., bets.kept, CANDIDATE]
    drawn = betaln(candidate[..., None] + bets.alpha, stable[..., None] + bets.beta)
    per_step = log_mean_exp(drawn, bets.log_weights)
    total: Floats = (per_step - candidate * bets.log_candidate - stable * bets.log_stable).sum(axis=-1)
    return total


class _Bets(NamedTuple):
    """What does not depend on the counts. `kept`: the steps with a share strictly between 0 and 1; the rest is of those steps alone."""

    kept: NDArray[np.intp]
    alpha: Floats
    beta: Floats
    log_weights: Floats
    log_candidate: Floats
    """The log of the candidate's share."""
    log_stable: Floats


@lru_cache(maxsize=256)
def _bets(rho: tuple[float, ...], concentrations: tuple[float, ...]) -> _Bets:
    if not concentrations:
        raise ValueError("concentrations: must not be empty")
    shares, strength = np.array(rho), np.array([as_number("concentrations", number) for number in concentrations])
    kept = np.flatnonzero((shares > 0) & (shares < 1))
    share = shares[kept]
    alpha, beta = share[:, None] * strength, (1 - share)[:, None] * strength
    log_weights = -betaln(alpha, beta) - np.log(strength.size)
    return _Bets(kept, alpha, beta, log_weights, np.log(share), np.log1p(-share))
