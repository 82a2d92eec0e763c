"""Windows of time of many rollouts at once: `relevo.rollout.windowing` with an axis of rollouts in front.

The differential test holds the two equal. `evidence` asks for the log e-values, which change only where a window closes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relevo.rollout.windowing import MOST_OVER, USUAL_SHARE
from relevo.simulation.accounts import Accounts, Indices
from relevo.statistics.counts import Floats
from relevo.statistics.windows import KEPT, RATIOS, correlations, log_factors

__all__ = ["SlowWindows"]


class SlowWindows:
    """Of so many rollouts, sources and thresholds: in which windows the candidate was the slower one."""

    def __init__(self, rollouts: int, sources: int, thresholds: int, least: int, longest_us: int | None = None) -> None:
        """`least`, `longest_us`: as `checks.latency.window` and `windowSeconds` say, the latter in microseconds."""
        self._least = least
        self._longest_us = longest_us
        self._row = np.full(rollouts, -1)
        self._usual = np.full((rollouts, sources, thresholds), np.nan)
        self._reference = np.zeros((rollouts, sources), dtype=np.intp)
        self._opened = np.zeros((rollouts, sources, 2))
        self._opened_over = np.zeros((rollouts, sources, thresholds, 2))
        self._opened_us = np.zeros((rollouts, sources), dtype=np.int64)
        self._log_capitals = np.zeros((rollouts, sources, thresholds, RATIOS.size))
        self._differences = np.zeros((rollouts, sources, KEPT))
        self.closed = np.zeros((rollouts, sources), dtype=np.intp)
        """How many windows have been compared."""
        self.highest = np.zeros((rollouts, sources))
        """No log e-value is above this, per source: the capital of the luckiest bet, or 0. Far cheaper than `log_e`."""

    def take(self, kept: Indices) -> None:
        """Keep these rollouts only."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value[kept])

    def fix(self, which: Indices, usual: Floats) -> None:
        """The stable revision's rates over the thresholds, (len(which), sources, thresholds); nan where there is none."""
        self._usual[which] = usual
        away = np.where(np.isfinite(usual), np.abs(usual - USUAL_SHARE), np.inf)
        self._reference[which] = away.argmin(axis=-1)

    def advance(self, which: Indices, row: Indices, accounts: Accounts, now_us: int = 0) -> None:
        """Take in the counts of the rows in which these rollouts are: close the windows that are full and open the next.

        `now_us`: the time of the look, in microseconds, which only matters where windows may last so long and no longer.
        """
        moved = self._row[which] != row
        if moved.any():
            gone = which[moved]
            self._row[gone] = row[moved]
            self._opened[gone] = 0
            self._opened_over[gone] = 0
            self._opened_us[gone] = now_us
        counted = accounts.requests[which, :, row] - accounts.errors[which, :, row]
        answers = (counted - self._opened[which]).min(axis=-1)
        full = answers >= self._least
        if self._longest_us is not None:
            full |= (answers >= 1) & (now_us - self._opened_us[which] >= self._longest_us)
        full &= np.isfinite(self._usual[which]).any(axis=-1)
        at, source = np.nonzero(full)
        if at.size:
            over = accounts.over[which[at], source, :, row[at]]
            self._close(which[at], source, counted[at, source], over)
            self._opened_us[which[at], source] = now_us

    def _close(self, rollout: Indices, source: Indices, counted: Floats, over: Floats) -> None:
        """`counted`: (windows, 2), `over`: (windows, thresholds, 2)."""
        opened, opened_over = self._opened[rollout, source], self._opened_over[rollout, source]
        usual = self._usual[rollout, source]
        since, over_since = counted - opened, over - opened_over
        with np.errstate(invalid="ignore", divide="ignore"):
            before = np.where(opened[:, :1] > 0, opened_over[..., 0] / opened[:, :1], usual)
        bet_on: NDArray[np.bool_] = before <= MOST_OVER  # not where it is nan: there is no threshold
        factors = log_factors(since[:, :1], since[:, 1:], over_since[..., 0], over_since[..., 1])
        capitals = self._log_capitals[rollout, source] + np.where(bet_on[..., None], factors, 0.0)
        self._log_capitals[rollout, source] = capitals
        self._opened[rollout, source], self._opened_over[rollout, source] = counted, over
        at = self._reference[rollout, source][:, None, None]
        there = np.take_along_axis(over_since, at, axis=1)[:, 0] / since
        place = self.closed[rollout, source]
        self._differences[rollout, source, place % KEPT] = there[:, 1] - there[:, 0]
        self.closed[rollout, source] = place + 1
        self.highest[rollout, source] = np.maximum(capitals.max(axis=(1, 2)), 0.0)

    def log_e(self, which: Indices) -> Floats:
        """Log e-values against the candidate, (len(which), sources); 0 where a source has no thresholds or no window."""
        known = self.closed[which]
        place = (known[..., None] + np.arange(KEPT)) % KEPT  # oldest first, once all places are taken
        kept = np.take_along_axis(self._differences[which], place, axis=-1)
        alike = correlations(kept, np.minimum(known, KEPT).astype(np.float64))
        capitals, highest = self._log_capitals[which], self.highest[which]
        thresholds = np.isfinite(self._usual[which])
        e_values = np.exp(capitals - highest[..., None, None]).mean(axis=-1)
        number = thresholds.sum(axis=-1)
        mean = np.where(thresholds, e_values, 0.0).sum(axis=-1) / np.maximum(number, 1)
        log_e: Floats = np.where(number > 0, np.log(np.where(number > 0, mean, 1.0)) + highest, 0.0)
        return log_e * (1 - alike) / (1 + alike)
