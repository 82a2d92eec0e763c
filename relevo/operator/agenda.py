"""Which Rollout is due when: a bounded pool of threads works off what is due, one thread at a time per Rollout."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Agenda"]

_log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""When to try again where work has failed in a way that nobody foresaw."""


@dataclass(slots=True)
class _Entry:
    work: Callable[[], float | None]
    due: float | None
    """None: not before somebody prompts it."""
    running: bool = False
    prompted: bool = False


class Agenda:
    """Keyed pieces of work. Each says, when it is done, in how many seconds it is due again; None waits for a prompt."""

    def __init__(
        self,
        threads: int,
        *,
        on_begin: Callable[[float], None] = lambda late_seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_begin = on_begin
        self._monotonic = monotonic
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._open = False
        self._stopped = False
        self._threads = [threading.Thread(target=self._loop, name=f"tick-{i}", daemon=True) for i in range(threads)]

    def start(self) -> None:
        """Start the threads. Nothing is worked on before `open`."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        """Let what runs finish, no longer than this; begin nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def open(self) -> None:
        """Work on everything, all of it now."""
        with self._changed:
            self._open = True
            for key in self._entries:
                self._schedule(key, self._monotonic())
            self._changed.notify_all()

    def close(self) -> None:
        """Work on nothing more; what is at work finishes."""
        with self._changed:
            self._open = False

    def put(self, key: str, work: Callable[[], float | None]) -> None:
        """Take in a piece of work, due now."""
        with self._changed:
            self._entries[key] = _Entry(work, None)
            self._schedule(key, self._monotonic())
            self._changed.notify()

    def prompt(self, key: str) -> None:
        """Have it due now; if it is at work just now, once more after that."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is None:
                return
            if entry.running:
                entry.prompted = True
                return
            self._schedule(key, self._monotonic())
            self._changed.notify()

    def remove(self, key: str) -> None:
        """Forget a piece of work."""
        with self._changed:
            self._entries.pop(key, None)

    def overdue_seconds(self) -> float:
        """How long the piece of work that waits longest is overdue; 0 where none is, or none is to be done."""
        with self._changed:
            if not self._open:
                return 0.0
            now = self._monotonic()
            waits = (now - e.due for e in self._entries.values() if e.due is not None and not e.running)
            return max(0.0, max(waits, default=0.0))

    def _schedule(self, key: str, due: float) -> None:
        self._entries[key].due = due
        heapq.heappush(self._heap, (due, key))

    def _loop(self) -> None:
        while (key := self._next()) is not None:
            entry = self._entries.get(key)
            if entry is None:
                continue
            try:
                again = entry.work()
            except Exception:
                _log.exception("%s: failed", key)
                again = AGAIN_SECONDS
            with self._changed:
                entry.running = False
                if self._entries.get(key) is not entry:
                    continue
                if entry.prompted:
                    entry.prompted, again = False, 0.0
                if again is not None:
                    self._schedule(key, self._monotonic() + again)
                    self._changed.notify()

    def _next(self) -> str | None:
        """Wait for a piece of work that is due; None when we stop."""
        with self._changed:
            while not self._stopped:
                now = self._monotonic()
                while self._heap and self._is_stale(*self._heap[0]):
                    heapq.heappop(self._heap)
                if self._open and self._heap and self._heap[0][0] <= now:
                    due, key = heapq.heappop(self._heap)
                    self._on_begin(now - due)
                    entry = self._entries[key]
                    entry.running, entry.due = True, None
                    return key
                wait = self._heap[0][0] - now if self._open and self._heap else None
                self._changed.wait(wait)
            return None

    def _is_stale(self, due: float, key: str) -> bool:
        entry = self._entries.get(key)
        return entry is None or entry.running or entry.due != due
