"""Does the traffic arrive in the shares that were set? If not, something else than chance chose the arms, and no comparison is fair.

The test is an e-process too: the likelihood of the observed split under shares drawn from a beta distribution around rho, divided by its
likelihood under rho itself, per step, multiplied over the steps. Several concentrations of the beta are averaged in each
step, so that small and gross mismatches are both found.

Source: Lindon and Malek, "Anytime-valid inference for multinomial count data" (arXiv 2011.03567).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, xlog1py, xlogy

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
    shares = np.array(as_shares("rho", rho, counts.shape[-2]))
    if not concentrations:
        raise ValueError("concentrations: must not be empty")
    strength = np.array([as_number("concentrations", number) for number in concentrations])
    kept = (shares > 0) & (shares < 1)
    share = shares[kept]
    stable, candidate = counts[..., kept, STABLE], counts[..., kept, CANDIDATE]
    alpha, beta = share[:, None] * strength, (1 - share)[:, None] * strength
    drawn = betaln(candidate[..., None] + alpha, stable[..., None] + beta) - betaln(alpha, beta)
    per_step = log_mean_exp(drawn, np.full(strength.size, -np.log(strength.size)))
    total: Floats = (per_step - xlogy(candidate, share) - xlog1py(stable, -share)).sum(axis=-1)
    return total
