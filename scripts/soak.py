"""`make demo-soak N=20`: every scenario, with and without the shadow stage, N times; is the verdict the right one each time?

python -m scripts.soak --runs 20 --output docs/measured/soak.md

Judged from outside: the exit code against scripts.demo.EXPECTED, Envoy's own configuration at every look during the run and after it,
who answers an independent client afterwards, and for flaky-monitor the stored history (it must have been Held while the monitor was
dead). Each run begins and ends with version 1 serving. Each result is one line in a file of its own as soon as it is there: a soak that
was interrupted keeps what it has and goes on when it is called again.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from relevo.cli.exit_codes import ExitCode
from scripts.arena import Arena, ArenaError, open_arena, say, version_of
from scripts.demo import EXPECTED
from scripts.monitor_fault import kill_monitor
from scripts.records import Store
from scripts.soak_results import Cell, Run, append, commit, read, render
from scripts.users import Client, read_bodies
from scripts.watch import EnvoyWatch, Look

__all__ = ["back_to_version_1", "main", "run_once", "serving", "settled", "wrong_end"]

RUN_SECONDS = 400.0
ROUTE_SECONDS = 5.0
ASKED_AFTERWARDS = 20


def main(arguments: list[str] | None = None) -> int:
    """Run the soak. 0 when every verdict was right and nothing else was wrong."""
    options = _parser().parse_args(arguments)
    shadows = {"on": (True,), "off": (False,), "both": (True, False)}[options.shadow]
    scenarios = options.only or list(EXPECTED)
    cells = [Cell(options.model, scenario, shadow) for scenario in scenarios for shadow in shadows]
    if options.fresh:
        options.results.unlink(missing_ok=True)
    runs = read(options.results)
    left = _left(cells, runs, options.runs)
    say(f"{len(left)} of {len(cells) * options.runs} runs to do; results in {options.results}")
    try:
        if left:
            with open_arena(options.model, options.home, options.port, options.locust_port) as arena:
                arena.train(scenarios)
                arena.up()
                for number, cell in enumerate(left, start=1):
                    run = run_once(arena, cell)
                    append(options.results, run)
                    runs.append(run)
                    say(f"{number}/{len(left)}  {run.line}")
    except ArenaError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; call it again to go on.")
    finally:
        mine = [run for run in runs if run.cell in cells]
        _publish(render(mine, command=_command(arguments)), options.output)
    return 0 if mine and not _left(cells, runs, options.runs) and all(run.right for run in mine) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="of each scenario and shadow setting")
    parser.add_argument("--shadow", choices=["on", "off", "both"], default="both")
    parser.add_argument("--only", action="append", choices=list(EXPECTED), help="this scenario; may be given again")
    parser.add_argument("--model", default="iris", choices=["iris", "digits"])
    parser.add_argument(
        "--home", type=Path, help="RELEVO_HOME, kept with its packages; a temporary folder unless given"
    )
    parser.add_argument("--port", type=int, help="of the proxy; a free one unless given")
    parser.add_argument("--locust-port", type=int, help="a free one unless given")
    parser.add_argument("--results", type=Path, default=Path("build/soak.jsonl"), help="one line per run, added to")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--output", type=Path, help="write the table there too")
    return parser


def _left(cells: Sequence[Cell], runs: Sequence[Run], wanted: int) -> list[Cell]:
    """What is still to be run, the cells in turn, so that an early end leaves all of them equally far."""
    done = {cell: sum(run.cell == cell for run in runs) for cell in cells}
    return [cell for number, cell in itertools.product(range(wanted), cells) if number >= done[cell]]


def run_once(arena: Arena, cell: Cell) -> Run:
    """One rollout from version 1 and back to it, judged from outside.

    Raises:
        ArenaError: version 1 cannot be brought up.
    """
    store = Store(arena.store)
    with EnvoyWatch(arena.admin_port, arena.model) as watch:
        stable = serving(settled(watch))
        known = store.count()
        began = time.monotonic()
        code, note = _deploy(arena, cell)
        seconds = time.monotonic() - began
        at_end, seen = watch.last, watch.take()
    problems = list(dict.fromkeys(seen.violations))[:5] + seen.blindness(seconds)
    rollout = store.last() if store.count() > known else None
    if rollout is None:
        problems.append(f"no rollout was stored; {note}")
    transitions = store.transitions(rollout.uid) if rollout else []
    right_one = stable
    if EXPECTED[cell.scenario] is ExitCode.OK:
        right_one = str(rollout.state["candidate"]) if rollout else "the candidate"
    problems += wrong_end(arena, at_end, right_one)
    held = sum(t["rule"] == "hold-Unmeasurable" and t["before"].startswith("Shifting") for t in transitions)
    if cell.scenario == "flaky-monitor" and not held:
        problems.append("was not held while the monitor was dead")
    samples = store.samples(rollout.uid) if rollout else []
    run = Run(
        cell=cell,
        at=time.time(),
        commit=commit(),
        exit_code=code,
        expected=int(EXPECTED[cell.scenario]),
        seconds=seconds,
        exposed=int(samples[-1]["exposed_requests"]) if samples else 0,
        phase=rollout.phase if rollout else "none",
        cause=rollout.cause if rollout else "none",
        reason=str(rollout.state.get("reason", "")) if rollout else note,
        held=held,
        transitions=tuple(f"{t['before']} -> {t['after']}" for t in transitions),
        looks=seen.looks,
        problems=tuple(problems),
    )
    back_to_version_1(arena, stable)
    return run


def _deploy(arena: Arena, cell: Cell) -> tuple[int, str]:
    """The exit code, and why there is none."""
    ended = threading.Event()
    fault = threading.Thread(target=kill_monitor, args=(cell.model, ended), daemon=True)
    log = arena.home / "deploy-canary.log"
    process = arena.start(arena.deploy(version_of(cell.scenario), shadow=cell.shadow), log=log)
    try:
        if cell.scenario == "flaky-monitor":
            fault.start()
        return process.wait(RUN_SECONDS), f"see {log}"
    except subprocess.TimeoutExpired:
        return -1, f"did not end within {RUN_SECONDS:g} s"
    finally:
        ended.set()
        if process.poll() is None:
            process.kill()
            process.wait()
        if fault.is_alive():
            fault.join()


def serving(look: Look | None) -> str:
    """The revision that has all the traffic; "" where none has. Another may be up beside it, as an idle colour is."""
    return next((name for name, weight in look.weights.items() if weight == 100), "") if look is not None else ""


def settled(watch: EnvoyWatch) -> Look:
    """The first look at a service of which one revision has all the traffic."""
    deadline = time.monotonic() + ROUTE_SECONDS
    while time.monotonic() < deadline:
        if (look := watch.last) is not None and 100 in look.weights.values():
            return look
        time.sleep(0.02)
    raise ArenaError(f"Envoy does not give all traffic to one revision: {watch.last}")


def wrong_end(arena: Arena, look: Look | None, right_one: str) -> list[str]:
    """What is wrong with where the traffic went in the end: by Envoy's configuration, and by who answers."""
    problems = []
    if serving(look) != right_one:
        problems.append(f"Envoy ends with {dict(look.weights) if look else 'nothing'}, not all to {right_one}")
    client = Client(arena.port, arena.model, timeout_seconds=5)
    bodies = itertools.islice(itertools.cycle(read_bodies(arena.rows)), ASKED_AFTERWARDS)
    wrong = [a for a in map(client.send, bodies) if (a.status, a.revision) != (200, right_one)]
    client.close()
    if wrong:
        problems.append(
            f"{len(wrong)} of {ASKED_AFTERWARDS} requests afterwards were not answered by {right_one}: {wrong[0]}"
        )
    return problems


def back_to_version_1(arena: Arena, stable: str) -> None:
    """As a user would: `relevo undo` after a promotion. Where that fails, by starting afresh, which is said."""
    rollout = Store(arena.store).last()
    if rollout is not None and rollout.phase == "RolledBack" and rollout.state["stable"] == stable:
        return
    undone = arena.relevo("undo", arena.model)
    if undone.returncode:
        say(
            f"`relevo undo` ended with {undone.returncode}, so everything is started anew: {undone.stderr.strip()[-300:]}"
        )
        arena.afresh()


def _command(arguments: list[str] | None) -> str:
    return " ".join(["python -m scripts.soak", *(sys.argv[1:] if arguments is None else arguments)])


def _publish(table: str, output: Path | None) -> None:
    print(table)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
