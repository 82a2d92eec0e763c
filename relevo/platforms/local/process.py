"""Operating-system processes that outlive whoever started them: started with a mark, found again by it, ended for certain.

The mark is an environment variable that names the platform's folder and the program. A pid file could be stale, or missing when the
supervisor was killed between starting a process and writing down its pid; the mark cannot. Used by `runner` and `supervisor`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from relevo.platforms.local.program import Layout, Program

__all__ = ["Process", "end_all", "find_marked", "is_alive", "package_root", "same_program", "start"]

_MARK = "RELEVO_PROGRAM"


def _mark(layout: Layout, name: str) -> str:
    return f"{layout.root}:{name}"


@dataclass(slots=True)
class Process:
    """A running program: our own child, or one adopted from a supervisor that died (`child` is None)."""

    pid: int
    create_time: float
    child: subprocess.Popen[bytes] | None = None

    def ended(self) -> bool:
        """True when it runs no more. Reaps it if it is our child."""
        if self.child is not None:
            return self.child.poll() is not None
        return not is_alive(self.pid, self.create_time)

    @property
    def exit_code(self) -> int | None:
        """Its exit code (negative: the signal), None while it runs or where only its parent could have known."""
        return self.child.returncode if self.child is not None else None

    def send(self, signum: int, *, group: bool = False) -> None:
        """Signal it, or its whole process group. Nothing happens if it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(self.pid, signum)
            else:
                os.kill(self.pid, signum)


def is_alive(pid: int, create_time: float) -> bool:
    """True where a process of this identity runs. A zombie does not run."""
    try:
        found = psutil.Process(pid)
        # Two seconds: the create time is computed from the boot time, which moves when the clock is set.
        return abs(found.create_time() - create_time) < 2 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def start(program: Program, layout: Layout) -> Process:
    """Start `program` in a session of its own, its output appended to its log.

    Raises:
        OSError: it cannot be started, or its log cannot be opened.
    """
    log = layout.log(program.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **program.env, _MARK: _mark(layout, program.name), "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as output:
        child = subprocess.Popen(
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        create_time = psutil.Process(child.pid).create_time()
    except psutil.Error:  # already gone: poll() will say so
        create_time = time.time()
    return Process(child.pid, create_time, child)


def find_marked(layout: Layout) -> dict[str, list[psutil.Process]]:
    """All running processes that were started for this folder, by program name, each name's first process first."""
    found: dict[str, list[psutil.Process]] = {}
    prefix = _mark(layout, "")
    for one in psutil.process_iter():
        try:
            mark = one.environ().get(_MARK, "")
            if mark.startswith(prefix) and one.status() != psutil.STATUS_ZOMBIE:
                found.setdefault(mark.removeprefix(prefix), []).append(one)
        except psutil.Error:  # gone, or not ours to look at: then not ours
            continue
    for processes in found.values():
        processes.sort(key=lambda one: (one.create_time(), one.pid))
    return found


def same_program(running: psutil.Process, program: Program) -> bool:
    """True where `running` was started from this very `program`."""
    try:
        environment = running.environ()
        return tuple(running.cmdline()) == program.argv and program.env.items() <= environment.items()
    except psutil.Error:
        return False


def end_all(processes: Iterable[psutil.Process], *, grace_seconds: float) -> None:
    """SIGTERM to all, SIGKILL to those that are left after `grace_seconds`."""
    left = list(processes)
    for signum, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        for one in left:
            with contextlib.suppress(psutil.Error):
                one.send_signal(signum)
        deadline = time.monotonic() + patience
        while left and time.monotonic() < deadline:
            left = [one for one in left if _runs(one)]
            time.sleep(0.02)


def _runs(one: psutil.Process) -> bool:
    try:
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def package_root() -> Path:
    """The folder from which the `relevo` package is imported."""
    return Path(__file__).resolve().parents[3]
