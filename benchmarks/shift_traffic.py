"""Does a user's request ever fail because a weight changes, and how soon does a change take effect?

`python -m benchmarks.shift_traffic [--requests 200000] [--changes 50]`

Two real model servers behind Envoy, in a RELEVO_HOME of its own. Client processes of our own (http.client, keep-alive, one request per
connection at a time, never repeated) send single held-out rows as fast as they are answered, while `LocalPlatform.set_weight` goes through
the weights in turn, each with a label of its own, which Envoy stamps on what it routes by it. Every answer is kept with when it was sent,
when it came, its label, and whom Envoy chose. Clients and this process share one monotonic clock. Per change, from the call of set_weight:

- returned: until the call came back;
- first new: until the first answer with the new label had come;
- last old: until the last request was sent that was still routed by an older label. This is when the change is fully effective.

A request fails when it has no answer or another status than 200. Also counted: requests that Envoy gave to a revision without weight.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.measure import command_of, publish, quantiles, table
from relevo.packaging import resolve
from relevo.platforms.local.platform import LocalPlatform
from relevo.rollout.platform import ModelRef, Split
from scripts.arena import Arena, ArenaError, open_arena, say
from scripts.soak_results import commit, conditions
from scripts.users import Client, read_bodies

__all__ = ["Change", "Sent", "effects", "main", "parser", "prepared", "under_load"]

WEIGHTS = (1, 10, 50, 100, 50, 10, 1, 0)
LONGEST_SECONDS = 1500.0
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One request. Times are of the monotonic clock, in seconds."""

    sent_at: float
    answered_at: float
    change: int
    """Number of the change by whose split it was routed, from its label; -1 for an answer without one."""
    assigned: str
    status: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One call of set_weight."""

    weight_percent: int
    called_at: float
    returned_at: float


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 when no request failed and none went astray."""
    options = parser("shift_traffic", __doc__, changes=50, every=2.0).parse_args(arguments)
    try:
        with open_arena("iris", options.home, None, None) as arena:
            arena.train(["healthy"])
            arena.up()
            changes, sent, revisions = _measure(arena, options)
    except ArenaError as error:
        say(f"error: {error}")
        return 1
    page, fine = _page(changes, sent, revisions, command_of("shift_traffic", arguments))
    publish(page, options.output)
    return 0 if fine else 1


def parser(name: str, head: str | None, *, changes: int, every: float) -> argparse.ArgumentParser:
    """The arguments of a benchmark that changes routes under load, with its own defaults."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(head or "").partition("\n")[0])
    made.add_argument("--requests", type=int, default=200_000, help="at least")
    made.add_argument("--changes", type=int, default=changes, help="at least")
    made.add_argument("--every", type=float, default=every, help="seconds between two changes")
    made.add_argument("--processes", type=int, default=2, help="of the client")
    made.add_argument("--connections", type=int, default=4, help="per process")
    made.add_argument("--home", type=Path, help="RELEVO_HOME with packages; a temporary folder unless given")
    made.add_argument("--output", type=Path, help="write the page there too")
    return made


def _measure(arena: Arena, options: argparse.Namespace) -> tuple[list[Change], list[Sent], tuple[str, str]]:
    platform = LocalPlatform(arena.home, resolve=resolve)
    label = f"bench-{time.time():.0f}"

    def change(number: int) -> Change:
        return _change(platform, arena.model, label, number, WEIGHTS[(number - 1) % len(WEIGHTS)] if number else 0)

    try:
        revisions = prepared(platform, arena)
        return *under_load(arena, options, label, change), revisions
    finally:
        platform.close()


def under_load(
    arena: Arena, options: argparse.Namespace, label: str, change: Callable[[int], Change]
) -> tuple[list[Change], list[Sent]]:
    """Make change after change, numbered from 0, while clients send: until both numbers of the options are reached.

    Raises:
        ArenaError: a client ended, or it takes too long.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    counts = [context.Value("q", 0, lock=False) for _ in range(options.processes)]
    pipes, processes = [], []
    try:
        changes = [change(0)]
        for count in counts:
            ours, theirs = context.Pipe(duplex=False)
            work = (arena.port, arena.model, str(arena.rows), options.connections, label, stop, count, theirs)
            processes.append(context.Process(target=_client, args=work))
            processes[-1].start()
            theirs.close()
            pipes.append(ours)
        deadline = time.monotonic() + LONGEST_SECONDS
        while any(count.value == 0 for count in counts):
            _require_alive(processes, deadline)
            time.sleep(0.05)
        began = time.monotonic()
        for number in itertools.count(1):
            time.sleep(max(began + number * options.every - time.monotonic(), 0.0))
            _require_alive(processes, deadline)
            done = sum(count.value for count in counts)
            if done >= options.requests and number > options.changes:
                break
            changes.append(change(number))
            if number % 10 == 0:
                say(f"{number} changes, {done:,} requests, {done / (time.monotonic() - began):.0f}/s")
        stop.set()
        sent = [Sent(*one) for pipe in pipes for one in pipe.recv()]
        for process in processes:
            process.join(30)
        return changes, sent
    finally:
        stop.set()
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()


def prepared(platform: LocalPlatform, arena: Arena) -> tuple[str, str]:
    """Both revisions' names, once the candidate is ready."""
    platform.prepare(arena.model, ModelRef(f"oci://dev.local/{arena.model}:2"))
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        routes = platform.observe(arena.model)
        if routes.candidate is not None and routes.candidate.ready:
            return routes.stable.name, routes.candidate.name
        time.sleep(0.1)
    raise ArenaError(f"the candidate is not ready within {READY_SECONDS:g} s")


def _change(platform: LocalPlatform, model: str, label: str, number: int, weight: int) -> Change:
    called_at = time.monotonic()
    platform.set_weight(model, Split(weight, f"{label}/{number}"))
    return Change(weight, called_at, time.monotonic())


def _require_alive(processes: Sequence[Any], deadline: float) -> None:
    if dead := [process for process in processes if not process.is_alive()]:
        raise ArenaError(f"a client process ended with {dead[0].exitcode}")
    if time.monotonic() > deadline:
        raise ArenaError(f"not done within {LONGEST_SECONDS:g} s")


def _client(
    port: int, model: str, rows: str, connections: int, label: str, stop: Any, count: Any, result: Connection
) -> None:
    """A client process: `connections` threads; what became of each request goes back as plain tuples at the end."""
    bodies = read_bodies(Path(rows))
    sent: list[list[tuple[float, float, int, str, int, str]]] = [[] for _ in range(connections)]

    def run(mine: list[tuple[float, float, int, str, int, str]], first: int) -> None:
        client = Client(port, model)
        for body in itertools.islice(itertools.cycle(bodies), first, None):
            if stop.is_set():
                break
            sent_at = time.monotonic()
            answer = client.send(body)
            name, _, number = answer.label.partition("/")
            change = int(number) if name == label and number.isdigit() else -1
            mine.append((sent_at, time.monotonic(), change, answer.assigned, answer.status, answer.problem))
            if first == 0:
                count.value = sum(map(len, sent))
        client.close()

    threads = [Thread(target=run, args=(mine, first)) for first, mine in enumerate(sent)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.send([one for mine in sent for one in mine])


@dataclass(frozen=True, slots=True)
class Effect:
    """How soon one change took effect, in seconds from the call."""

    returned: float
    first_new: float
    last_old: float


def effects(changes: Sequence[Change], sent: Sequence[Sent]) -> list[Effect]:
    """One per change after the first that some answer bears the label of; 0 where no older answer was sent after the call."""
    first_answer: dict[int, float] = {}
    last_sent: dict[int, float] = defaultdict(float)
    for one in sent:
        if one.change >= 0:
            first_answer[one.change] = min(first_answer.get(one.change, one.answered_at), one.answered_at)
            last_sent[one.change] = max(last_sent[one.change], one.sent_at)
    found = []
    last_older = last_sent[0]
    for number, change in list(enumerate(changes))[1:]:
        if number in first_answer:
            at = change.called_at
            found.append(Effect(change.returned_at - at, first_answer[number] - at, max(last_older - at, 0.0)))
        last_older = max(last_older, last_sent[number])
    return found


def _page(
    changes: Sequence[Change], sent: Sequence[Sent], revisions: tuple[str, str], command: str
) -> tuple[str, bool]:
    failed = Counter(one.problem or str(one.status) for one in sent if one.status != 200)
    weights = {number: change.weight_percent for number, change in enumerate(changes)}
    no_weight = {revisions[1]: 0, revisions[0]: 100}
    astray = sum(weights.get(one.change) == no_weight.get(one.assigned, -1) for one in sent)
    unlabelled = sum(one.change < 0 for one in sent if one.status == 200)
    seconds = max(one.answered_at for one in sent) - min(one.sent_at for one in sent)
    took = effects(changes, sent)
    rows = []
    for name, values in (
        ("set_weight has returned", [e.returned for e in took]),
        ("first answer by the new split", [e.first_new for e in took]),
        ("last request sent by an old split", [e.last_old for e in took]),
    ):
        rows.append((name, *(f"{1000 * value:.0f}" for value in quantiles(values))))
    shares = []
    for weight in sorted(set(weights.values())):
        mine = [one.assigned == revisions[1] for one in sent if weights.get(one.change) == weight]
        shares.append((f"{weight} %", f"{len(mine):,}", f"{100 * sum(mine) / max(len(mine), 1):.2f} %"))
    lines = [
        "# Shifting traffic",
        "",
        conditions(command, [commit()]),
        "",
        f"{len(sent):,} requests in {seconds:.0f} s ({len(sent) / seconds:.0f}/s) while the weight changed {len(changes) - 1} times: "
        f"{sum(failed.values())} failed{f' ({dict(failed)})' if failed else ''}, {astray} went to a revision without weight, "
        f"{unlabelled} answers had no label.",
        "",
        table(("milliseconds from the call of set_weight until", "p50", "p95", "max"), rows),
        "",
        table(("weight set", "requests", "share that the candidate got"), shares),
        "",
        "What is measured: the head of benchmarks/shift_traffic.py.",
    ]
    return "\n".join(lines) + "\n", not failed and not astray and not unlabelled


if __name__ == "__main__":
    sys.exit(main())
