"""What is said while a rollout runs and when it has ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from relevo.cli.output import Output
from relevo.cli.watch import Watch, conclude
from relevo.reconcile.tick import Tick
from relevo.rollout.decision import Transition
from relevo.rollout.observation import RevisionStatus
from relevo.rollout.state import Cause, Hold, HoldReason, Phase, RolloutState, Verdict, new_state

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
STABLE = RevisionStatus("iris-predictor-00001", "oci://dev.local/iris:1", ready=True)
STATE = new_state("iris-1", STABLE, NOW)


@dataclass
class Stub:
    """As much of a tick as `Watch` looks at."""

    fields: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.fields[name]


def tick(state: RolloutState = STATE, *transitions: Transition, at: datetime = NOW) -> Tick:
    """A tick that stored `state`."""
    parts = {
        "record": Stub({"state": state}),
        "decision": Stub({"transitions": transitions}),
        "snapshot": Stub({"at": at}),
    }
    return cast(Tick, Stub(parts))


def test_without_a_terminal_each_transition_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Long sentences and brackets come out whole, on stderr; a tick without a transition says nothing."""
    message = "[red] " + "why " * 60
    watch = Watch()
    watch.on_tick(tick())
    watch.on_tick(tick(STATE, Transition(NOW, "relevo", "start", "Pending", "Preparing", message)))
    seen = capsys.readouterr()
    assert seen.err.count("\n") == 1
    assert f"Pending -> Preparing: {message}" in seen.err
    assert seen.out == ""


def test_a_trouble_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """However often it comes back."""
    watch = Watch()
    for _ in range(3):
        watch.on_trouble("Envoy [x] does not answer")
    assert capsys.readouterr().err == "waiting: Envoy [x] does not answer\n"


@pytest.mark.parametrize("reason", list(HoldReason))
def test_only_missing_evidence_runs_into_the_hold_timeout(reason: HoldReason) -> None:
    """After the time and not before; a pause may last."""
    watch = Watch(hold_timeout_seconds=10)
    held = replace(STATE, phase=Phase.SHIFTING, hold=Hold(reason, NOW, "held"))
    assert not watch.stop_when(tick(held, at=NOW + timedelta(seconds=9)))
    assert watch.stop_when(tick(held, at=NOW + timedelta(seconds=11))) is (reason is HoldReason.UNMEASURABLE)
    assert not Watch().stop_when(tick(held, at=NOW + timedelta(days=1))), "without a timeout it waits"


ENDED = replace(
    STATE, phase=Phase.ROLLED_BACK, verdict=Verdict.FAIL, cause=Cause.EVIDENCE, reason="errors. 3 of [many] failed."
)


def test_an_end_is_one_sentence_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """With the phase first, and brackets as they are."""
    assert conclude(ENDED) == 10
    assert capsys.readouterr().out == "RolledBack: errors. 3 of [many] failed.\n"
    inconclusive = replace(ENDED, verdict=Verdict.INCONCLUSIVE, reason="no decision")
    assert conclude(inconclusive) == 11
    assert capsys.readouterr().out == "RolledBack, inconclusive: no decision\n"


def test_a_rollout_that_is_left_says_what_it_is_held_for(capsys: pytest.CaptureFixture[str]) -> None:
    """In the place of the reason it does not have yet."""
    held = replace(STATE, phase=Phase.SHIFTING, hold=Hold(HoldReason.UNMEASURABLE, NOW, "no evidence"))
    assert conclude(held) == 12
    assert capsys.readouterr().out == "Held: no evidence\n"


def test_an_end_as_json_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """And everything a script may ask."""
    conclude(ENDED, Output.JSON)
    shown = json.loads(capsys.readouterr().out)
    assert shown == {
        "uid": "iris-1",
        "phase": "RolledBack",
        "verdict": "fail",
        "cause": "evidence",
        "reason": "errors. 3 of [many] failed.",
        "exitCode": 10,
    }
