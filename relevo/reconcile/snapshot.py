"""What people see of a rollout at one moment: the terminal view, `-o json|yaml`, and the report's plots are drawn from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from relevo.rollout.observation import Arm, Counts, Observation, Reading
from relevo.rollout.ramp import expand
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import Phase, RolloutState

if TYPE_CHECKING:
    # `relevo status` reads a stored snapshot and should not wait for SciPy; only who takes one needs the decision core.
    from relevo.rollout.assessment import Assessment
    from relevo.rollout.decision import Decision

__all__ = ["ArmView", "CheckView", "Snapshot", "quantile_ms", "take_snapshot"]


@dataclass(frozen=True, slots=True)
class ArmView:
    """One revision's numbers over the whole rollout, baseline traffic and shadow stage included."""

    revision: str
    requests: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    labelled: int
    wrong: int
    predictions: dict[str, int]


@dataclass(frozen=True, slots=True)
class CheckView:
    """One check's e-values. None where there is no evidence."""

    name: str
    gated: bool
    e_against: float | None
    e_for: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A rollout at one moment."""

    target: str
    uid: str
    at: datetime
    started_at: datetime
    phase: str
    beneath: str
    """The phase that a hold hides."""
    step: int
    steps: tuple[int, ...]
    """The weights of all steps."""
    weight_set_percent: int
    weight_live_percent: int
    """What the proxy routes by."""
    weight_seen_percent: float | None
    """The candidate's share of the requests in this step."""
    users: int
    exposed_requests: int
    arms: tuple[ArmView, ...]
    checks: tuple[CheckView, ...]
    e_against: float
    limit_against: float
    limit_for: float
    shadow_compared: int
    shadow_disagreed: int
    verdict: str | None
    cause: str | None
    reason: str
    hold: str
    """Why it is held; empty when it is not."""
    next: str
    silent: tuple[str, ...]

    def sample(self) -> dict[str, Any]:
        """What is stored of it with each tick, as JSON."""
        return self.as_json()

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON holds it: times in ISO 8601, no infinities."""
        return {k: _plain(v) for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Snapshot:
        """The inverse of `as_json`."""
        return _ADAPTER.validate_python(value)


def take_snapshot(spec: RolloutSpec, decision: Decision, seen: Observation, now: datetime) -> Snapshot:
    """Gather what people see."""
    from relevo.rollout.assessment import exposed_requests
    from relevo.rollout.decision import desired

    state, assessment = decision.state, decision.assessment
    wish = desired(spec, state).split
    users = sum(e.users for e in seen.evidence if isinstance(e, Reading))
    pairs = state.ledger.pairs()
    return Snapshot(
        target=spec.target,
        uid=state.uid,
        at=now,
        started_at=state.started_at,
        phase=state.shown_phase,
        beneath=state.phase.value,
        step=state.step,
        steps=tuple(s.weight_percent for s in expand(spec)),
        weight_set_percent=wish.weight_percent if wish else seen.routes.weight_percent,
        weight_live_percent=seen.routes.weight_percent,
        weight_seen_percent=_share_seen(state),
        users=users,
        exposed_requests=exposed_requests(state),
        arms=tuple(_arm(state, arm) for arm in Arm),
        checks=_checks(assessment),
        e_against=_e(assessment.log_against) or 0.0 if assessment else 0.0,
        limit_against=1 / spec.decision.alpha,
        limit_for=1 / spec.decision.promotion_alpha,
        shadow_compared=pairs.compared,
        shadow_disagreed=pairs.disagreed,
        verdict=state.verdict.value if state.verdict else None,
        cause=state.cause.value if state.cause else None,
        reason=state.reason,
        hold=state.hold.message if state.hold and not state.phase.is_decided else "",
        next=_next(spec, state, assessment, now),
        silent=tuple(sorted(state.silent_since)),
    )


def _arm(state: RolloutState, arm: Arm) -> ArmView:
    from relevo.rollout.assessment import CLIENT

    keys = ["0", "shadow", *(str(i) for i in range(1, state.step + 1)), "watch"]
    totals = {name: state.ledger.total(name, arm, keys) for name in state.ledger.sources}
    client = totals.get(CLIENT, Counts())
    widest = max(totals.values(), key=lambda c: c.requests, default=Counts())
    edges = state.ledger.sources[CLIENT].edges_ms if CLIENT in totals else ()
    return ArmView(
        revision=state.stable if arm is Arm.STABLE else state.candidate,
        requests=widest.requests,
        errors=widest.errors,
        p50_ms=quantile_ms(client.latency, edges, 0.5),
        p99_ms=quantile_ms(client.latency, edges, 0.99),
        labelled=client.labelled,
        wrong=client.wrong,
        predictions=dict(client.predictions),
    )


def quantile_ms(histogram: Sequence[int], edges_ms: Sequence[float], share: float) -> float | None:
    """A quantile from a histogram with `edges_ms` and one bucket above them, interpolated within its bucket; None without counts."""
    total = sum(histogram)
    if not total or not edges_ms:
        return None
    wanted, seen = share * total, 0
    for i, count in enumerate(histogram):
        if count and seen + count >= wanted:
            if i == len(edges_ms):
                return float(edges_ms[-1])
            low = edges_ms[i - 1] if i else 0.0
            return low + (edges_ms[i] - low) * (wanted - seen) / count
        seen += count
    return float(edges_ms[-1])


def _share_seen(state: RolloutState) -> float | None:
    if state.phase is not Phase.SHIFTING:
        return None
    key = [str(state.step)]
    for source in state.ledger.sources:
        stable = state.ledger.total(source, Arm.STABLE, key).requests
        candidate = state.ledger.total(source, Arm.CANDIDATE, key).requests
        if stable + candidate:
            return 100 * candidate / (stable + candidate)
    return None


def _checks(assessment: Assessment | None) -> tuple[CheckView, ...]:
    if assessment is None:
        return ()
    return tuple(
        CheckView(c.name, c.gated, _e(c.log_against), _e(c.log_for), c.verdict.value) for c in assessment.checks
    )


def _next(spec: RolloutSpec, state: RolloutState, assessment: Assessment | None, now: datetime) -> str:
    """What the rollout waits for, in words."""
    if state.hold is not None and not state.phase.is_decided:
        return "it goes on when what it is held for is over"
    match state.phase:
        case Phase.PENDING | Phase.PREPARING:
            return "the candidate becomes ready and the stable revision's latency is known"
        case Phase.SHADOWING:
            left = max(spec.shadow.requests - state.ledger.pairs().compared, 0)
            return (
                f"first users after {left} more shadowed rows"
                if left
                else "first users when the answers are proven alike"
            )
        case Phase.SHIFTING:
            return _next_step(spec, state, assessment, now)
        case Phase.PROMOTING:
            return "all traffic to the candidate"
        case Phase.ROLLING_BACK:
            return "all traffic back to the stable revision"
        case _:
            return ""


def _next_step(spec: RolloutSpec, state: RolloutState, assessment: Assessment | None, now: datetime) -> str:
    from relevo.rollout.assessment import exposed_requests

    strategy, steps = spec.strategy, expand(spec)
    least_seconds = strategy.least_seconds(at_switch=steps[state.step - 1].is_switch)
    seconds = max(least_seconds - (now - state.step_since).total_seconds(), 0)
    requests = max(strategy.pace.step_requests - exposed_requests(state, [str(state.step)]), 0)
    waits = [f"{requests} more candidate requests"] if requests else []
    waits += [f"{seconds:.0f} s"] if seconds >= 0.5 else []
    if state.step < len(steps):
        return f"{steps[state.step].weight_percent} % after {' and '.join(waits) or 'this tick'}"
    open_checks = [c.name for c in assessment.checks if c.gated and c.verdict.value != "pass"] if assessment else []
    waits += [f"proof for {', '.join(open_checks)}"] if open_checks else []
    return f"promotion after {' and '.join(waits) or 'this tick'}"


def _e(log_e: float | None) -> float | None:
    return None if log_e is None or math.isnan(log_e) else math.exp(min(log_e, 700.0))


_ADAPTER = TypeAdapter(Snapshot)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
