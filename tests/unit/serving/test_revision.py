"""How a revision keeps its event loop free, and says no in time."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from relevo.serving import revision as module
from relevo.serving.predictor import Predictor
from relevo.serving.refusals import Overloaded
from relevo.serving.revision import Revision
from tests.unit.serving.about import about

ROWS = np.zeros((1, 2))


def slow_revision(release: threading.Event, *, stuck_seconds: float = 120.0) -> Revision:
    """A revision whose model answers once `release` is set, and is known to be slow."""

    def classes(rows: np.ndarray) -> np.ndarray:
        assert release.wait(20)
        return np.zeros(len(rows), np.int64)

    found = Revision("m", SimpleNamespace(metadata=about()), "m-1", stuck_seconds=stuck_seconds)  # type: ignore[arg-type]
    found._predictor = Predictor(classes, None)
    return found


def test_more_than_may_wait_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue does not grow: what is beyond it learns so while the others still wait, and they are answered."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)

    async def run() -> None:
        release = threading.Event()
        served = slow_revision(release)
        waiting = [asyncio.create_task(served.predict(ROWS, probabilities=False)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="3 requests wait"):
            await served.predict(ROWS, probabilities=False)
        release.set()
        assert [classes for classes, _ in await asyncio.gather(*waiting)] == [[0]] * 3
        assert await served.predict(ROWS, probabilities=False) == ([0], None)

    asyncio.run(run())


def test_a_prediction_that_never_ends_ends_liveness() -> None:
    """Only a new process helps then; while it computes for less long, the server is alive."""

    async def run() -> None:
        release = threading.Event()
        stuck, busy = slow_revision(release, stuck_seconds=0.0), slow_revision(release)
        assert stuck.live
        tasks = [asyncio.create_task(served.predict(ROWS, probabilities=False)) for served in (stuck, busy)]
        for _ in range(2000):
            if stuck._running and busy._running:
                break
            await asyncio.sleep(0.01)
        assert not stuck.live
        assert busy.live
        release.set()
        await asyncio.gather(*tasks)
        assert stuck.live

    asyncio.run(run())
