"""From the e-values of many streams to one: averages, which keep the guarantee whatever the streams' dependence, and the weakest.

A stream that the rollout never has (no labels, so no accuracy) is nan: it is left out and the other weights are scaled up.
Which streams those are must not depend on the counts. A stream that has simply seen nothing yet is not nan but has the log
e-value 0, as the tests give it: leaving it out until its first event would let the average jump when it joins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.counts import Floats, as_fractions
from relevo.statistics.mixture import log_mean_exp

__all__ = ["log_limit", "weakest", "weighted_mean"]


def log_limit(alpha: ArrayLike) -> Floats:
    """The log e-value at which a hypothesis is rejected at level alpha (above 0 and below 1): log(1 / alpha)."""
    limit: Floats = -np.log(as_fractions("alpha", alpha))
    return limit


def weighted_mean(log_e: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The log of the weighted average of e-values over the last axis; nan ones are left out and the other weights scaled to 1.

    `log_e`: shape (..., streams). `weights`: shape (streams,), above 0, of any sum; equal where not given, as for several sources that
    count the same stream. Result: shape (...); nan where every stream is nan. Raises ValueError.
    """
    values = _streams(log_e)
    shares = np.ones(values.shape[-1]) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != values.shape[-1:] or not (shares.min() > 0 and shares.max() < np.inf):
        raise ValueError(f"weights: must be {values.shape[-1]} numbers above 0, one for each stream")
    present = ~np.isnan(values)
    measured = present.any(axis=-1)
    scale = np.where(measured, (present * shares).sum(axis=-1), 1.0)
    log_weights = np.where(present, np.log(shares), -np.inf) - np.log(scale)[..., None]
    log_weights[~measured] = 0.0  # the sum over nothing is replaced below
    averaged = log_mean_exp(np.where(present, values, 0.0), log_weights)
    return np.where(measured, averaged, np.nan)


def weakest(log_e: ArrayLike) -> Floats:
    """The smallest log e-value over the last axis: evidence that every one of the hypotheses is false (intersection-union).

    `log_e`: shape (..., streams). A nan stream makes the result nan: what was not measured cannot pass. Result: shape (...).
    """
    smallest: Floats = _streams(log_e).min(axis=-1)
    return smallest


def _streams(log_e: ArrayLike) -> Floats:
    values = np.asarray(log_e, dtype=np.float64)
    if not values.ndim or not values.shape[-1]:
        raise ValueError(f"log_e: must have the shape (..., streams), not {values.shape}")
    return values
