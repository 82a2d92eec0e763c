"""Several processes that serve one revision on one port: `Workers`, the parent, which starts them, replaces them and ends them.

All accept from one socket, so a connection that one of them did not take waits for another. They are forked before the model is loaded:
each has its own, and they share only what they count (`tallies`). A worker that dies, or that shows no life for too long, is replaced.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

__all__ = ["Serve", "Workers"]

_log = logging.getLogger(__name__)

Serve = Callable[[int, int, Callable[[bool], None]], int]
"""Serve as this worker until told to end, or until this file descriptor can be read; returns the exit code.

The function is to be called every second with whether the model is well.
"""

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
_LOOK_SECONDS = 0.5
_SILENT_SECONDS = 30.0
"""How long a worker that serves may show no life: its event loop is held by something."""
_START_SECONDS = 120.0
"""How long a worker may take to load the model."""
_FAILED_STARTS = 3
"""As many workers in a row that end before they served: another would as well."""
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(slots=True)
class _Worker:
    pid: int
    started_at: float


class Workers:
    """`count` processes that run `serve`.

    `end_seconds` is how long one may take to end. An exit code in `final` ends them all.
    """

    def __init__(self, count: int, serve: Serve, *, end_seconds: float, final: frozenset[int] = frozenset()) -> None:
        self._serve = serve
        self._end_seconds = end_seconds
        self._final = final
        self._beats = memoryview(mmap.mmap(-1, 8 * count)).cast("B").cast("d")
        """When each worker last showed life, on the monotonic clock; 0 before its first time, negative once its model is stuck."""
        self._workers: dict[int, _Worker] = {}
        self._due = dict.fromkeys(range(count), 0.0)
        """When those that do not run are to be started."""
        self._failed_starts = 0
        self._watched, self._held = os.pipe()

    def run(self, closed_at_end: Callable[[], None]) -> int:
        """Serve until SIGTERM or SIGINT, and end in order; returns the exit code. `closed_at_end` gives up the sockets of this process."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        code: int | None = None
        while code is None:
            self._start_due()
            found = signal.sigtimedwait(_SIGNALS, _LOOK_SECONDS)
            if found is not None and found.si_signo != signal.SIGCHLD:
                code = 0
            code = self._reap(code)
            self._end_stuck()
        closed_at_end()
        self._end_all()
        return code

    def _start_due(self) -> None:
        now = monotonic()
        for index in [index for index, due in self._due.items() if due <= now]:
            del self._due[index]
            self._beats[index] = 0.0
            pid = os.fork()
            if pid == 0:
                self._be(index)
            self._workers[index] = _Worker(pid, monotonic())

    def _be(self, index: int) -> None:
        """Be a worker: never returns."""
        code = 70
        try:
            os.close(self._held)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            code = self._serve(index, self._watched, lambda well: self._beat(index, well))
        except KeyboardInterrupt:
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _beat(self, index: int, well: bool) -> None:
        self._beats[index] = monotonic() if well else -1.0

    def _reap(self, code: int | None) -> int | None:
        """Take note of those that ended; the exit code if all have to."""
        for index, worker in list(self._workers.items()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            del self._workers[index]
            ended = os.waitstatus_to_exitcode(status)
            if code is not None:
                continue
            if ended in self._final:
                return ended
            served = self._beats[index] != 0.0
            self._failed_starts = 0 if served else self._failed_starts + 1
            if self._failed_starts >= _FAILED_STARTS:
                _log.error("%d workers in a row ended before they served", self._failed_starts)
                return 1
            pause = min(0.1 * 2**self._failed_starts, _LONGEST_PAUSE_SECONDS)
            _log.warning("worker %d (process %d) ended with %d; another is started", index, worker.pid, ended)
            self._due[index] = monotonic() + pause
        return code

    def _end_stuck(self) -> None:
        now = monotonic()
        for index, worker in self._workers.items():
            beat = self._beats[index]
            if beat < 0.0 or now - (beat or worker.started_at) > (_SILENT_SECONDS if beat else _START_SECONDS):
                _log.error("worker %d (process %d) is stuck and is killed", index, worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

    def _end_all(self) -> None:
        for worker in self._workers.values():
            os.kill(worker.pid, signal.SIGTERM)
        deadline = monotonic() + self._end_seconds
        while self._workers:
            signal.sigtimedwait(_SIGNALS, _LOOK_SECONDS)
            self._reap(0)
            if monotonic() > deadline:
                for worker in self._workers.values():
                    os.kill(worker.pid, signal.SIGKILL)
