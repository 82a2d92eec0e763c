"""Predictions: has the mix of predicted classes (or score bins) shifted between the arms?

Each class is a stream of events for `betting`, in two directions: its share went up, or it went down (the same bet with the arms swapped).
Only one number needs no label: the mix. A better model may well shift it a little, so the hypotheses have a tolerance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from relevo.statistics.betting import NOT_WORSE, WORSE_BY_LITTLE, not_worse_bets, worse_bets
from relevo.statistics.counts import Floats, as_counts, as_number, as_shares, flat_events
from relevo.statistics.mixture import LATE_SHARE, Prior, log_mean_exp

__all__ = ["log_e_mix_kept", "log_e_mix_shifted"]


def log_e_mix_shifted(
    predicted: ArrayLike,
    rho: ArrayLike,
    tolerance: float = 0.1,
    *,
    prior: Prior = WORSE_BY_LITTLE,
    held_back: float = LATE_SHARE,
) -> Floats:
    """Evidence against the candidate: the log e-value against "no class's share differs by more than a factor 1 + tolerance".

    `predicted`: answers per class, shape (..., classes, steps, 2). `rho`: the candidate's share of the traffic per step, shape (steps,).
    `tolerance`: at least 0. Result: shape (...), the average over classes and both directions. Raises ValueError.
    """
    if not 0 <= tolerance < np.inf:
        raise ValueError("tolerance: must be finite and at least 0")
    counts, up, down = _checked(predicted, rho)
    rise = worse_bets(up, 1.0 + tolerance, prior, held_back).log_e(counts)
    fall = worse_bets(down, 1.0 + tolerance, prior, held_back).log_e(_swapped(counts))
    both = np.concatenate((rise, fall), axis=-1)
    return log_mean_exp(both, np.full(both.shape[-1], -np.log(both.shape[-1])))


def log_e_mix_kept(
    predicted: ArrayLike, rho: ArrayLike, margin: float, *, prior: Prior = NOT_WORSE, held_back: float = 0.0
) -> Floats:
    """Evidence for the candidate, per class: the log e-value against "its share differs by a factor `margin` or more".

    Arguments as in `log_e_mix_shifted`; `margin`: above 1. Result: shape (..., classes), the smaller of the two directions. The gate is the
    smallest over the classes that are gated (`combine.weakest`); a class that is hardly ever predicted cannot pass and should not be one.
    """
    null = as_number("margin", margin, above=1.0)
    counts, up, down = _checked(predicted, rho)
    rise = not_worse_bets(up, null, prior, held_back).log_e(counts)
    fall = not_worse_bets(down, null, prior, held_back).log_e(_swapped(counts))
    return np.minimum(rise, fall)


def _checked(predicted: ArrayLike, rho: ArrayLike) -> tuple[Floats, tuple[float, ...], tuple[float, ...]]:
    """The events (..., classes, steps * 2 arms), and the shares of the candidate and of the stable arm."""
    counts = as_counts("predicted", predicted)
    if counts.ndim < 3 or not counts.shape[-3]:
        raise ValueError(f"predicted: must have the shape (..., classes, steps, 2), not {counts.shape}")
    shares = as_shares("rho", rho, counts.shape[-2])
    return flat_events(counts), shares, tuple(1 - share for share in shares)


def _swapped(events: Floats) -> Floats:
    """The same events with the arms' roles exchanged."""
    return flat_events(events.reshape(*events.shape[:-1], -1, 2)[..., ::-1])
