"""Windows of time of many rollouts at once: `relevo.rollout.windowing` with an axis of rollouts in front.

The differential test holds the two equal. `evidence` asks for the log e-values, which change only where a window closes.
"""

from __future__ import annotations

import numpy as np

from relevo.rollout.windowing import MOST_OVER
from relevo.simulation.accounts import Accounts, Indices
from relevo.statistics.counts import Floats
from relevo.statistics.windows import (
    DEALT_ANEW,
    KEPT,
    MOST_CAPITAL,
    ODDS,
    RARE_RATE,
    STEEPNESS,
    correlations,
    prior,
    rank_factors,
    standings,
    tail_factors,
)

__all__ = ["SlowWindows"]

_RANKS = len(STEEPNESS)


class SlowWindows:
    """Of so many rollouts, sources and thresholds: in which windows the candidate was the slower one."""

    def __init__(self, rollouts: int, sources: int, thresholds: int, least: int, longest_us: int | None = None) -> None:
        """`least`, `longest_us`: as `checks.latency.window` and `windowSeconds` say, the latter in microseconds."""
        self._least = least
        self._longest_us = longest_us
        self._row = np.full(rollouts, -1)
        self._measured = np.zeros((rollouts, sources), dtype=bool)
        self._usual = np.full((rollouts, sources, thresholds), np.nan)
        self._opened = np.zeros((rollouts, sources, 2))
        self._opened_over = np.zeros((rollouts, sources, thresholds, 2))
        self._opened_us = np.zeros((rollouts, sources), dtype=np.int64)
        self._shares = np.zeros((rollouts, sources, _RANKS + thresholds * len(ODDS)))
        self._capitals = np.zeros_like(self._shares)
        self._total = np.ones((rollouts, sources))
        self._scores = np.zeros((rollouts, sources, KEPT))
        self._fresh = np.zeros((rollouts, sources), dtype=np.intp)
        self.closed = np.zeros((rollouts, sources), dtype=np.intp)
        """How many windows have been compared."""
        self.highest = np.zeros((rollouts, sources))
        """No log e-value is above this, per source: that of all capital, or 0. Far cheaper than `log_e`."""

    def take(self, kept: Indices) -> None:
        """Keep these rollouts only."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value[kept])

    def fix(self, which: Indices, usual: Floats) -> None:
        """The stable revision's rates over the thresholds, (len(which), sources, thresholds); nan where there is none."""
        self._usual[which] = usual
        self._measured[which] = np.isfinite(usual).any(axis=-1)
        rare = usual < RARE_RATE
        shares = np.zeros((*rare.shape[:2], self._shares.shape[-1]))
        for tails in np.unique(rare.sum(axis=-1)):
            here = rare.sum(axis=-1) == tails
            known = prior(int(tails))
            shares[here, :_RANKS] = known[:_RANKS]
            shares[here, _RANKS:] = np.repeat(rare[here], len(ODDS), axis=-1) * known[-1]
        self._shares[which] = self._capitals[which] = shares

    def advance(self, which: Indices, row: Indices, accounts: Accounts, now_us: int = 0) -> None:
        """Take in the counts of the rows in which these rollouts are: close the windows that are full and open the next.

        `now_us`: the time of the look, in microseconds, which only matters where windows may last so long and no longer.
        """
        moved = self._row[which] != row
        if moved.any():
            gone = which[moved]
            self._enter(gone)
            self._row[gone] = row[moved]
            self._opened[gone] = 0
            self._opened_over[gone] = 0
            self._opened_us[gone] = now_us
        counted = accounts.requests[which, :, row] - accounts.errors[which, :, row]
        answers = (counted - self._opened[which]).min(axis=-1)
        full = answers >= self._least
        if self._longest_us is not None:
            full |= (answers >= 1) & (now_us - self._opened_us[which] >= self._longest_us)
        full &= self._measured[which]
        at, source = np.nonzero(full)
        if at.size:
            over = accounts.over[which[at], source, :, row[at]]
            self._close(which[at], source, counted[at, source], over)
            self._opened_us[which[at], source] = now_us

    def _enter(self, which: Indices) -> None:
        """These rollouts are in another step: capital is dealt anew, and the standings so far are taken less their step's mean."""
        total = self._capitals[which].sum(axis=-1, keepdims=True)
        self._capitals[which] = (1 - DEALT_ANEW) * self._capitals[which] + DEALT_ANEW * self._shares[which] * total
        fresh = self._fresh[which][..., None]
        new = np.arange(KEPT, 0, -1) <= fresh
        mean = np.where(new, self._scores[which], 0.0).sum(axis=-1, keepdims=True) / np.maximum(fresh, 1)
        self._scores[which] -= np.where(new, mean, 0.0)
        self._fresh[which] = 0

    def _close(self, rollout: Indices, source: Indices, counted: Floats, over: Floats) -> None:
        """`counted`: (windows, 2), `over`: (windows, thresholds, 2)."""
        at = rollout, source
        opened, opened_over, usual = self._opened[at], self._opened_over[at], self._usual[at]
        since, over_since = counted - opened, over - opened_over
        # Where there is no threshold nothing is over: in falling order that is one more at the end.
        falling = -np.sort(-over_since, axis=1)
        z = standings(since[:, 0], since[:, 1], falling[..., 0], falling[..., 1])
        factors = np.ones((len(z), self._shares.shape[-1]))
        factors[:, :_RANKS] = rank_factors(z)
        with np.errstate(invalid="ignore", divide="ignore"):
            before = np.where(opened[:, :1] > 0, opened_over[..., 0] / opened[:, :1], usual)
        window, threshold = np.nonzero((usual < RARE_RATE) & (before <= MOST_OVER))
        of_tails = factors[:, _RANKS:].reshape(len(z), -1, len(ODDS))
        of_tails[window, threshold] = tail_factors(
            since[window, 0], since[window, 1], over_since[window, threshold, 0], over_since[window, threshold, 1]
        )
        capitals = np.minimum(self._capitals[at] * factors, MOST_CAPITAL)
        self._capitals[at], total = capitals, capitals.sum(axis=-1)
        self._total[at], self.highest[at] = total, np.log(np.maximum(total, 1.0))
        self._opened[at], self._opened_over[at] = counted, over
        self._scores[at] = np.concatenate((self._scores[at][:, 1:], z[:, None]), axis=1)
        self._fresh[at] = np.minimum(self._fresh[at] + 1, KEPT)
        self.closed[at] += 1

    def log_e(self, which: Indices) -> Floats:
        """Log e-values against the candidate, (len(which), sources); 0 where a source has no thresholds or no window."""
        known = np.minimum(self.closed[which], KEPT).astype(np.float64)
        alike = correlations(self._scores[which], known, self._fresh[which].astype(np.float64))
        log_e: Floats = np.log(self._total[which]) * (1 - alike) / (1 + alike)
        return log_e
