"""Averages of bets: which effects are bet on and with what weight, and from which step a bet starts.

Nobody knows how much worse a bad candidate is, so the capital is spread over a grid of effects; and nobody knows at which step its
fault shows (many show only under load), so part of the capital waits for the later steps. An average of e-processes with weights fixed
beforehand is an e-process: the choice costs power where it is wrong and never validity. Used by `betting`, `exceedance` and `bounded`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relevo.statistics.counts import Floats

__all__ = ["Prior", "log_mean_exp", "mix", "start_weights"]


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """A grid of effects and the logs of their weights, which sum to 1. Both have the shape (effects,)."""

    effects: Floats
    log_weights: Floats

    @classmethod
    def of(cls, effects: Floats, weights: Floats) -> Prior:
        """A prior from weights that need not sum to 1."""
        if effects.ndim != 1 or effects.shape != weights.shape or not effects.size:
            raise ValueError("effects, weights: must be equally long, one-dimensional and not empty")
        if not (np.isfinite(effects).all() and np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError("effects, weights: must be finite, and weights above 0")
        return cls(effects, np.log(weights / weights.sum()))


def log_mean_exp(log_values: Floats, log_weights: Floats, axes: int = 1) -> Floats:
    """log(sum(weights * exp(log_values))) over the last `axes` axes, without overflow; -inf values are allowed.

    `log_weights` broadcasts against `log_values`. (SciPy's `logsumexp` does the same at 20 times the overhead, which a tick of the
    engine would feel.)
    """
    terms = log_values + log_weights
    terms = terms.reshape(*terms.shape[: terms.ndim - axes], -1)
    highest = np.maximum(terms.max(axis=-1, keepdims=True), -1e300)  # keeps -inf minus -inf out
    with np.errstate(divide="ignore"):
        total: Floats = highest[..., 0] + np.log(np.exp(terms - highest).sum(axis=-1))
    return total


def start_weights(steps: int, held_back: float) -> tuple[Floats, float]:
    """How the capital is shared among bets that start at step 0, 1, 2, ...; and how much has not started after `steps` steps.

    The bet from the first step has 1 - held_back; the rest is shared out as 1/(k(k+1)), k = 1, 2, ..., which sums to 1 over endlessly
    many steps. So the weights do not depend on how many steps there are, and a step without traffic changes nothing.
    """
    k = np.arange(1, steps, dtype=np.float64)
    later = held_back / (k * (k + 1))
    return np.concatenate(([1 - held_back], later)), held_back / max(steps, 1)


def mix(log_factors: Floats, log_weights: Floats, held_back: float = 0.0) -> Floats:
    """The log e-value of the averaged bets.

    `log_factors`: shape (..., steps, effects), the log of each effect's betting factors within each step. `log_weights` broadcasts
    against (..., effects). `held_back` is the share of the capital that starts at later steps. Result: shape (...).
    """
    steps = log_factors.shape[-2]
    if not held_back or steps < 2:
        running = log_factors.sum(axis=-2)
        if not held_back:
            return log_mean_exp(running, log_weights)
        started = log_mean_exp(running, log_weights) + np.log1p(-held_back)
        one_step: Floats = np.logaddexp(started, np.log(held_back))
        return one_step
    starts, waiting = start_weights(steps, held_back)
    from_step = np.cumsum(log_factors[..., ::-1, :], axis=-2)[..., ::-1, :]  # [k]: the product over the steps from k on
    weights = np.log(starts)[:, None] + log_weights[..., None, :]
    mixed: Floats = np.logaddexp(log_mean_exp(from_step, weights, axes=2), np.log(waiting))
    return mixed
