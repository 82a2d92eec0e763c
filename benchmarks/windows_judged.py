"""Production's windows of latency (`relevo.simulation.windows`) on streams of counts, look by look, for the other benchmarks."""

from __future__ import annotations

import numpy as np

from relevo.simulation.accounts import Accounts
from relevo.simulation.windows import SlowWindows
from relevo.statistics.counts import Floats

__all__ = ["WINDOW", "Judge"]

WINDOW = 20
"""Answers of each arm in a window, as in the default policy."""


class Judge:
    """The windows of so many streams with one source. `usual`: the stable arm's rates over the thresholds, (thresholds,)."""

    def __init__(self, streams: int, usual: Floats, least: int = WINDOW) -> None:
        self._windows = SlowWindows(streams, 1, usual.size, least)
        self._windows.fix(np.arange(streams), np.broadcast_to(usual, (streams, 1, usual.size)))
        self._accounts = Accounts.empty(streams, 1, usual.size, 0, 2)
        self._log_e = np.zeros(streams)

    def log_e(
        self, which: np.ndarray[tuple[int], np.dtype[np.intp]], total: Floats, over: Floats, row: int = 0
    ) -> Floats:
        """Log e-values against the candidate after one more look at these streams, (len(which),).

        `total`: requests so far in this row, (len(which), 2); `over`: those over the thresholds, (len(which), thresholds, 2).
        `row`: 0 or 1; a window lies in one of them.
        """
        self._accounts.requests[which, 0, row] = total
        self._accounts.over[which, 0, :, row] = over
        before = self._windows.closed[which, 0]
        self._windows.advance(which, np.full(which.size, row), self._accounts)
        changed = which[self._windows.closed[which, 0] != before]
        self._log_e[changed] = self._windows.log_e(changed)[:, 0]
        return self._log_e[which]

    def at_every_look(self, total: Floats, over: Floats, limit: float = np.inf) -> Floats:
        """`log_e` of all streams at all looks: `total` (streams, looks, 2), `over` (streams, looks, thresholds, 2), both cumulated.

        What is above `limit` is decided: from then on it is 0, and no longer asked.
        """
        log_e = np.zeros(total.shape[:2])
        running = np.arange(len(total))
        for look in range(total.shape[1]):
            log_e[running, look] = self.log_e(running, total[running, look], over[running, look])
            running = running[log_e[running, look] < limit]
        return log_e
