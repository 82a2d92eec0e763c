"""The bets of `relevo.statistics` on many rollouts at once, at the price of the counts that have changed.

The log of a bet's capital is linear in the counts, and from one look to the next only the counts of the present step change. So what the
earlier steps have made of the capital is folded into one number per bet when a step begins: with K the log of the capital that all bets
on one effect carry into the step, the e-value is `sum over effects of weight * exp(K + counts of this step @ factors)` plus the
capital that waits for a later step. The factors, the priors and the weights of the starts are production's own (`betting.worse_bets`,
`exceedance.slower_bets`, `mixture.start_weights`); what is rewritten is the order of one sum. The tests hold the two equal.
"""

from __future__ import annotations

import numpy as np

from relevo.statistics.counts import Floats
from relevo.statistics.mixture import Prior, log_mean_exp, start_weights

__all__ = ["FoldedBets"]


class FoldedBets:
    """Bets on several streams of several rollouts, each of them at a step of its own.

    `factors`: the log of what one event multiplies each bet's capital by, shape (rollouts, steps, streams, events, effects). `prior`: the
    effects' weights. `held_back`: as in `relevo.statistics`.
    """

    def __init__(self, factors: Floats, prior: Prior, held_back: float) -> None:
        rollouts, steps, streams, _, effects = factors.shape
        self._factors = factors
        self._log_weights = prior.log_weights
        shared = [start_weights(step + 1, held_back) for step in range(steps)]
        with np.errstate(divide="ignore"):
            self._log_starts = np.log(shared[-1][0])
            self._idle = np.array([waiting for _, waiting in shared])
        self._held_back = held_back
        # Effects come first: sums and maxima over them then run along long rows of memory.
        self._carried = np.zeros((effects, rollouts, streams))
        self._current = np.zeros((effects, factors.shape[3], rollouts, streams))
        self._waiting = np.zeros(rollouts)

    def take(self, kept: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
        """Keep these rollouts only."""
        self._factors = self._factors[kept] if self._factors.strides[0] else self._factors[: len(kept)]
        self._carried, self._current = self._carried[:, kept], self._current[:, :, kept]
        self._waiting = self._waiting[kept]

    def set_factors(self, which: np.ndarray[tuple[int], np.dtype[np.intp]], factors: Floats) -> None:
        """Replace the factors of some rollouts."""
        self._factors[which] = factors

    def fold(self, which: np.ndarray[tuple[int], np.dtype[np.intp]], events: Floats, step: int) -> None:
        """Fold all before `step`, at which these rollouts are now.

        `events`: counts of the rollouts of `which`, shape (len(which), steps, streams, events).
        """
        factors = self._factors[which]
        effects, _, streams = self._carried.shape
        carried = np.full((len(which), streams, effects), self._log_starts[0])
        for i in range(step):
            carried = carried + np.einsum("rse,rsef->rsf", events[:, i], factors[:, i])
            if self._held_back:
                carried = np.logaddexp(carried, self._log_starts[i + 1])
        self._carried[:, which] = np.moveaxis(carried, -1, 0)
        self._current[:, :, which] = np.transpose(factors[:, step], (3, 2, 0, 1))
        self._waiting[which] = self._idle[step]

    def log_capital(self, events: Floats) -> Floats:
        """Of each effect's bets, over all their starts, shape (effects, rollouts, streams).

        `events`: counts of the present step, shape (rollouts, streams, events).
        """
        capital = self._carried.copy()
        for event in range(events.shape[-1]):
            capital += self._current[:, event] * events[..., event]
        return capital

    def bound(self, log_capital: Floats) -> Floats:
        """No e-value is above this, shape (rollouts, streams): the capital of the luckiest effect, and what waits. Far cheaper."""
        with np.errstate(over="ignore"):
            bound: Floats = np.exp(log_capital.max(axis=0)) + self._waiting[:, None]
        return bound

    def log_e(self, log_capital: Floats, which: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Floats:
        """The log e-values of some rollouts, shape (len(which), streams), from the capital of all."""
        chosen = np.moveaxis(log_capital[:, which], 0, -1)
        if not self._held_back:
            return log_mean_exp(chosen, self._log_weights)
        idle = np.zeros((*chosen.shape[:-1], 1))
        weights = np.empty((len(which), 1, chosen.shape[-1] + 1))
        weights[..., :-1] = self._log_weights
        weights[..., -1] = np.log(self._waiting[which])[:, None]
        return log_mean_exp(np.concatenate((chosen, idle), axis=-1), weights)
