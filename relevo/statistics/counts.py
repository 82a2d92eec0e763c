"""What every test of this package takes: counts per step and arm, and the candidate's share of the traffic per step.

The last axis of counts is the arm (0 the stable one, 1 the candidate), the one before it the step; any axes in front are a batch
(streams, simulated rollouts, looks) that is kept in the result. Wrong values raise `ValueError` with the argument's name.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CANDIDATE", "STABLE", "Floats", "as_counts", "as_fractions", "as_positive", "as_shares", "swap_arms"]

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


def as_shares(name: str, values: ArrayLike, steps: int) -> Floats:
    """The candidate's share of the traffic per step: shape (steps,), from 0 to 1. One number stands for every step."""
    shares = np.asarray(values, dtype=np.float64)
    if shares.ndim == 0:
        shares = np.full(steps, shares)
    if shares.shape != (steps,):
        raise ValueError(f"{name}: must have one share for each of {steps} steps, not the shape {shares.shape}")
    if shares.size and not (shares.min() >= 0 and shares.max() <= 1):
        raise ValueError(f"{name}: must be from 0 to 1 (a share, not percent)")
    return shares


def as_fractions(name: str, values: ArrayLike, *, zero_allowed: bool = False) -> Floats:
    """Probabilities of any shape: above 0 (or 0 too, with `zero_allowed`) and below 1."""
    fractions = np.asarray(values, dtype=np.float64)
    lowest_is_right = fractions.size == 0 or (fractions.min() >= 0 if zero_allowed else fractions.min() > 0)
    if not lowest_is_right or (fractions.size and not fractions.max() < 1):
        raise ValueError(f"{name}: must be {'at least' if zero_allowed else 'above'} 0 and below 1")
    return fractions


def as_positive(name: str, values: ArrayLike, *, above: float = 0.0, least: float | None = None) -> Floats:
    """Finite numbers of any shape, above `above`, or at least `least` where that is given."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size:
        lowest, highest = numbers.min(), numbers.max()
        if not ((lowest > above if least is None else lowest >= least) and highest < np.inf):
            bound = f"above {above:g}" if least is None else f"at least {least:g}"
            raise ValueError(f"{name}: must be finite and {bound}")
    return numbers


def swap_arms(counts: Floats) -> Floats:
    """The same counts with the arms' roles exchanged (a view)."""
    return counts[..., ::-1]
