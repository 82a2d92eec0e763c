"""What the report says, in words and rows; `relevo.report.page` puts it into the template. Pure functions of what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relevo.packaging import Package
from relevo.packaging.compare import Change, changes
from relevo.reconcile.snapshot import quantile_ms
from relevo.rollout import wording
from relevo.rollout.assessment import CLIENT, assess, exposed_requests
from relevo.rollout.decision import Transition
from relevo.rollout.messages import facts_of
from relevo.rollout.observation import Arm, Counts
from relevo.rollout.ramp import expand
from relevo.rollout.state import Cause, Phase, RolloutState, Verdict
from relevo.store.rollouts import Record

__all__ = [
    "Models",
    "Tile",
    "VerdictWords",
    "checks",
    "counts_of",
    "facts_to_show",
    "log",
    "models",
    "tiles",
    "verdict_of",
]

CHECKS = ("errors", "latency", "predictions", "accuracy")


@dataclass(frozen=True, slots=True)
class VerdictWords:
    """What stands on top. `tone` is "good", "bad", "waiting" or "running", and chooses colour and symbol."""

    tone: str
    word: str
    sentence: str
    unfinished: str = ""
    """Says that the rollout has not ended, if so."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A key number; `stable` is the other arm's, for those that compare."""

    name: str
    value: str
    stable: str = ""


@dataclass(frozen=True, slots=True)
class Models:
    """What changed between the packages; `missing` says why that is not known."""

    missing: str
    sections: tuple[tuple[str, tuple[Change, ...]], ...]


def verdict_of(record: Record) -> VerdictWords:
    """The verdict in a word and its sentence."""
    state = record.state
    running = (
        ""
        if state.phase.is_terminal
        else "This rollout has not ended: the page shows what was known when it was written."
    )
    if not state.phase.is_decided:
        if state.hold is not None:
            return VerdictWords("waiting", "Held", state.hold.message, running)
        step = f" {state.step}/{len(expand(record.rollout.spec))}" if state.phase is Phase.SHIFTING else ""
        return VerdictWords("running", f"{state.phase.value}{step}", "Nothing is decided yet.", running)
    if state.verdict is Verdict.INCONCLUSIVE:
        return VerdictWords("waiting", "Inconclusive, the stable revision stays", state.reason, running)
    word, tone = {
        Phase.PROMOTING: ("Promoting", "good"),
        Phase.PROMOTED: ("Promoted", "good"),
        Phase.ROLLING_BACK: ("Rolling back", "bad"),
        Phase.ROLLED_BACK: ("Rolled back", "bad"),
    }[state.phase]
    return VerdictWords(tone, f"{word} by order" if state.cause is Cause.ORDERED else word, state.reason, running)


def tiles(record: Record, now: datetime) -> list[Tile]:
    """The key numbers."""
    state = record.state
    stable, candidate = counts_of(state, Arm.STABLE), counts_of(state, Arm.CANDIDATE)
    widest = {arm: counts_of(state, arm, widest=True) for arm in Arm}
    until = state.decided_at or now
    found = [
        Tile(
            "from start to decision" if state.decided_at else "since the start",
            wording.seconds((until - state.started_at).total_seconds()),
        ),
        Tile("requests of users that reached the candidate", f"{exposed_requests(state):,}"),
        Tile(
            "requests, shadowed ones included",
            f"{widest[Arm.CANDIDATE].requests:,}",
            f"{widest[Arm.STABLE].requests:,}",
        ),
        Tile("failed", *(wording.percent(widest[a].errors, widest[a].requests) for a in (Arm.CANDIDATE, Arm.STABLE))),
    ]
    if CLIENT in state.ledger.sources:
        edges = state.ledger.sources[CLIENT].edges_ms
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            values = (wording.milliseconds(quantile_ms(c.latency, edges, share)) for c in (candidate, stable))
            found.append(Tile(f"latency, {name}", *values))
    if stable.labelled or candidate.labelled:
        shares = (wording.percent(c.labelled - c.wrong, c.labelled, 1) for c in (candidate, stable))
        found.append(Tile("accuracy", *shares))
    pairs = state.ledger.pairs()
    if pairs.compared:
        found.append(
            Tile(
                f"of {pairs.compared:,} shadowed rows answered differently",
                wording.percent(pairs.disagreed, pairs.compared, 1),
            )
        )
    return found


def counts_of(state: RolloutState, arm: Arm, *, widest: bool = False) -> Counts:
    """An arm's counts over the whole rollout, as clients saw them, or by the source that saw most requests."""
    keys = ["0", "shadow", *(str(i) for i in range(1, state.step + 1))]
    totals = {source: state.ledger.total(source, arm, keys) for source in state.ledger.sources}
    if widest:
        return max(totals.values(), key=lambda c: c.requests, default=Counts())
    return totals.get(CLIENT, Counts())


def facts_to_show(record: Record, transitions: Sequence[Transition]) -> dict[str, Any]:
    """The numbers on which it was decided; those of now where nothing is decided yet."""
    state, spec = record.state, record.rollout.spec
    if state.phase.is_decided:
        decided = [t.facts for t in transitions if t.facts and t.at == state.decided_at]
        return (decided or [t.facts for t in transitions if t.facts] or [{}])[-1]
    return facts_of(spec, state, assess(spec, expand(spec), state))


def checks(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of checks: those that the facts hold, in their usual order."""
    empty = {"bad_event": "", "stable": None, "candidate": None, "ratio": None, "interval": None}
    return [{"name": name, **empty, **facts[name]} for name in CHECKS if isinstance(facts.get(name), dict)]


def log(transitions: Iterable[Transition], started_at: datetime) -> list[dict[str, Any]]:
    """The audit log's rows."""
    return [
        {
            "at": t.at,
            "after_start": wording.seconds((t.at - started_at).total_seconds()),
            "who": t.who,
            "rule": t.rule,
            "before": t.before,
            "after": t.after,
            "message": t.message,
            "facts": json.dumps(t.facts, indent=1, ensure_ascii=False) if t.facts else "",
        }
        for t in transitions
    ]


def models(stable: Package | None, candidate: Package | None) -> Models:
    """What changed between the two model cards, by section."""
    missing = [name for name, package in (("stable", stable), ("candidate", candidate)) if package is None]
    if stable is None or candidate is None:
        return Models(
            f"The {' and the '.join(missing)} package could not be read here, so it is not known what changed.", ()
        )
    found = changes(stable.metadata, candidate.metadata)
    names = dict.fromkeys(c.section for c in found)
    return Models("", tuple((name, tuple(c for c in found if c.section == name)) for name in names))
