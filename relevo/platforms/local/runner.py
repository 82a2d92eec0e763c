"""One program from what is wanted to what is: started or adopted, health-checked, restarted with back-off, stopped.

A `Runner` is a small state machine that `supervisor` ticks ten times a second; it never blocks, because health checks are made on a
thread pool. The clock is a parameter.
"""

from __future__ import annotations

import http.client
import signal
from concurrent.futures import Executor, Future
from urllib.parse import SplitResult, urlsplit

from relevo.platforms.local import process
from relevo.platforms.local.process import Process
from relevo.platforms.local.program import FAILED_FOR_GOOD, Layout, Program, ProgramStatus, log_tail

__all__ = ["Runner", "backoff_seconds", "check_health"]

_CHECK_SECONDS = {True: 1.0, False: 0.1}
"""Between two health checks of a program that is ready, and of one that is not."""
_TOLERATED_FAILURES = 2
"""So many checks in a row may fail before a ready program counts as not ready."""
_HUNG_SECONDS = 30.0
"""A program that was ready and has not answered at all for so long is killed, and so restarted."""
_STEADY_SECONDS = 10.0
"""After being ready for so long, earlier failures are forgotten."""


def backoff_seconds(failures: int) -> float:
    """How long to wait before the next start after so many failures in a row: 0.2 s, doubled each time, 5 s at most."""
    return float(min(5.0, 0.2 * 2.0 ** min(max(failures - 1, 0), 10)))


def check_health(url: str, timeout_seconds: float = 1.0, *, authority: str | None = None) -> tuple[bool, str]:
    """GET `url`: whether it said 200, and in words why not. A first word "no" means that nothing answered."""
    parts = urlsplit(url)
    try:
        connection = _connection(parts, timeout_seconds, authority)
    except OSError as error:
        return False, f"no answer from {url} ({authority}: {error})"
    try:
        connection.request("GET", parts.path or "/")
        code = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {url} ({str(error) or type(error).__name__})"
    finally:
        connection.close()
    return code == 200, "" if code == 200 else f"{url} answers {code}"


def _connection(parts: SplitResult, timeout_seconds: float, authority: str | None) -> http.client.HTTPConnection:
    if parts.scheme != "https":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_seconds)
    import ssl

    context = ssl.create_default_context(cafile=authority)
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout_seconds, context=context)


class Runner:
    """Keeps one program running. `tick` moves it on; `status` says where it is; `stopped` is True once it has ended for good."""

    def __init__(self, program: Program, layout: Layout, pool: Executor, *, restarts: int = 0) -> None:
        self.program = program
        self._layout = layout
        self._pool = pool
        self._process: Process | None = None
        self._restarts = restarts
        self._failures = 0
        self._last_exit_code: int | None = None
        self._ready = False
        self._failed = False
        self._detail = "not started yet"
        self._last_end = ""
        """How it ended last and its last words, until it is ready again: "starting" alone would hide why."""
        self._start_at = 0.0
        self._ready_since = 0.0
        self._check: Future[tuple[bool, str]] | None = None
        self._check_at = 0.0
        self._failed_checks = 0
        self._answered_at = 0.0
        self._was_ready = False
        self._kill_at: float | None = None
        self._next: Program | None = None
        self.stopped = False

    @property
    def status(self) -> ProgramStatus:
        """What there is to say about it now."""
        running = self._process
        return ProgramStatus(
            name=self.program.name,
            pid=running.pid if running else None,
            create_time=running.create_time if running else None,
            ready=self._ready,
            failed=self._failed,
            restarts=self._restarts,
            last_exit_code=self._last_exit_code,
            detail="" if self._ready else self._why_not_ready,
        )

    @property
    def _why_not_ready(self) -> str:
        if self._failed or not self._last_end:
            return self._detail
        return f"{self._last_end}; now: {self._detail}"

    def adopt(self, running: Process) -> None:
        """Take over a process that another supervisor started for this very program."""
        self._process = running
        self._detail = "found running; not checked yet"

    def replace(self, program: Program, now: float) -> None:
        """Run `program` from now on, in place of what runs."""
        if self._process is None:
            self._become(program, now)
        else:
            self._next = program
            self._begin_stop(now)

    def stop(self, now: float) -> None:
        """End it: SIGTERM now, SIGKILL after its grace."""
        self._next = None
        if self._process is None:
            self.stopped = True
        else:
            self._begin_stop(now)

    def tick(self, now: float) -> None:
        """Do what is due at `now`, a monotonic time in seconds."""
        if self.stopped:
            return
        if self._process is None:
            if not self._failed and now >= self._start_at:
                self._start(now)
        elif self._process.ended():
            self._note_end(now)
        elif self._kill_at is not None:
            if now >= self._kill_at:
                self._process.send(signal.SIGKILL, group=True)
        else:
            self._watch(now)

    def _start(self, now: float) -> None:
        self._check, self._check_at, self._failed_checks, self._was_ready = None, 0.0, 0, False
        try:
            self._process = process.start(self.program, self._layout)
        except OSError as error:
            self._failures += 1
            self._start_at = now + backoff_seconds(self._failures)
            self._detail = f"cannot be started: {error}"
            return
        self._answered_at = now
        self._detail = "starting"

    def _begin_stop(self, now: float) -> None:
        if self._kill_at is None and self._process is not None:
            self._ready, self._detail = False, "stopping"
            self._process.send(signal.SIGTERM)
            self._kill_at = now + self.program.stop_grace_seconds

    def _note_end(self, now: float) -> None:
        ended = self._process
        assert ended is not None
        ended.send(signal.SIGKILL, group=True)  # what it may have started itself
        self._process, self._ready = None, False
        if self._kill_at is not None:
            self._kill_at = None
            if self._next is not None:
                self._become(self._next, now)
            else:
                self.stopped, self._detail = True, "stopped"
            return
        self._last_exit_code = ended.exit_code
        last_line = log_tail(self._layout.log(self.program.name), 1)
        if ended.exit_code == FAILED_FOR_GOOD:
            self._failed, self._detail = True, last_line or "gave up without a word (exit code 3)"
            return
        if self._ready_since and now - self._ready_since > _STEADY_SECONDS:
            self._failures = 0
        self._failures += 1
        self._restarts += 1
        self._ready_since = 0.0
        self._start_at = now + backoff_seconds(self._failures)
        how = "with an unknown exit code" if ended.exit_code is None else f"with exit code {ended.exit_code}"
        self._last_end = f"ended {how}: {last_line or 'it said nothing'}"
        self._detail = f"restart {self._restarts} after {backoff_seconds(self._failures):.1f} s"

    def _become(self, program: Program, now: float) -> None:
        self.program, self._next = program, None
        self._failed, self._failures, self._start_at = False, 0, now
        self._detail, self._last_end = "not started yet", ""

    def _watch(self, now: float) -> None:
        if self.program.health_url is None:
            self._note_ready(now)
        elif self._check is None:
            if now >= self._check_at:
                self._check = self._pool.submit(self._ask, self.program.health_url)
        elif self._check.done():
            well, why = self._check.result()
            self._check = None
            if well:
                self._note_ready(now)
            else:
                self._note_unwell(why, now)
            self._check_at = now + _CHECK_SECONDS[self._ready and well]

    def _ask(self, url: str) -> tuple[bool, str]:
        return check_health(url, authority=self.program.health_authority)

    def _note_ready(self, now: float) -> None:
        if not self._ready:
            self._ready_since, self._last_end = now, ""
        self._ready, self._was_ready, self._failed_checks, self._answered_at = True, True, 0, now

    def _note_unwell(self, why: str, now: float) -> None:
        self._failed_checks += 1
        if not why.startswith("no answer"):
            self._answered_at = now
        if self._failed_checks > _TOLERATED_FAILURES or not self._ready:
            self._ready, self._detail = False, why
        if self._was_ready and now - self._answered_at > _HUNG_SECONDS and self._process is not None:
            self._process.send(signal.SIGKILL, group=True)
