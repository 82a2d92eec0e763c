"""The Rollout's status: what people and `kubectl wait` read of a run, and what the operator itself reads back. Pure.

`Run` is all that one run of a Rollout has to remember; `write_status` and `read_run` turn it into the status and back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from relevo.operator.resource import Pinned, Resource, parse_time
from relevo.rollout.state import HoldReason, Phase, RolloutState, Verdict, dump_state, load_state
from relevo.rollout.wording import e_value

if TYPE_CHECKING:
    from relevo.rollout.decision import Transition

__all__ = ["HISTORY", "Run", "Trouble", "read_run", "with_line", "with_tick", "write_status"]

HISTORY = 50
"""How many transitions the status keeps; the record has them all."""

_LONGEST_MESSAGE = 1024

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a Rollout cannot be carried on just now: a word for `kubectl wait`, and a sentence with the next step."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a Rollout."""

    state: RolloutState
    number: int
    """Which run of this resource it is, from 1."""
    pinned: Pinned
    generation: int
    """The generation of the spec that was acted on."""
    writes: int = 0
    """How often the status was written: a number that we have not written tells that somebody else did."""
    weight_percent: int = 0
    checks: tuple[Json, ...] = ()
    history: tuple[Json, ...] = ()
    sample: Mapping[str, Any] | None = field(default=None, compare=False)
    """What the last tick saw, as `Snapshot.as_json` has it."""


def with_tick(
    run: Run, state: RolloutState, transitions: tuple[Transition, ...], sample: Mapping[str, Any] | None
) -> Run:
    """The run after a tick."""
    lines = tuple(
        {
            "at": _time(t.at),
            "who": t.who,
            "from": t.before,
            "to": t.after,
            "rule": t.rule,
            "message": t.message[:_LONGEST_MESSAGE],
        }
        for t in transitions
    )
    history = (*run.history, *lines)[-HISTORY:] if lines else run.history
    weight_percent = sample["weight_live_percent"] if sample is not None else run.weight_percent
    return replace(run, state=state, history=history, weight_percent=weight_percent, sample=sample or run.sample)


def with_line(run: Run, at: datetime, rule: str, message: str, *, who: str = "relevo") -> Run:
    """The run with a line in its history for something that moved nothing."""
    phase = run.state.shown_phase
    line = {"at": _time(at), "who": who, "from": phase, "to": phase, "rule": rule, "message": message}
    return replace(run, history=(*run.history, line)[-HISTORY:])


def write_status(
    run: Run | None,
    resource: Resource,
    trouble: Trouble | None,
    before: Mapping[str, Any],
    now: datetime,
) -> Json:
    """The status of a Rollout; of one that has not begun, where `run` is None.

    `before` is the status as it was: a condition that has not changed keeps its time.
    """
    generation = resource.generation if run is None else run.generation
    conditions = _conditions(run, trouble, generation, before.get("conditions", ()), now)
    if run is None:
        # What a run before has left is told on until the next begins.
        kept = {key: value for key, value in before.items() if key not in ("conditions", "observedGeneration")}
        return {
            **kept,
            "observedGeneration": resource.generation,
            "phase": kept.get("phase", Phase.PENDING.value),
            "reason": trouble.message if trouble else "",
            "conditions": conditions,
        }
    state = run.state
    steps = len(run.pinned.weights)
    status: Json = {
        "observedGeneration": generation,
        "uid": state.uid,
        "runs": run.number,
        "writes": run.writes,
        "phase": state.shown_phase,
        "step": state.step,
        "steps": steps,
        "weight": run.weight_percent,
        "reason": _reason(run, trouble),
        "stable": state.stable,
        "candidate": state.candidate,
        "storageUri": run.pinned.storage_uri,
        "weights": list(run.pinned.weights),
        "sources": list(run.pinned.sources),
        "commandSeq": state.command_seq,
        "startedAt": _time(state.started_at),
        "conditions": conditions,
        "checks": _checks(run.sample) or list(run.checks) if run.sample else list(run.checks),
        "history": list(run.history),
        "state": json.loads(dump_state(state)),
    }
    if steps and state.step:
        status["progress"] = f"{state.step}/{steps}"
    if verdict := _verdict(state):
        status["verdict"] = verdict
    if state.cause:
        status["cause"] = state.cause.value
    if state.decided_at:
        status["decidedAt"] = _time(state.decided_at)
    return status


def read_run(status: Mapping[str, Any]) -> Run | None:
    """The run that a status tells of; None where none has begun.

    Raises:
        ValueError: it was written by another version of relevo.
    """
    if not status.get("state"):
        return None
    try:
        return Run(
            state=load_state(json.dumps(status["state"])),
            number=int(status["runs"]),
            pinned=Pinned(status["storageUri"], tuple(status["weights"]), tuple(status["sources"])),
            generation=int(status["observedGeneration"]),
            writes=int(status.get("writes", 0)),
            weight_percent=int(status.get("weight", 0)),
            checks=tuple(status.get("checks", ())),
            history=tuple(status.get("history", ())),
        )
    except (ValidationError, KeyError, TypeError) as error:
        raise ValueError(f"its status was written by another version of relevo ({error})") from error


def _verdict(state: RolloutState) -> str:
    if state.verdict is not None:
        return state.verdict.value
    if state.hold is not None and state.hold.reason is HoldReason.UNMEASURABLE and not state.phase.is_decided:
        return Verdict.UNMEASURABLE.value
    return ""


def _reason(run: Run, trouble: Trouble | None) -> str:
    """Why it is where it is: the trouble, the hold, the verdict, else what happened last."""
    state = run.state
    if trouble is not None and not state.phase.is_terminal:
        return trouble.message
    if state.hold is not None and not state.phase.is_decided:
        return state.hold.message
    if state.reason:
        return state.reason
    return str(run.history[-1]["message"]) if run.history else ""


def _checks(sample: Mapping[str, Any]) -> list[Json]:
    arms = sample["arms"]
    compared = f"{sample['shadow_disagreed']:,} of {sample['shadow_compared']:,} shadowed rows answered differently"
    numbers = {
        "errors": "; ".join(f"{a['revision']} {a['errors']:,} of {a['requests']:,} failed" for a in arms),
        "latency": "; ".join(
            f"{a['revision']} p50 {a['p50_ms']:.1f} ms, p99 {a['p99_ms']:.1f} ms" for a in arms if a["p50_ms"]
        ),
        "predictions": compared,
        "accuracy": "; ".join(
            f"{a['revision']} {a['wrong']:,} of {a['labelled']:,} wrong" for a in arms if a["labelled"]
        ),
    }
    return [
        {
            "name": c["name"],
            "gate": c["gated"],
            "verdict": c["verdict"],
            "against": f"{e_value(c['e_against'])} of {e_value(sample['limit_against'])}",
            "for": f"{e_value(c['e_for'])} of {e_value(sample['limit_for'])}",
            "numbers": numbers.get(c["name"], ""),
        }
        for c in sample["checks"]
    ]


def _conditions(run: Run | None, trouble: Trouble | None, generation: int, before: Any, now: datetime) -> list[Json]:
    known = {c["type"]: c for c in before}
    wanted = _wanted(run, trouble)
    conditions = []
    for kind, (status, reason, message) in wanted.items():
        old = known.get(kind)
        since = old["lastTransitionTime"] if old and old["status"] == status else _time(now)
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message[:_LONGEST_MESSAGE],
                "lastTransitionTime": since,
                "observedGeneration": generation,
            }
        )
    return conditions


def _wanted(run: Run | None, trouble: Trouble | None) -> dict[str, tuple[str, str, str]]:
    ready = ("False", trouble.reason, trouble.message) if trouble else ("True", "Carried", "The operator carries it.")
    if run is None:
        return {
            "Ready": ready,
            "Progressing": ("False", trouble.reason if trouble else "Pending", "It has not begun."),
            "Held": ("False", "Pending", ""),
            "Promoted": ("False", "Pending", ""),
            "RolledBack": ("False", "Pending", ""),
        }
    state = run.state
    phase, held = state.phase, state.hold is not None and not state.phase.is_decided
    moving = not phase.is_terminal and not held and trouble is None
    ended = phase.value if phase.is_terminal else "Undecided"
    cause = _word(state.cause.value) if state.cause else ended
    return {
        "Ready": ready,
        "Progressing": (
            _truth(moving),
            "Held" if held else phase.value,
            f"Step {state.step} of {len(run.pinned.weights)}, {run.weight_percent} %." if moving else "",
        ),
        "Held": ("True", state.hold.reason.value, state.hold.message)
        if held and state.hold
        else ("False", "NotHeld", ""),
        "Promoted": _outcome(phase is Phase.PROMOTED, cause, ended, state.reason),
        "RolledBack": _outcome(phase is Phase.ROLLED_BACK, cause, ended, state.reason),
    }


def _outcome(reached: bool, cause: str, ended: str, reason: str) -> tuple[str, str, str]:
    return ("True", cause, reason) if reached else ("False", ended, "")


def _truth(value: bool) -> str:
    return "True" if value else "False"


def _word(cause: str) -> str:
    """A cause as Kubernetes writes reasons: not-ready is NotReady."""
    return "".join(part.capitalize() for part in cause.split("-"))


def _time(at: datetime) -> str:
    return parse_time(at.isoformat()).isoformat(timespec="milliseconds").replace("+00:00", "Z")
