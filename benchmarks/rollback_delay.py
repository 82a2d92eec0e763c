"""How long does a proven bad candidate keep its users?

`python -m benchmarks.rollback_delay [--runs 20]`

Real rollouts of the candidate that fails a share of its requests, without the shadow stage. The stored samples (one per look of the engine,
stamped when it had read all evidence and before it decided) say in which look k the e-value first reached its limit; a watcher of our own
asks Envoy for its live configuration every 10 ms and says when it first showed 0 % for the candidate. All times are of one machine's clock.

- decided: from look k, when the evidence was complete, until 0 %. What the engine itself takes.
- counted: from look k-1, the last below the limit, until 0 %. The decisive bad response was counted after look k-1 had read, so
  no delay from being counted is longer, but for the milliseconds that pass between reading the evidence and stamping the look.
- counted, strictly: from look k-2, which was over before look k-1 began to read.

What this leaves out: a response that is on its way, and Envoy's statistics, which are brought up to date every 0.5 s. The engine counts by
whichever source knew first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import command_of, publish, quantiles, table
from scripts.arena import Arena, ArenaError, open_arena, say, version_of
from scripts.records import Store
from scripts.soak import back_to_version_1, settled
from scripts.soak_results import commit, conditions
from scripts.watch import EnvoyWatch, Look

__all__ = ["Delay", "delay", "main"]

RUN_SECONDS = 300.0
GOAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Delay:
    """Of one rollout, in seconds until Envoy showed 0 %."""

    decided: float
    counted: float
    counted_strictly: float
    weight_percent: int
    """The candidate's, when it was decided."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 when there are as many delays as runs and p95 is within the goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollback_delay", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--home", type=Path, help="RELEVO_HOME with packages; a temporary folder unless given")
    parser.add_argument("--output", type=Path, help="write the page there too")
    options = parser.parse_args(arguments)
    delays: list[Delay] = []
    without: list[str] = []
    try:
        with open_arena("iris", options.home, None, None) as arena:
            arena.train(["errors"])
            arena.up()
            for number in range(1, options.runs + 1):
                found = _one(arena)
                if isinstance(found, Delay):
                    delays.append(found)
                    say(f"{number}/{options.runs}  decided {found.decided:.3f} s, counted {found.counted:.3f} s")
                else:
                    without.append(found)
                    say(f"{number}/{options.runs}  {found}")
    except ArenaError as error:
        say(f"error: {error}")
        return 1
    page = _page(delays, without, arguments)
    publish(page, options.output)
    return 0 if not without and quantiles(d.counted for d in delays)[1] <= GOAL_SECONDS else 1


def _one(arena: Arena) -> Delay | str:
    """One rollout; a sentence where it was not rolled back on evidence while it had users."""
    store = Store(arena.store)
    known = store.count()
    with EnvoyWatch(arena.admin_port, arena.model, every_seconds=0.01, probe=False) as watch:
        stable = next(iter(settled(watch).weights))
        watch.take()
        process = arena.start(arena.deploy(version_of("errors"), shadow=False))
        try:
            process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise ArenaError(f"a rollout did not end within {RUN_SECONDS:g} s") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        looks = watch.take().changes
    stored = store.last() if store.count() > known else None
    if stored is None:
        raise ArenaError(f"no rollout was stored; see {arena.home / 'deploy-canary.log'}")
    candidate = str(stored.state["candidate"])
    found = delay(store.samples(stored.uid), looks, candidate)
    back_to_version_1(arena, stable)
    return found or f"no delay to measure: {stored.phase} ({stored.cause}), {stored.state.get('reason', '')}"


def delay(samples: Sequence[Mapping[str, Any]], looks: Sequence[Look], candidate: str) -> Delay | None:
    """The delay of one rollout; None where the limit was not reached while the candidate had users.

    `samples` are the engine's looks, oldest first; `looks` the changes of Envoy's configuration, by our own watcher.
    """
    for k, sample in enumerate(samples):
        if k >= 2 and sample["e_against"] >= sample["limit_against"]:
            at = [datetime.fromisoformat(one["at"]).timestamp() for one in samples[k - 2 : k + 1]]
            zero = next((look.at for look in looks if look.at > at[2] and not look.weights.get(candidate)), None)
            if zero is None or not sample["weight_live_percent"]:
                return None
            return Delay(zero - at[2], zero - at[1], zero - at[0], int(sample["weight_live_percent"]))
    return None


def _page(delays: Sequence[Delay], without: Sequence[str], arguments: list[str] | None) -> str:
    command = command_of("rollback_delay", arguments)
    rows = []
    for name, values in (
        ("decided: the look whose evidence reached the limit", [d.decided for d in delays]),
        ("counted: the last look below the limit", [d.counted for d in delays]),
        ("counted, strictly: the look before that one", [d.counted_strictly for d in delays]),
    ):
        rows.append((name, *(f"{value:.3f}" for value in quantiles(values))))
    lines = [
        "# From proof to 0 %",
        "",
        conditions(command, [commit()]),
        "",
        f"{len(delays)} rollouts were rolled back while they had users, at {min((d.weight_percent for d in delays), default=0)} to "
        f"{max((d.weight_percent for d in delays), default=0)} %; {len(without)} gave nothing to measure.",
        "",
        table(("seconds until Envoy shows 0 %, from", "p50", "p95", "max"), rows),
        "",
        "What is measured: the head of benchmarks/rollback_delay.py.",
        *(f"- {one}" for one in without),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
