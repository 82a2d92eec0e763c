"""One tick and the loop around it, with platform and sources on paper: what is stored before it is done, what failing parts cost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from relevo.errors import BadInput, Conflict, Permanent, Transient
from relevo.evidence.source import LoadPlan
from relevo.reconcile.driver import GIVE_UP_SECONDS, Driver, is_dead, me, take
from relevo.reconcile.smoke import SmokeTest
from relevo.reconcile.tick import Reconciler, Tick
from relevo.rollout.commands import Verb
from relevo.rollout.decision import Desired
from relevo.rollout.observation import Arm, Reading, Routes, Silence, Smoke
from relevo.rollout.platform import ModelRef, Split
from relevo.rollout.spec import Rollout, parse_rollout
from relevo.rollout.state import Cause, Phase, Verdict
from relevo.store.rollouts import Record, RolloutStore
from tests.unit.rollout.world import START, Behaviour, World, make_spec


class NoSmoke(SmokeTest):
    """Every row is answered."""

    def run(self, address: str) -> Smoke:
        return Smoke(3, 0)


@dataclass
class FakeParts:
    """A world behind the seams: platform, load generator and sources in one. `fail` may raise at any call, by its name."""

    world: World
    fail: Callable[[str], None] = lambda _: None
    calls: list[str] = field(default_factory=list)

    def observe(self, target: str) -> Routes:
        self.fail("observe")
        return self.world.observe().routes

    def prepare(self, target: str, candidate: ModelRef) -> None:
        self._do("prepare", Desired(prepare=True))

    def set_weight(self, target: str, split: Split) -> None:
        self._do(f"set_weight {split.weight_percent}", Desired(split=split))

    def settle(self, target: str, keep: Arm) -> None:
        self._do(f"settle {keep}", Desired(keep=keep))

    def announce(self, label: str) -> None:
        """The proxy of this world stamps its answers itself."""

    def ensure(self, plan: LoadPlan) -> None:
        shadow = plan.shadow.label if plan.shadow else None
        self.world.make_so(Desired(users=plan.users, shadow_label=shadow))

    def _do(self, call: str, wish: Desired) -> None:
        self.fail(call)
        self.calls.append(call)
        self.world.make_so(wish)


@dataclass
class FakeSource:
    world: World
    name: str

    def read(self) -> Reading | Silence:
        return next(e for e in self.world.observe().evidence if e.source == self.name)


@dataclass
class Bench:
    """All that a driver needs, and its record."""

    store: RolloutStore
    world: World
    parts: FakeParts
    reconciler: Reconciler
    record: Record
    troubles: list[str] = field(default_factory=list)

    def drive(self, stop_when: Callable[[Tick], bool] = lambda _: False) -> Record:
        def sleep(_: float) -> None:
            self.world.pass_time(0.5)
            assert self.world.now - START < timedelta(minutes=20), "it does not end"

        driver = Driver(
            self.reconciler, on_tick=lambda _: None, on_trouble=self.troubles.append, stop_when=stop_when, sleep=sleep
        )
        return driver.run(self.record)


def make_rollout() -> Rollout:
    document = {
        "metadata": {"name": "iris"},
        "spec": make_spec(shadow={"enabled": False}).model_dump(by_alias=True, mode="json"),
    }
    return parse_rollout(document, where="test")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A rollout that this process drives."""
    rollout = make_rollout()
    world = World(rollout.spec)
    parts = FakeParts(world)
    store = RolloutStore(tmp_path)
    store.create(rollout, world.state, START)
    sources = (FakeSource(world, "locust"), FakeSource(world, "envoy"))
    reconciler = Reconciler(store, parts, sources, parts, NoSmoke("iris", "x", []), lambda: world.now)
    yield Bench(store, world, parts, reconciler, take(store, "u1", now=world.now.timestamp()))
    store.close()


def test_a_rollout_is_driven_to_its_verdict_and_the_lease_given_back(bench: Bench) -> None:
    """The driver ends with the stored verdict, and leaves no lease behind."""
    record = bench.drive()
    assert record.state.verdict is Verdict.PASS
    stored = bench.store.get("u1")
    assert (stored.state, stored.driver) == (record.state, "")
    assert bench.parts.calls[0] == "prepare"
    assert bench.parts.calls[-1].startswith("settle candidate")


def test_nothing_is_done_that_was_not_stored(bench: Bench) -> None:
    """When the store cannot take the decision, the world is not touched."""
    record = bench.reconciler.tick(bench.record).record
    stale = bench.record
    bench.parts.calls.clear()
    with pytest.raises(Conflict):
        bench.reconciler.tick(stale)
    assert bench.parts.calls == []
    assert bench.store.get("u1").version == record.version


def test_trouble_with_the_platform_is_told_and_tried_again(bench: Bench) -> None:
    """Transient errors, while looking or while acting, cost ticks and never the verdict."""
    count = 0

    def sometimes(call: str) -> None:
        nonlocal count
        count += 1
        if count % 3 == 0:
            raise Transient(f"{call}: not now")

    bench.parts.fail = sometimes
    assert bench.drive().state.verdict is Verdict.PASS
    assert any("not now" in trouble for trouble in bench.troubles)


def test_a_platform_that_fails_for_long_ends_the_driver_and_not_the_rollout(bench: Bench) -> None:
    """After GIVE_UP_SECONDS the error is raised; the rollout stays as stored and its lease is free."""

    def gone(call: str) -> None:
        raise Transient("platform: gone")

    bench.parts.fail = gone
    with pytest.raises(Transient, match="gone") as raised:
        bench.drive()
    assert "Given up after 60 s; the rollout stays Pending" in raised.value.message
    assert "`relevo deploy-canary iris` goes on" in raised.value.next_step
    assert bench.world.now - START > timedelta(seconds=GIVE_UP_SECONDS)
    assert bench.store.get("u1").state.phase is Phase.PENDING
    assert bench.store.get("u1").driver == ""


def test_a_store_that_fails_too_does_not_hide_the_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What made the driver end is what is raised, even when the lease cannot be given back."""

    def refuse(call: str) -> None:
        raise Permanent("platform: broken")

    def full(record: Record) -> None:
        raise Transient("disk: full")

    bench.parts.fail = refuse
    monkeypatch.setattr(bench.store, "release", full)
    with pytest.raises(Permanent, match="broken"):
        bench.drive()


def test_a_candidate_that_the_platform_refuses_is_rolled_back(bench: Bench) -> None:
    """A package that cannot be taken is no internal error: the rollout ends, and says what was wrong."""

    def refuse(call: str) -> None:
        if call == "prepare":
            raise BadInput("package: a digest is wrong")

    bench.parts.fail = refuse
    state = bench.drive().state
    assert (state.phase, state.cause) == (Phase.ROLLED_BACK, Cause.NOT_READY)
    assert "a digest is wrong" in state.reason


def test_another_process_goes_on_where_this_one_stopped(bench: Bench) -> None:
    """Stopped at a step, the rollout is taken up from the store by a driver with no memory, and ends in the same verdict."""
    stopped = bench.drive(stop_when=lambda tick: tick.record.state.step == 2)
    assert stopped.state.step == 2
    bench.record = take(bench.store, "u1", now=bench.world.now.timestamp())
    assert bench.drive().state.verdict is Verdict.PASS


def test_an_order_is_heard_at_the_next_tick(bench: Bench) -> None:
    """An order in the store is obeyed once, and its author is in the audit log."""
    bench.store.order("u1", Verb.ROLLBACK, by="someone", at=START)
    assert bench.drive().state.cause is Cause.ORDERED
    assert [t.who for t in bench.store.transitions("u1") if t.rule == "ordered"] == ["someone"]


def test_a_bad_candidate_is_rolled_back_through_the_seams(bench: Bench) -> None:
    """The verdict fail reaches the platform as all traffic to the stable revision."""
    bench.world.candidate = Behaviour(errors=0.2)
    assert bench.drive().state.verdict is Verdict.FAIL
    assert bench.parts.calls[-1].startswith("settle stable")


def test_this_process_is_alive_and_an_ended_one_is_dead() -> None:
    """A driver is dead only when its process is known to be gone; a name that says nothing, or of another host, is not."""
    assert not is_dead(me())
    host = me().split(":")[0]
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = f"{host}:{child.pid}:{psutil.Process(child.pid).create_time():.2f}"
    assert not is_dead(name)
    child.kill()
    child.wait()
    assert is_dead(name)
    assert is_dead(f"{host}:{os.getpid()}:1.00")  # the id is used again by a younger process
    assert not is_dead("elsewhere:1:1.00")
    assert not is_dead("")
    assert not is_dead(f"{host}:x:y")


def test_a_living_driver_is_not_robbed_and_a_dead_one_is(bench: Bench) -> None:
    """`take` is refused while the holder lives, and succeeds at once when its process is gone."""
    bench.store.release(bench.record)
    now = START.timestamp()
    host = me().split(":")[0]
    bench.store.acquire("u1", "elsewhere:1:1.00", now=now, seconds=10)
    with pytest.raises(Conflict):
        take(bench.store, "u1", now=now)
    bench.store.acquire("u1", f"{host}:{os.getpid()}:1.00", now=now + 11, seconds=10)
    assert take(bench.store, "u1", now=now + 11).driver == me()
