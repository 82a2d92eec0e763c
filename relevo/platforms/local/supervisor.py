"""The daemon that keeps the local platform's programs running: `python -m relevo.platforms.local.supervisor --home HOME`.

It compares `LOCAL/programs/` with what runs ten times a second and writes `LOCAL/status.json` when something changed (`program`). It
detaches itself, so it survives the terminal. Killed with -9 it takes no program with it, and the next one adopts them. On SIGTERM it
stops all programs in order and ends. The platform starts it with `ensure` and ends it with `stop_all`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import psutil

from relevo import errors
from relevo.platforms.local import files, process
from relevo.platforms.local.process import Process
from relevo.platforms.local.program import Layout, Program, log_tail, read_status
from relevo.platforms.local.runner import Runner

__all__ = ["ensure", "is_running", "main", "stop_all"]

_TICK_SECONDS = 0.1
_LOG_CHECK_SECONDS = 5.0
_LOG_LIMIT_BYTES = 10_000_000
_Signature = tuple[tuple[str, int, int], ...]


class Supervisor:
    """The loop. Holds the lock `descriptor` as long as it lives."""

    def __init__(self, layout: Layout, descriptor: int) -> None:
        self._layout = layout
        self._descriptor = descriptor
        self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="health")
        self._runners: dict[str, Runner] = {}
        self._signature: _Signature | None = None
        self._written: object = None
        self._asked_to_stop = False
        self._logs_at = 0.0

    def run(self) -> None:
        """Keep programs running until SIGTERM, then stop them all."""
        signal.signal(signal.SIGTERM, self._on_term)
        self._adopt()
        while not self._asked_to_stop:
            now = time.monotonic()
            self._read_wanted(now)
            self._tick(now)
            if now >= self._logs_at:
                self._logs_at = now + _LOG_CHECK_SECONDS
                self._bound_logs()
            time.sleep(_TICK_SECONDS)
        self._stop_in_order()
        self._pool.shutdown(wait=False)

    def _on_term(self, _signum: int, _frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def _tick(self, now: float) -> None:
        for name, runner in list(self._runners.items()):
            runner.tick(now)
            if runner.stopped:
                del self._runners[name]
        self._write_status()

    def _adopt(self) -> None:
        """Take over what an earlier supervisor left running; end what nobody wants any more."""
        wanted = self._load_wanted()
        try:
            before = read_status(self._layout)
        except errors.Permanent as error:  # only the restart counts are lost
            _say(str(error))
            before = {}
        for name, found in process.find_marked(self._layout).items():
            program = wanted.get(name)
            if program is None or not process.same_program(found[0], program):
                process.end_all(found, grace_seconds=program.stop_grace_seconds if program else 5.0)
                continue
            restarts = before[name].restarts if name in before else 0
            runner = Runner(program, self._layout, self._pool, restarts=restarts)
            runner.adopt(Process(found[0].pid, found[0].create_time()))
            self._runners[name] = runner

    def _read_wanted(self, now: float) -> None:
        signature = self._sign()
        if signature == self._signature:
            return
        wanted = self._load_wanted()
        self._signature = signature
        for name, program in wanted.items():
            runner = self._runners.get(name)
            if runner is None:
                self._runners[name] = Runner(program, self._layout, self._pool)
            elif runner.program != program:
                runner.replace(program, now)
        for name, runner in self._runners.items():
            if name not in wanted:
                runner.stop(now)

    def _sign(self) -> _Signature:
        """Changes whenever a file in the folder was added, removed or replaced: a rename brings a new inode."""
        try:
            with os.scandir(self._layout.programs) as entries:
                found = [one for one in entries if one.name.endswith(".json") and not one.name.startswith(".")]
                return tuple(sorted((one.name, one.inode(), one.stat().st_mtime_ns) for one in found))
        except OSError:  # not there yet, or a file went away while we looked: look again at the next tick
            return ()

    def _load_wanted(self) -> dict[str, Program]:
        """What is wanted, by name. A file that cannot be used changes nothing for a program that runs."""
        wanted = {}
        for path in sorted(self._layout.programs.glob("[!.]*.json")):
            try:
                if (value := files.read_json(path)) is not None:
                    program = Program.from_json(value)
                    wanted[program.name] = program
            except (errors.RelevoError, KeyError, TypeError, ValueError, AttributeError) as error:
                _say(f"{path}: ignored: {error!r}")
                if (runner := self._runners.get(path.stem)) is not None:
                    wanted[path.stem] = runner.program
        return wanted

    def _write_status(self) -> None:
        programs = {name: asdict(runner.status) for name, runner in self._runners.items()}
        if programs == self._written:
            return
        try:
            files.write_json(self._layout.status, {"pid": os.getpid(), "programs": programs})
            self._written = programs
        except errors.RelevoError as error:  # a full disk must not end what runs; tried again at the next tick
            _say(str(error))

    def _bound_logs(self) -> None:
        """Keep each log below its limit. Programs append, so a log can be cut while they write."""
        for path in (self._layout.root / "logs").glob("*.log"):
            with contextlib.suppress(OSError):
                if path.stat().st_size > _LOG_LIMIT_BYTES:
                    shutil.copyfile(path, path.with_suffix(".log.1"))
                    os.truncate(path, 0)

    def _stop_in_order(self) -> None:
        for order in sorted({runner.program.stop_order for runner in self._runners.values()}):
            group = [runner for runner in self._runners.values() if runner.program.stop_order == order]
            for runner in group:
                runner.stop(time.monotonic())
            while not all(runner.stopped for runner in group):
                self._tick(time.monotonic())
                time.sleep(0.02)
        self._runners.clear()
        self._write_status()


def is_running(layout: Layout) -> bool:
    """True while a supervisor lives. A system call or three: cheap enough to ask at every tick."""
    return files.is_locked(layout.supervisor_lock)


def ensure(layout: Layout) -> None:
    """See to it that a supervisor runs; return when one does.

    Raises:
        errors.Transient: it could not be started.
    """
    if is_running(layout):
        return
    log = layout.log("supervisor")
    command = [sys.executable, "-m", "relevo.platforms.local.supervisor", "--home", str(layout.root.parent)]
    search_path = os.pathsep.join(filter(None, [str(process.package_root()), os.environ.get("PYTHONPATH", "")]))
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": search_path},
                cwd=layout.root,
                timeout=20,
                check=False,
            )
    except OSError as error:
        raise files.storage_error("start the supervisor: write its log", log, error) from error
    except subprocess.TimeoutExpired as error:
        raise errors.Transient(f"the supervisor did not start within 20 s; see {log}") from error
    if done.returncode != 0:
        raise errors.Transient(
            f"the supervisor did not start (exit code {done.returncode}):\n{log_tail(log, 5)}\nSee {log}"
        )


def stop_all(layout: Layout, *, patience_seconds: float = 40.0) -> None:
    """End the supervisor and everything it ever started for this folder, also when it is dead already."""
    if is_running(layout):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(layout.supervisor_lock.read_text()), signal.SIGTERM)
        deadline = time.monotonic() + patience_seconds
        while is_running(layout) and time.monotonic() < deadline:
            time.sleep(0.02)
        if is_running(layout):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(layout.supervisor_lock.read_text()), signal.SIGKILL)
    left = process.find_marked(layout)
    orders = {name: _stop_order(layout, name) for name in left}
    for order in sorted(set(orders.values())):
        group: list[psutil.Process] = [one for name in left if orders[name] == order for one in left[name]]
        process.end_all(group, grace_seconds=10.0)


def _stop_order(layout: Layout, name: str) -> int:
    try:
        return Program.from_json(files.read_json(layout.program(name))).stop_order
    except (errors.RelevoError, KeyError, TypeError, ValueError):  # unwanted or damaged: it is stopped all the same
        return 10


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _take_lock(layout: Layout) -> int | None:
    """The lock, tried for half a second: whoever asks whether a supervisor runs holds it for a moment."""
    for _ in range(50):
        if (descriptor := files.try_lock(layout.supervisor_lock)) is not None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
        time.sleep(0.01)
    return None


def main(arguments: list[str] | None = None) -> int:
    """Detach and supervise. The process that was called returns 0 as soon as a supervisor runs, ours or another."""
    parser = argparse.ArgumentParser(description="Keeps the programs of relevo's local platform running.")
    parser.add_argument("--home", type=Path, required=True, help="the RELEVO_HOME")
    layout = Layout.of(parser.parse_args(arguments).home)
    told, tell = os.pipe()
    if os.fork() > 0:
        os.close(tell)
        with os.fdopen(told) as answers:
            return 0 if answers.read() == "ok" else 1
    os.close(told)
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = _take_lock(layout)
    os.write(tell, b"ok")
    os.close(tell)
    if descriptor is not None:
        Supervisor(layout, descriptor).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
