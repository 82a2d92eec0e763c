"""Predictions: has the mix of predicted classes (or score bins) shifted between the arms?

Each class is a stream of events for `betting`, in two directions: its share went up, or it went down (the same bet with the arms swapped).
Only one number needs no label: the mix. A better model may well shift it a little, so the hypotheses have a tolerance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.betting import NOT_WORSE, WORSE, label_factors
from relevo.statistics.counts import Floats, as_counts, as_positive, as_shares, swap_arms
from relevo.statistics.mixture import Prior, log_mean_exp, mix

__all__ = ["log_e_mix_kept", "log_e_mix_shifted"]


def log_e_mix_shifted(
    predicted: ArrayLike, rho: ArrayLike, tolerance: float = 0.1, *, prior: Prior = WORSE, held_back: float = 0.0
) -> Floats:
    """Evidence against the candidate: the log e-value against "no class's share differs by more than a factor 1 + tolerance".

    `predicted`: answers per class, shape (..., classes, steps, 2). `rho`: the candidate's share of the traffic per step, shape (steps,).
    `tolerance`: at least 0. Result: shape (...), the average over classes and both directions. Raises ValueError.
    """
    null = 1 + as_positive("tolerance", tolerance, least=0.0)
    ups_and_downs = _both_directions(predicted, rho, null, bets=null * prior.effects, prior=prior, held_back=held_back)
    streams = ups_and_downs.shape[-1] * ups_and_downs.shape[-2]
    return log_mean_exp(ups_and_downs, np.array(-np.log(streams)), axes=2)


def log_e_mix_kept(
    predicted: ArrayLike, rho: ArrayLike, margin: float, *, prior: Prior = NOT_WORSE, held_back: float = 0.0
) -> Floats:
    """Evidence for the candidate, per class: the log e-value against "its share differs by a factor `margin` or more".

    Arguments as in `log_e_mix_shifted`; `margin`: above 1. Result: shape (..., classes), the smaller of the two directions. The gate is the
    smallest over the classes that are gated (`combine.weakest`); a class that is hardly ever predicted cannot pass and should not be one.
    """
    null = as_positive("margin", margin, above=1.0)
    ups_and_downs = _both_directions(
        predicted, rho, null, bets=null ** (1 - prior.effects), prior=prior, held_back=held_back
    )
    smaller: Floats = ups_and_downs.min(axis=-2)
    return smaller


def _both_directions(
    predicted: ArrayLike, rho: ArrayLike, null: Floats, *, bets: Floats, prior: Prior, held_back: float
) -> Floats:
    """Result: (..., 2, classes), up and down."""
    counts = as_counts("predicted", predicted)
    if counts.ndim < 3 or not counts.shape[-3]:
        raise ValueError(f"predicted: must have the shape (..., classes, steps, 2), not {counts.shape}")
    shares = as_shares("rho", rho, counts.shape[-2])
    up = mix(label_factors(counts, shares, null, bets), prior.log_weights, held_back)
    down = mix(label_factors(swap_arms(counts), 1 - shares, null, bets), prior.log_weights, held_back)
    return np.stack((up, down), axis=-2)
