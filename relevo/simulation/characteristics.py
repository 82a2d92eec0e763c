"""The operating characteristics of a policy: a whole grid of effects, each simulated many times, on as many processes as wanted.

The runs are cut into chunks, each with a seed of its own that depends on nothing but the seed given, the effect and the chunk, so the
number of processes changes nothing. All effects get on evenly: what is stopped in the middle still has something to say of each.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from relevo.errors import BadInput
from relevo.simulation.engine import simulate
from relevo.simulation.outcomes import Outcomes, Summary, summarise
from relevo.simulation.traffic import Effect
from relevo.simulation.world import World

__all__ = ["CHUNK", "Characteristics", "characteristics"]

CHUNK = 500
"""Rollouts simulated at once: enough for arrays to pay, few enough to stay in the processor's cache."""

Progress = Callable[[int, int], None]
_Task = tuple[int, World, int, np.random.SeedSequence]


@dataclass(slots=True)
class Characteristics:
    """What came of the simulated rollouts, by effect."""

    effects: tuple[Effect, ...]
    runs: int
    """Asked for, per effect."""
    outcomes: dict[int, list[Outcomes]] = field(default_factory=dict)
    stopped: bool = False
    """Whether it was stopped before all runs were done."""

    @property
    def rows(self) -> Iterator[tuple[Effect, Summary]]:
        """Of each effect of which at least one chunk is done."""
        for index, effect in enumerate(self.effects):
            if parts := self.outcomes.get(index):
                yield effect, summarise(Outcomes.joined(parts))

    def as_dicts(self) -> list[dict[str, Any]]:
        """For JSON and YAML. What is wrong is named: a rollback of a healthy candidate, the promotion of a worse one."""
        rows = []
        for effect, summary in self.rows:
            numbers = summary.as_dict()
            wrong = numbers["promoted"] if effect.is_regression else numbers["rolled_back"]
            rows.append(
                {
                    "effect": effect.name,
                    "missed_regression" if effect.is_regression else "wrong_rollback": wrong,
                    **numbers,
                }
            )
        return rows


def characteristics(
    world: World,
    effects: Sequence[Effect],
    runs: int,
    seed: int,
    *,
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> Characteristics:
    """Simulate `runs` rollouts of each effect. `world.effect` is replaced. A KeyboardInterrupt ends it early, with what is done.

    Raises BadInput: fewer than one run or process, or an effect that this traffic cannot have.
    """
    for name, value in (("runs", runs), ("jobs", jobs)):
        if value < 1:
            raise BadInput(f"{name}: {value} is not at least 1", next_step="Give a whole number above 0.")
    if seed < 0:
        raise BadInput(f"seed: {seed} is negative", next_step="Give a whole number of at least 0.")
    result = Characteristics(tuple(effects), runs)
    tasks = list(_tasks([replace(world, effect=effect) for effect in effects], runs, seed))
    done = 0
    try:
        for index, outcomes in _done(tasks, jobs):
            result.outcomes.setdefault(index, []).append(outcomes)
            done += 1
            progress(done, len(tasks))
    except KeyboardInterrupt:
        result.stopped = True
    return result


def _tasks(worlds: Sequence[World], runs: int, seed: int) -> Iterator[_Task]:
    for chunk, begin in enumerate(range(0, runs, CHUNK)):
        for index, world in enumerate(worlds):
            yield index, world, min(CHUNK, runs - begin), np.random.SeedSequence(seed, spawn_key=(index, chunk))


def _done(tasks: Sequence[_Task], jobs: int) -> Iterator[tuple[int, Outcomes]]:
    """In the order of the tasks, so that the result does not depend on who was faster."""
    if jobs == 1 or len(tasks) == 1:
        yield from map(_run, tasks)
        return
    # Not forked: the parent may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool:
        try:
            with _interrupts_kept():
                results = pool.map(_run, tasks)
            yield from results
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(task: _Task) -> tuple[int, Outcomes]:
    index, world, runs, seed = task
    return index, simulate(world, runs, seed)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Keep Ctrl-C for later. Processes started meanwhile never hear it: it is the parent's, who then takes what is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
