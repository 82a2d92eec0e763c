"""kill -9 of `relevo deploy-canary` or `deploy-blue-green`, again and again, in every scenario: is the verdict the one it would have been?

python -m scripts.kills --kills 100 --output docs/measured/kills.md

Rollouts alternate between two ways of killing: right after every transition (the store is watched for each new line of the audit log: the
state is stored by then and what it wants is mostly not done yet), and at random moments of a seeded generator. After each kill the same
command is started again at once; an operator would do no other. Meanwhile others look: `watch` at Envoy's weights and at who is ready,
`users` by a steady stream of requests of its own. A rollout that ended just before its process was killed is not started again (that
would begin a new one); its verdict is then read from the store.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.arena import Arena, ArenaError, open_arena, say, version_of
from scripts.demo import EXPECTED
from scripts.kills_results import Killed, Result, render
from scripts.monitor_fault import kill_monitor
from scripts.records import Ended, Store
from scripts.soak import back_to_version_1, serving, settled, wrong_end
from scripts.soak_results import Cell, commit
from scripts.users import Users, read_bodies
from scripts.watch import EnvoyWatch

__all__ = ["main"]

POLL_SECONDS = 0.003
ROLLOUT_SECONDS = 600.0
MOST_PER_ROLLOUT = 15
"""Then it may end in peace: each start costs seconds in which nobody drives it."""
LONGEST_PAUSE_SECONDS = 4.0
AT_START_SHARE = 0.2
"""Of the random kills, how many are timed from the start of the process, and so may meet it while it still starts."""


def main(arguments: list[str] | None = None) -> int:
    """Kill until the number is reached and every scenario was met in every way. 0 when nothing was wrong."""
    options = _parser().parse_args(arguments)
    scenarios = options.only or list(EXPECTED)
    blue_green = options.strategy == "blue-green"
    # A new colour is always rehearsed, and charts/model has values for iris.
    shadows = (True,) if blue_green else {"on": (True,), "off": (False,), "both": (True, False)}[options.shadow]
    results: list[Result] = []
    try:
        with open_arena(options.model, options.home, options.port, options.locust_port, blue_green=blue_green) as arena:
            arena.train(scenarios)
            arena.up()
            rng = random.Random(options.seed)
            for cell, way in _plan(options.model, scenarios, shadows, options.only_way, rng):
                if _enough(results, options.kills, len(scenarios) * len(shadows) * len(_ways(options.only_way))):
                    break
                result = _one(arena, cell, way, rng)
                results.append(result)
                say(f"{sum(len(r.kills) for r in results)} of {options.kills} kills  {result.line}")
    except ArenaError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted.")
    finally:
        command = " ".join(["python -m scripts.kills", *(sys.argv[1:] if arguments is None else arguments)])
        table = render(results, command=command, commit=commit(), seed=options.seed)
        print(table)
        if options.output is not None:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(table, encoding="utf-8")
    return 0 if results and all(r.right for r in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    parser.add_argument("--strategy", default="canary", choices=["canary", "blue-green"])
    parser.add_argument("--shadow", choices=["on", "off", "both"], default="both")
    parser.add_argument("--only", action="append", choices=list(EXPECTED), help="this scenario; may be given again")
    parser.add_argument("--only-way", choices=["transition", "random"], help="kill in this way alone")
    parser.add_argument("--model", default="iris", choices=["iris", "digits"])
    parser.add_argument(
        "--home", type=Path, help="RELEVO_HOME, kept with its packages; a temporary folder unless given"
    )
    parser.add_argument("--port", type=int, help="of the proxy; a free one unless given")
    parser.add_argument("--locust-port", type=int, help="a free one unless given")
    parser.add_argument("--output", type=Path, help="write the table there too")
    return parser


def _ways(only: str | None) -> tuple[str, ...]:
    return (only,) if only else ("transition", "random")


def _plan(
    model: str, scenarios: list[str], shadows: tuple[bool, ...], only_way: str | None, rng: random.Random
) -> Iterator[tuple[Cell, str]]:
    """Every combination in turn, each round in another order."""
    combinations = [
        (Cell(model, scenario, shadow), way)
        for scenario, shadow, way in itertools.product(scenarios, shadows, _ways(only_way))
    ]
    while True:
        yield from rng.sample(combinations, len(combinations))


def _enough(results: list[Result], kills: int, combinations: int) -> bool:
    return len(results) >= combinations and sum(len(r.kills) for r in results) >= kills


@dataclass(slots=True)
class _Rollout:
    """One rollout and the processes that drive it, one after the other."""

    arena: Arena
    cell: Cell
    store: Store
    known: int
    """How many rollouts there were before."""
    deadline: float

    def start(self) -> subprocess.Popen[bytes]:
        """The command, the first time or again."""
        command = self.arena.deploy(version_of(self.cell.scenario), shadow=self.cell.shadow)
        return self.arena.start(command)

    def stored(self) -> Ended | None:
        """The rollout, once it is stored."""
        return self.store.last() if self.store.count() > self.known else None

    def transitions(self) -> int:
        """How many it has made."""
        return self.store.progress()[2] if self.store.count() > self.known else 0

    def driven_by(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether this process has taken the lease."""
        stored = self.stored()
        return stored is not None and stored.driver_pid == process.pid

    def wait(self, process: subprocess.Popen[bytes], until: Callable[[], bool]) -> bool:
        """Poll until a condition holds; False when the process ended first, or the time is over."""
        while process.poll() is None and time.monotonic() < self.deadline:
            if until():
                return True
            time.sleep(POLL_SECONDS)
        return False


def _one(arena: Arena, cell: Cell, way: str, rng: random.Random) -> Result:
    """One rollout under kills, judged from outside, and version 1 brought back."""
    store = Store(arena.store)
    began = time.monotonic()
    rollout = _Rollout(arena, cell, store, store.count(), began + ROLLOUT_SECONDS)
    users = Users(arena.port, arena.model, read_bodies(arena.rows))
    with EnvoyWatch(arena.admin_port, arena.model) as watch:
        stable = serving(settled(watch))
        with users, _monitor_fault(cell):
            code, kills = _drive(rollout, way, rng)
        at_end, seen, tally = watch.last, watch.take(), users.take()
    stored = rollout.stored()
    candidate = str(stored.state["candidate"]) if stored else "the candidate"
    expected = int(EXPECTED[cell.scenario])
    problems = list(dict.fromkeys(seen.violations))[:5] + seen.blindness(time.monotonic() - began)
    problems += wrong_end(arena, at_end, candidate if expected == 0 else stable)
    if stored is None or stored.exit_code != code:
        problems.append(f"exit code {code}, but the store says {stored.phase if stored else 'nothing'}")
    by_candidate = tally.failures_of(candidate) if cell.scenario == "errors" else 0
    if others := tally.failures - by_candidate:
        problems.append(f"{others} requests of users failed: {dict(tally.failed)}")
    result = Result(
        cell=cell,
        way=way,
        exit_code=code,
        expected=expected,
        seconds=time.monotonic() - began,
        phase=stored.phase if stored else "none",
        cause=stored.cause if stored else "none",
        kills=tuple(kills),
        looks=seen.looks,
        longest_gap_seconds=seen.longest_gap_seconds,
        between=seen.became_ready,
        slow=seen.slow_answers,
        requests=tally.requests,
        failed_by_design=by_candidate,
        failed_otherwise=others,
        problems=tuple(problems),
    )
    back_to_version_1(arena, stable)
    return result


class _monitor_fault:  # noqa: N801  (a context manager, used as a function)
    """The fault of flaky-monitor, in the scenario that has it."""

    def __init__(self, cell: Cell) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=kill_monitor, args=(cell.model, self._ended), daemon=True)
        self._wanted = cell.scenario == "flaky-monitor"

    def __enter__(self) -> None:
        if self._wanted:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._wanted:
            self._thread.join()


def _drive(rollout: _Rollout, way: str, rng: random.Random) -> tuple[int, list[Killed]]:
    """Start, kill and start again until there is a verdict. Its exit code (-1: none in time), and the kills."""
    kills: list[Killed] = []
    heard = 0
    while time.monotonic() < rollout.deadline:
        process = rollout.start()
        try:
            if len(kills) < MOST_PER_ROLLOUT:
                heard = _await_moment(rollout, process, way, heard, rng)
            else:
                rollout.wait(process, lambda: False)
            if process.poll() is not None:
                return process.returncode, kills
            driving = rollout.driven_by(process)
            process.kill()
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if process.returncode >= 0:  # it had ended by itself just before
            return process.returncode, kills
        stored = rollout.stored()
        kills.append(Killed(stored.phase if stored else "before it was stored", driving))
        if stored is not None and stored.exit_code is not None:
            return stored.exit_code, kills
    return -1, kills


def _await_moment(rollout: _Rollout, process: subprocess.Popen[bytes], way: str, heard: int, rng: random.Random) -> int:
    """Wait for the moment to kill. The number of transitions that have been heard of."""
    if way == "transition":
        rollout.wait(process, lambda: rollout.transitions() > heard)
        return rollout.transitions()
    pause = rng.uniform(0.0, LONGEST_PAUSE_SECONDS)
    if rng.random() >= AT_START_SHARE:
        rollout.wait(process, lambda: rollout.driven_by(process))
    due = time.monotonic() + pause
    rollout.wait(process, lambda: time.monotonic() >= due)
    return heard


if __name__ == "__main__":
    sys.exit(main())
