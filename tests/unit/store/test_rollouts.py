"""Rollouts in SQLite: what is stored comes back, two processes cannot drive one rollout, and a bad file or disk loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relevo.errors import Conflict, Permanent, Transient
from relevo.rollout.commands import Verb
from relevo.rollout.decision import Transition
from relevo.rollout.spec import Rollout, parse_rollout
from relevo.rollout.state import Phase, RolloutState, dump_state, load_state
from relevo.store.rollouts import Record, RolloutStore
from tests.unit.rollout.world import Behaviour, World, make_spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LINE = Transition(NOW, "relevo", "start", "Pending", "Preparing", "It begins.", {"e_against": 1.5})


def make_rollout(target: str = "iris") -> Rollout:
    document = {"metadata": {"name": target}, "spec": {"target": target, "storageUri": "oci://x/iris:2"}}
    return parse_rollout(document, where="test")


def make_state(uid: str = "u1") -> RolloutState:
    return replace(World(make_spec()).state, uid=uid)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RolloutStore]:
    """An empty store."""
    store = RolloutStore(tmp_path / "home")
    yield store
    store.close()


def driven(store: RolloutStore, driver: str = "d1") -> Record:
    store.create(make_rollout(), make_state(), NOW)
    return store.acquire("u1", driver, now=1000.0, seconds=10)


def test_every_state_of_a_rollout_survives_json() -> None:
    """A state read back from JSON equals the one stored, at every tick from the first to the verdict."""
    world = World(make_spec(), Behaviour(errors=0.05))
    world.run()
    world.silent.add("locust")
    for decision in world.decisions:
        assert load_state(dump_state(decision.state)) == decision.state


def test_what_is_stored_comes_back(store: RolloutStore) -> None:
    """State, transitions, samples and orders are read as they were written, oldest first."""
    record = driven(store)
    after = replace(record.state, phase=Phase.PREPARING, candidate="iris-predictor-00002")
    saved = store.save(record, after, [LINE], sample={"step": 1}, at=NOW, lease_until=1020.0)
    first = store.order("u1", Verb.PAUSE, by="someone", at=NOW)
    second = store.order("u1", Verb.RESUME, by="someone", at=NOW)
    assert store.get("u1") == saved
    assert store.get("u1").state == after
    assert store.transitions("u1") == [LINE]
    assert store.samples("u1") == [{"step": 1}]
    assert store.commands("u1", 0) == (first, second)
    assert store.commands("u1", first.seq) == (second,)


def test_one_rollout_of_a_target_at_a_time(store: RolloutStore) -> None:
    """A second rollout of a target is refused until the first has ended; another target's is not."""
    record = driven(store)
    with pytest.raises(Conflict, match=r"iris: a rollout to oci://x/iris:2 \(Pending\) has not ended"):
        store.create(make_rollout(), make_state("u2"), NOW)
    store.create(make_rollout("digits"), make_state("u3"), NOW)
    store.save(record, replace(record.state, phase=Phase.ROLLED_BACK), [], at=NOW, lease_until=0)
    store.create(make_rollout(), make_state("u4"), NOW)


def test_a_stale_writer_stores_nothing(store: RolloutStore) -> None:
    """Who read the state before somebody else changed it gets a Conflict, and neither state nor transition nor sample is stored."""
    record = driven(store)
    store.save(record, replace(record.state, step=1), [], at=NOW, lease_until=1010.0)
    with pytest.raises(Conflict, match="another process drives"):
        store.save(record, replace(record.state, step=2), [LINE], sample={}, at=NOW, lease_until=1010.0)
    assert store.get("u1").state.step == 1
    assert store.transitions("u1") == []
    assert store.samples("u1") == []


def test_a_living_driver_keeps_its_lease(store: RolloutStore) -> None:
    """While the lease runs, another driver is refused; its own may renew; once it has run out anybody may take it."""
    driven(store)
    with pytest.raises(Conflict, match="d1 drives this rollout already"):
        store.acquire("u1", "d2", now=1009.0, seconds=10)
    store.acquire("u1", "d1", now=1005.0, seconds=10)
    assert store.acquire("u1", "d2", now=1016.0, seconds=10).driver == "d2"


def test_a_dead_driver_loses_its_lease_at_once_and_can_store_nothing_more(store: RolloutStore) -> None:
    """An abandoned lease is taken at any time, and what the old driver still tries to store is refused."""
    old = driven(store)
    store.acquire("u1", "d2", now=1000.1, seconds=10, abandoned=True)
    with pytest.raises(Conflict):
        store.save(old, old.state, [LINE], at=NOW, lease_until=1010.0)
    store.release(old)
    assert store.get("u1").driver == "d2"


def test_a_full_disk_changes_nothing_and_can_be_tried_again(store: RolloutStore) -> None:
    """With no room left the save is a Transient error and the stored state is the one before; with room it succeeds."""
    record = driven(store)
    connection = store._database._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Transient, match="the disk is full; nothing was changed"):
        store.save(record, replace(record.state, step=1), [LINE], sample={"x": "y" * 100_000}, at=NOW, lease_until=0)
    assert store.get("u1").state == record.state
    assert store.transitions("u1") == []
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.save(record, replace(record.state, step=1), [LINE], at=NOW, lease_until=0).state.step == 1


@pytest.mark.parametrize(
    "content",
    [b"this is no database, though it is long enough to be one" * 40, b"SQLite format 3\x00" + b"\xff" * 4096],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """A file that is no database of ours is refused by its name, and not a byte of it is changed."""
    path = tmp_path / "relevo.db"
    path.write_bytes(content)
    store = RolloutStore(tmp_path)
    with pytest.raises(Permanent, match=r"relevo\.db"):
        store.find()
    store.close()
    assert path.read_bytes() == content


def test_another_versions_file_is_refused(tmp_path: Path) -> None:
    """A file of another schema is not touched: the message says which version wrote it."""
    connection = sqlite3.connect(tmp_path / "relevo.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Permanent, match="schema 99, this one knows 1"):
        RolloutStore(tmp_path).find()


def test_a_state_of_another_version_is_refused(store: RolloutStore) -> None:
    """A stored state that this version cannot read is a Permanent error that names the rollout, not a traceback."""
    driven(store)
    with store._database.transaction() as connection:
        connection.execute("""UPDATE rollouts SET state = '{"uid": 3}'""")
    with pytest.raises(Permanent, match="rollout u1: was stored by another version"):
        store.get("u1")


def _refused(home: str) -> None:
    """Exit status 0 if writing is refused as it should be."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)  # to root nothing is read-only
    try:
        RolloutStore(Path(home)).create(make_rollout("other"), make_state("u9"), NOW)
    except Permanent as error:
        os._exit(0 if "cannot be written" in error.message else 1)
    os._exit(2)


def test_a_read_only_file_is_refused() -> None:
    """A state file that cannot be written is a Permanent error that says so and what to do."""
    with tempfile.TemporaryDirectory() as home:
        store = RolloutStore(Path(home))
        store.create(make_rollout(), make_state(), NOW)
        store.close()
        for path in Path(home).iterdir():
            path.chmod(0o444)
        Path(home).chmod(0o555)
        process = multiprocessing.get_context("fork").Process(target=_refused, args=(home,))
        process.start()
        process.join(20)
        Path(home).chmod(0o755)
        assert process.exitcode == 0


def _create(home: str, uid: str, barrier: multiprocessing.synchronize.Barrier) -> None:
    barrier.wait(20)
    try:
        RolloutStore(Path(home)).create(make_rollout(), make_state(uid), NOW)
    except Conflict:
        os._exit(3)
    os._exit(0)


def test_of_two_processes_that_create_at_once_one_wins(tmp_path: Path) -> None:
    """Two first calls in a new folder at the same moment: one stores its rollout, the other is told that one runs."""
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        barrier = context.Barrier(2)
        home = str(tmp_path / str(attempt))
        processes = [context.Process(target=_create, args=(home, uid, barrier)) for uid in ("a", "b")]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
        assert sorted(p.exitcode or 0 for p in processes) == [0, 3]
