"""scripts.records: the store's file, read by someone else than relevo, says what relevo's own reading of it says."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from relevo.cli.exit_codes import exit_code_of
from relevo.reconcile.driver import me
from relevo.rollout.decision import Transition
from relevo.rollout.observation import RevisionStatus
from relevo.rollout.spec import parse_rollout
from relevo.rollout.state import Cause, Phase, RolloutState, Verdict, new_state
from relevo.store.rollouts import Record, RolloutStore
from scripts.records import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def begin(home: Path) -> tuple[RolloutStore, Record]:
    """A rollout that this process drives."""
    store = RolloutStore(home)
    spec = {"target": "iris", "storageUri": "oci://dev.local/iris:2"}
    rollout = parse_rollout({"metadata": {"name": "iris"}, "spec": spec}, where="the test")
    stable = RevisionStatus("iris-predictor-00001", "oci://dev.local/iris:1", ready=True)
    store.create(rollout, new_state("iris-1", stable, NOW), NOW)
    return store, store.acquire("iris-1", me(), now=NOW.timestamp(), seconds=10)


def save(store: RolloutStore, record: Record, state: RolloutState) -> Record:
    """Store a state with one transition and one sample."""
    transition = Transition(NOW, "relevo", "rule", record.state.phase.value, state.phase.value, "because")
    return store.save(record, state, [transition], sample={"e_against": 1.0}, at=NOW, lease_until=0)


def test_where_nothing_is_stored_there_is_nothing(tmp_path: Path) -> None:
    """Before the first rollout, also before the file is there, nothing is found and nothing made."""
    store = Store(tmp_path / "relevo.db")
    assert (store.count(), store.last(), store.progress()) == (0, None, ("", "", 0))
    assert not (tmp_path / "relevo.db").exists()


def test_the_driver_and_every_transition_are_seen(tmp_path: Path) -> None:
    """Who drives and how many transitions there are is seen while the rollout runs."""
    writer, record = begin(tmp_path)
    reader = Store(tmp_path / "relevo.db")
    assert reader.progress() == ("iris-1", me(), 0)
    save(writer, record, replace(record.state, phase=Phase.PREPARING))
    assert reader.progress()[2] == 1
    last = reader.last()
    assert last is not None
    assert (last.driver_pid, last.phase, last.exit_code) == (os.getpid(), "Preparing", None)
    assert reader.transitions("iris-1")[0]["after"] == "Preparing"
    assert reader.samples("iris-1") == [{"e_against": 1.0}]


def test_the_exit_code_is_the_documented_one(tmp_path: Path) -> None:
    """For every end of a rollout the exit code that is read from the file is the one that relevo ends with."""
    ends = [
        (Phase.PROMOTED, Verdict.PASS, Cause.EVIDENCE, "evidence"),
        (Phase.ROLLED_BACK, Verdict.FAIL, Cause.EVIDENCE, "errors"),
        (Phase.ROLLED_BACK, Verdict.INCONCLUSIVE, Cause.LIMIT, "limit"),
        (Phase.ROLLED_BACK, None, Cause.ORDERED, "ordered"),
    ]
    for number, (phase, verdict, cause, shown) in enumerate(ends):
        writer, record = begin(tmp_path / str(number))
        state = replace(record.state, phase=phase, verdict=verdict, cause=cause, reason="errors. It failed 3 of 4.")
        save(writer, record, state)
        last = Store(tmp_path / str(number) / "relevo.db").last()
        assert last is not None
        assert (last.exit_code, last.cause) == (exit_code_of(state), shown)
