"""Rollouts of the world on paper (`tests.unit.rollout.world`), stored tick by tick as a real driver stores them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from relevo.reconcile.snapshot import Snapshot, take_snapshot
from relevo.rollout.spec import Rollout
from relevo.store.rollouts import RolloutStore
from tests.unit.rollout.world import START, World

TICK_SECONDS = 0.4


def snapshots(
    world: World, ticks: int = 400, before_tick: Callable[[World, int], None] | None = None
) -> list[Snapshot]:
    """Drive a world until its rollout has ended, or for so many ticks."""
    taken = []
    for i in range(ticks):
        if before_tick:
            before_tick(world, i)
        seen = world.observe()
        taken.append(take_snapshot(world.spec, world.tick(), seen, world.now))
        world.pass_time(TICK_SECONDS)
        if world.state.phase.is_terminal:
            break
    return taken


def record(
    home: Path,
    world: World,
    ticks: int = 400,
    before_tick: Callable[[World, int], None] | None = None,
    *,
    samples: bool = True,
) -> RolloutStore:
    """The same, stored under `home`."""
    store = RolloutStore(home)
    rollout = Rollout.model_validate({"metadata": {"name": world.spec.target}, "spec": world.spec})
    stored = store.create(rollout, world.state, START)
    stored = store.acquire(stored.state.uid, "test", now=START.timestamp(), seconds=10)
    for taken in snapshots(world, ticks, before_tick):
        decision = world.decisions.pop(0)
        stored = store.save(
            stored,
            decision.state,
            decision.transitions,
            sample=taken.sample() if samples else None,
            at=taken.at,
            lease_until=taken.at.timestamp() + 10,
        )
    return store
