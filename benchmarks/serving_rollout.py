"""How long a user waits at half and at nine tenths of what a server can do: alone, and behind Envoy while a rollout shifts traffic.

Used by `benchmarks.serving`. An open loop: requests come at their rate whatever becomes of the others. Behind Envoy are two real model
servers on the same cores as Envoy and the load, so its capacity is its own; the weight changes every second as in a rollout.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.serving_load import Load, send_load, send_steadily
from benchmarks.shift_traffic import WEIGHTS, prepared
from relevo.packaging import resolve
from relevo.platforms.local.platform import LocalPlatform
from relevo.rollout.platform import Split
from scripts.arena import open_arena
from scripts.users import read_bodies

__all__ = ["alone", "during_rollout"]

SHARES = (0.5, 0.9)
_CONNECTIONS = 64
_WARM_UP_SECONDS = 1.0
_CHANGE_SECONDS = 1.0

Line = tuple[str, str, str, str, str, str]
"""Where, share of the capacity, requests/s asked for, answered, p50 ms, p99 ms."""


def alone(load: Load, seconds: float) -> list[Line]:
    """One server, asked directly."""
    return _steadily("one server, one core", load, seconds, _capacity(load, seconds))


def during_rollout(seconds: float) -> list[Line]:
    """Two servers behind Envoy, with all traffic at one of them, and while the weights change."""
    with open_arena("iris", None, None, None) as arena:
        arena.train(["healthy"])
        arena.up()
        platform = LocalPlatform(arena.home, resolve=resolve)
        try:
            prepared(platform, arena)
            load = Load(arena.port, f"/v2/models/{arena.model}/infer", read_bodies(arena.rows)[0], seconds=seconds)
            capacity = _capacity(load, seconds)
            found = _steadily("behind Envoy, no rollout", load, seconds, capacity)
            with _shifting(platform, arena.model):
                found += _steadily("behind Envoy, weights shifting", load, seconds, capacity)
            return found
        finally:
            platform.close()


def _capacity(load: Load, seconds: float) -> float:
    send_load(replace(load, seconds=_WARM_UP_SECONDS))
    return send_load(replace(load, seconds=seconds)).per_second


def _steadily(where: str, load: Load, seconds: float, capacity: float) -> list[Line]:
    lines = []
    for share in SHARES:
        asked = share * capacity
        found = send_steadily(replace(load, seconds=seconds, connections=_CONNECTIONS), asked)
        lines.append(
            (
                where,
                f"{share:.0%}",
                f"{asked:,.0f}",
                f"{found.per_second:,.0f}",
                f"{found.p50_ms:.2f}",
                f"{found.p99_ms:.2f}",
            )
        )
    return lines


@contextmanager
def _shifting(platform: LocalPlatform, model: str) -> Iterator[None]:
    stop = threading.Event()
    label = f"bench-{time.time():.0f}"

    def run() -> None:
        for number, weight in enumerate(itertools.cycle(WEIGHTS)):
            platform.set_weight(model, Split(weight, f"{label}/{number}"))
            if stop.wait(_CHANGE_SECONDS):
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
