"""What does it cost to have a rollout watched?

`python -m benchmarks.engine_cost [--runs 3] [--profile]`

CPU time of the `relevo deploy-canary` process over whole healthy rollouts, as the operating system accounts for it when the process has
ended (user and system), divided by the time that passed: shares of one core. Once with lines on a pipe, once with the live view on a
pseudo-terminal. `start` is what is used until the process has taken the rollout's lease: Python, imports, verifying both packages. What
Locust, Envoy and the servers use is theirs. With --profile one more rollout runs under cProfile, and where the time goes is printed.
"""

from __future__ import annotations

import argparse
import os
import pstats
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks.measure import command_of, publish, table
from scripts.arena import PROJECT, Arena, ArenaError, open_arena, say, version_of
from scripts.records import Store
from scripts.soak import back_to_version_1, settled
from scripts.soak_results import commit, conditions
from scripts.watch import EnvoyWatch

__all__ = ["Cost", "main"]

GOAL_SHARE = 0.05
LEASE_SECONDS = 60.0
TERMINAL = {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one rollout, in seconds."""

    view: str
    """pipe or terminal"""
    wall: float
    cpu: float
    start_wall: float
    start_cpu: float
    ticks: int
    exit_code: int

    @property
    def share(self) -> float:
        """Of one core, over the whole life of the process."""
        return self.cpu / self.wall

    @property
    def running_share(self) -> float:
        """Of one core, since it had the lease."""
        return (self.cpu - self.start_cpu) / (self.wall - self.start_wall)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 when the median share while it runs is within the goal, in both views."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="of each view")
    parser.add_argument("--views", choices=["pipe", "terminal", "both"], default="both")
    parser.add_argument("--no-shadow", action="store_true", help="without the shadow stage")
    parser.add_argument("--profile", action="store_true", help="run one more rollout under cProfile")
    parser.add_argument("--home", type=Path, help="RELEVO_HOME with packages; a temporary folder unless given")
    parser.add_argument("--output", type=Path, help="write the page there too")
    options = parser.parse_args(arguments)
    views = ["pipe", "terminal"] if options.views == "both" else [options.views]
    costs: list[Cost] = []
    try:
        with open_arena("iris", options.home, None, None) as arena:
            arena.train(["healthy"])
            arena.up()
            for number in range(options.runs):
                for view in views:
                    costs.append(_one(arena, view, shadow=not options.no_shadow))
                    say(
                        f"{number + 1}/{options.runs}  {view}: {100 * costs[-1].running_share:.1f} % of one core while it runs"
                    )
            if options.profile:
                _profile(arena, views[-1], shadow=not options.no_shadow)
    except ArenaError as error:
        say(f"error: {error}")
        return 1
    page = _page(costs, arguments)
    publish(page, options.output)
    return 0 if all(median(_of(costs, view)) <= GOAL_SHARE for view in views) else 1


def _of(costs: Sequence[Cost], view: str) -> list[float]:
    return [cost.running_share for cost in costs if cost.view == view]


def _one(arena: Arena, view: str, *, shadow: bool, profile: Path | None = None) -> Cost:
    """One healthy rollout, and version 1 brought back.

    Raises:
        ArenaError: it never took its lease.
    """
    store = Store(arena.store)
    with EnvoyWatch(arena.admin_port, arena.model, probe=False) as watch:
        stable = next(iter(settled(watch).weights))
    command = arena.deploy(version_of("healthy"), shadow=shadow)
    if profile is not None:
        command = [sys.executable, "-m", "cProfile", "-o", str(profile), *command[1:]]
    began = time.monotonic()
    process, drain = _on_terminal(arena, command) if view == "terminal" else (arena.start(command), None)
    try:
        start_wall, start_cpu = _await_lease(process, store, began)
    except ArenaError:
        process.kill()
        process.wait()
        raise
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if drain is not None:
        drain.join()
    stored = store.last()
    ticks = len(store.samples(stored.uid)) if stored else 0
    back_to_version_1(arena, stable)
    return Cost(view, wall, used.ru_utime + used.ru_stime, start_wall, start_cpu, ticks, process.returncode)


def _await_lease(process: subprocess.Popen[bytes], store: Store, began: float) -> tuple[float, float]:
    """Seconds and CPU seconds until this process drives the rollout."""
    watched = psutil.Process(process.pid)
    while time.monotonic() - began < LEASE_SECONDS and watched.status() != psutil.STATUS_ZOMBIE:
        driver = store.progress()[1].rsplit(":", 2)
        if len(driver) == 3 and driver[1] == str(process.pid):
            used = watched.cpu_times()
            return time.monotonic() - began, used.user + used.system
        time.sleep(0.01)
    raise ArenaError(f"deploy-canary did not begin to drive its rollout within {LEASE_SECONDS:g} s")


def _on_terminal(arena: Arena, command: Sequence[str]) -> tuple[subprocess.Popen[bytes], threading.Thread]:
    """The command on a pseudo-terminal, and the thread that reads what it draws."""
    ours, theirs = os.openpty()
    environment = {name: value for name, value in arena.environment.items() if name != "NO_COLOR"} | TERMINAL
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)

    def read() -> None:
        try:
            while os.read(ours, 65536):
                pass
        except OSError:  # the other side is closed: how a pseudo-terminal says that it has ended
            pass
        os.close(ours)

    drain = threading.Thread(target=read, daemon=True)
    drain.start()
    return process, drain


def _profile(arena: Arena, view: str, *, shadow: bool) -> None:
    """Where the time goes, by functions' own time and by time with what they call."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile"
        _one(arena, view, shadow=shadow, profile=file)
        stats = pstats.Stats(str(file))
        stats.sort_stats("tottime").print_stats(25)
        stats.sort_stats("cumulative").print_stats("relevo", 40)


def _page(costs: Sequence[Cost], arguments: list[str] | None) -> str:
    command = command_of("engine_cost", arguments)
    rows = [
        (
            cost.view,
            f"{cost.wall:.1f}",
            f"{cost.cpu:.2f}",
            f"{100 * cost.share:.1f} %",
            f"{cost.start_cpu:.2f}",
            f"{100 * cost.running_share:.1f} %",
            cost.ticks,
            cost.exit_code,
        )
        for cost in costs
    ]
    columns = ("output", "seconds", "CPU s", "share", "CPU s to start", "share since then", "looks", "exit code")
    goal = ", ".join(f"{v} {100 * median(_of(costs, v)):.1f} %" for v in dict.fromkeys(c.view for c in costs))
    lines = [
        "# The engine's own cost",
        "",
        conditions(command, [commit()]),
        "",
        f"Median share of one core while the rollout runs: {goal} (goal: under {100 * GOAL_SHARE:g} %).",
        "",
        table(columns, rows),
        "",
        "What is measured: the head of benchmarks/engine_cost.py.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
