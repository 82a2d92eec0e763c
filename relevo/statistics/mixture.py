"""Averages of bets: which effects are bet on and with what weight, and from which step a bet starts.

Nobody knows how much worse a bad candidate is, so the capital is spread over a grid of effects; and nobody knows at which step its
fault shows (many show only under load), so part of the capital can be held back for the later steps. An average of e-processes with
weights fixed beforehand is an e-process: the choice costs power where it is wrong and never validity.

The log of a bet's capital is linear in the counts, so a set of bets is a matrix (`Bets`), made once per set of shares and cached by
`betting`, `exceedance` and `mix`; judging a tick is then one product of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relevo.statistics.counts import Floats

__all__ = ["LATE_SHARE", "Bets", "Prior", "check_held_back", "log_mean_exp", "start_weights"]

LATE_SHARE = 0.05
"""The share of the capital held back for later steps where events are many (latency, predictions): thousands of healthy ones in
the first steps would otherwise ruin every bet before a fault under load shows. It costs 1 % more requests where a fault is there
from the start."""


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """A grid of effects and the logs of their weights, which sum to 1. Both have the shape (effects,)."""

    effects: Floats
    log_weights: Floats

    @classmethod
    def of(cls, effects: Floats, weights: Floats) -> Prior:
        """A prior from weights that need not sum to 1. Raises ValueError."""
        if effects.ndim != 1 or effects.shape != weights.shape or not effects.size:
            raise ValueError("effects, weights: must be equally long, one-dimensional and not empty")
        if not (np.isfinite(effects).all() and np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError("effects, weights: must be finite, and weights above 0")
        return cls(effects, np.log(weights / weights.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Bets:
    """Bets on one stream, or on several streams with bets of their own.

    `log_factors`: the log of what one event multiplies each bet's capital by, shape (events, bets) or (streams, events, bets), where an
    event is a step, an outcome and an arm. `log_weights`: the bets' shares of the capital at the start, shape (bets,).
    """

    log_factors: Floats
    log_weights: Floats

    @classmethod
    def starting_at_every_step(cls, per_step: Floats, log_weights: Floats, held_back: float) -> Bets:
        """Bets from their logs of factors per step.

        `per_step`: shape (..., steps, outcomes and arms, effects); `log_weights`: shape (effects,); `held_back`: from 0 to below 1, the
        share of the capital that waits for a later step than the first. Without it, every bet runs over all steps.
        """
        *streams, steps, events, effects = per_step.shape
        if not held_back:
            return cls(per_step.reshape(*streams, steps * events, effects), log_weights)
        started: NDArray[np.bool_] = np.tril(
            np.ones((steps, steps), dtype=bool)
        )  # [step, start]: the bet is on from its start on
        rows = np.where(started[:, None, :, None], per_step[..., :, :, None, :], 0.0)
        starts, waiting = start_weights(steps, held_back)
        log_factors = rows.reshape(*streams, steps * events, steps * effects)
        idle = np.zeros((*log_factors.shape[:-1], 1))  # the capital that has not been put to use keeps its worth
        weights = (np.log(starts)[:, None] + log_weights).ravel()
        return cls(np.concatenate((log_factors, idle), axis=-1), np.append(weights, np.log(waiting)))

    def log_e(self, events: Floats) -> Floats:
        """The log e-value. `events`: counts, (..., events) or (..., streams, events). Result: (...) or (..., streams)."""
        if self.log_factors.ndim == 2:
            return log_mean_exp(events @ self.log_factors, self.log_weights)
        streams, length, _ = self.log_factors.shape
        # One large product per stream is far quicker than one small product per simulated rollout.
        by_stream = np.moveaxis(events.reshape(-1, streams, length), 1, 0)
        capital = log_mean_exp(by_stream @ self.log_factors, self.log_weights)
        return np.moveaxis(capital, 0, -1).reshape(events.shape[:-1])


def check_held_back(held_back: float) -> float:
    """`held_back` itself, if it is at least 0 and below 1. Raises ValueError."""
    if not 0 <= held_back < 1:
        raise ValueError("held_back: must be at least 0 and below 1")
    return held_back


def log_mean_exp(log_values: Floats, log_weights: Floats) -> Floats:
    """log(sum(weights * exp(log_values))) over the last axis, without overflow. At least one term of each sum must be above -inf.

    `log_weights` broadcasts against `log_values`. (SciPy's `logsumexp` does the same at 20 times the overhead, which a tick of the engine
    would feel.)
    """
    terms = log_values + log_weights
    highest = terms.max(axis=-1)
    terms -= highest[..., None]
    np.exp(terms, out=terms)
    total: Floats = np.log(terms.sum(axis=-1))
    total += highest
    return total


def start_weights(steps: int, held_back: float) -> tuple[Floats, float]:
    """How the capital is shared among bets that start at step 0, 1, 2, ...; and how much has not started after `steps` steps.

    The bet from the first step has 1 - held_back; the rest is shared out as 1/(k(k+1)), k = 1, 2, ..., which sums to 1 over endlessly
    many steps. So the weights do not depend on how many steps there are, and a step without traffic changes nothing.
    """
    k = np.arange(1, steps, dtype=np.float64)
    return np.concatenate(([1 - held_back], held_back / (k * (k + 1)))), held_back / max(steps, 1)
