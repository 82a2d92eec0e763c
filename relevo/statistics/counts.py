"""What every test of this package takes: counts per step and arm, and the candidate's share of the traffic per step.

The last axis of counts is the arm (0 the stable one, 1 the candidate), the one before it the step; any axes in front are a batch
(streams, simulated rollouts, looks) that is kept in the result. Wrong values raise `ValueError` with the argument's name.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CANDIDATE", "STABLE", "Floats", "as_counts", "as_fractions", "as_number", "as_shares", "flat_events"]

Floats = NDArray[np.float64]

STABLE, CANDIDATE = 0, 1
"""Positions on the last axis of counts."""


def as_counts(name: str, values: ArrayLike, *, arms: bool = True) -> Floats:
    """Counts as floats; with `arms`, of shape (..., steps, 2). They must be finite, whole or not, and at least 0."""
    counts = np.asarray(values, dtype=np.float64)
    if arms and (counts.ndim < 2 or counts.shape[-1] != 2):
        raise ValueError(f"{name}: must have the shape (..., steps, 2), not {counts.shape}")
    # One pass each for "too small" and "not finite" (the maximum of an array with a nan is nan, which fails the comparison).
    if counts.size and not (counts.min() >= 0 and counts.max() < np.inf):
        raise ValueError(f"{name}: must be finite and at least 0")
    return counts


def as_shares(name: str, values: ArrayLike, steps: int) -> tuple[float, ...]:
    """The candidate's share of the traffic per step, from 0 to 1, as a key for caches. One number stands for every step."""
    array = np.asarray(values, dtype=np.float64)
    shares = (float(array),) * steps if array.ndim == 0 else tuple(array.tolist())
    if array.ndim > 1 or len(shares) != steps:
        raise ValueError(f"{name}: must have one share for each of {steps} steps, not the shape {array.shape}")
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"{name}: must be from 0 to 1 (a share, not percent)")
    return shares


def as_number(name: str, value: float, *, above: float = 0.0) -> float:
    """A finite number above `above`."""
    if not above < value < np.inf:
        raise ValueError(f"{name}: must be finite and above {above:g}")
    return float(value)


def as_fractions(name: str, values: ArrayLike, *, zero_allowed: bool = False) -> Floats:
    """Probabilities of any shape: above 0 (or 0 too, with `zero_allowed`) and below 1."""
    fractions = np.asarray(values, dtype=np.float64)
    lowest_is_right = fractions.size == 0 or (fractions.min() >= 0 if zero_allowed else fractions.min() > 0)
    if not lowest_is_right or (fractions.size and not fractions.max() < 1):
        raise ValueError(f"{name}: must be {'at least' if zero_allowed else 'above'} 0 and below 1")
    return fractions


def flat_events(counts: Floats) -> Floats:
    """Counts (..., steps, 2) with the last two axes as one, in the order (step, arm)."""
    return counts.reshape(*counts.shape[:-2], -1)
