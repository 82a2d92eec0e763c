"""KServe's application, built while others are served."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from relevo.serving.behind import Behind


def test_a_request_waits_until_the_application_is_there() -> None:
    """It is built once, off the event loop, and every request that came meanwhile is then answered by it."""
    release, threads, seen = threading.Event(), [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    def build(_: Any) -> Any:
        threads.append(threading.current_thread())
        assert release.wait(20)
        return app

    async def run() -> None:
        behind = Behind(None, build)  # type: ignore[arg-type]
        waiting = [asyncio.create_task(behind({"n": n}, None, None)) for n in range(3)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert not seen
        release.set()
        await asyncio.wait_for(asyncio.gather(*waiting), 20)

    asyncio.run(run())
    assert len(seen) == 3
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_an_application_that_cannot_be_built_fails_each_request_that_needs_it() -> None:
    """The reason is raised, not a wait for ever."""

    def build(_: Any) -> Any:
        raise ImportError("no KServe here")

    async def run() -> None:
        behind = Behind(None, build)  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(ImportError, match="no KServe here"):
                await asyncio.wait_for(behind({}, None, None), 20)  # type: ignore[arg-type]

    asyncio.run(run())
