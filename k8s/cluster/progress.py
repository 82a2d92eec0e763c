"""Says on stderr what is going on, with the seconds since the beginning: a cold build takes minutes, and silence looks like a hang."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["say", "step"]

_BEGAN = time.monotonic()
_HEARTBEAT_SECONDS = 30.0


def say(line: str) -> None:
    """One line of progress. Lines of threads do not mix."""
    sys.stderr.write(f"[{time.monotonic() - _BEGAN:4.0f} s] {line}\n")
    sys.stderr.flush()


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say that something begins, that it still goes on, and how long it took."""
    began = time.monotonic()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_HEARTBEAT_SECONDS):
            say(f"{what}: still at it after {time.monotonic() - began:.0f} s")

    say(what)
    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()
    seconds = time.monotonic() - began
    if seconds >= 1:
        say(f"{what}: done in {seconds:.0f} s")
