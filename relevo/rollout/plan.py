"""The decision core: what a rollout does next, from what is stored and what is seen.

`plan` is pure: no client, no clock, no environment, no randomness. It takes in the evidence, then asks four sets of rules in order: what
a human ordered (`obey`), what the evidence proves (`judge`), what makes going on unsafe or meaningless (`protect`), and what comes next
(`progress`). The first that moves the rollout decides this tick; a note in the audit log does not keep the next from being asked.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from relevo.rollout.assessment import assess, with_windows
from relevo.rollout.decision import Decision, Transition, desired
from relevo.rollout.look import Look
from relevo.rollout.observation import Observation, Reading, Routes
from relevo.rollout.ramp import expand
from relevo.rollout.rules import judge, obey, progress, protect
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import Phase, RolloutState

__all__ = ["RULES", "plan"]

RULES = (obey, judge, protect, progress)

LONGEST_TICK = timedelta(minutes=2)
"""Two looks further apart than this mean that nobody drove the rollout in between, or that the clock was set."""


def plan(spec: RolloutSpec, state: RolloutState, seen: Observation, now: datetime) -> Decision:
    """Say what the rollout does next.

    Equal arguments give equal decisions. The caller stores `Decision.state` before it makes `Decision.desired` so, and every wish is
    idempotent, so a crash anywhere costs one tick.
    """
    if state.phase.is_terminal:
        return Decision(state, desired(spec, state))
    state = _take_in(spec, state, seen, now)
    steps = expand(spec)
    look = Look(spec, steps, state, seen, now, assess(spec, steps, state))
    transitions: list[Transition] = []
    for rule in RULES:
        if outcome := rule(look):
            after, transition = outcome
            transitions.append(transition)
            moved = (after.phase, after.step, after.hold) != (look.state.phase, look.state.step, look.state.hold)
            look = replace(look, state=after)
            if moved:
                break
    return Decision(look.state, desired(spec, look.state), tuple(transitions), look.assessment)


def _take_in(spec: RolloutSpec, state: RolloutState, seen: Observation, now: datetime) -> RolloutState:
    """Add what was seen to what is known: the candidate's name, the counts, and since when which source is silent."""
    state = _without_gap(state, now)
    candidate = seen.routes.candidate or (seen.routes.stable if state.is_first else None)
    if not state.candidate and candidate is not None and candidate.storage_uri == spec.storage_uri:
        state = replace(state, candidate=candidate.name)
    readings = [e for e in seen.evidence if isinstance(e, Reading)]
    silent = {e.source: state.silent_since.get(e.source, now) for e in seen.evidence if not isinstance(e, Reading)}
    ledger = state.ledger
    if not state.phase.is_decided:
        # Counts stop with the decision: what the verdict rests on stays what it rested on.
        ledger = ledger.absorb(readings, seen.routes, state.arms, now)
    waited_for = state.unready_since if state.phase is not Phase.PENDING else None  # only then does anybody make it
    unready = None if _is_ready(state, seen.routes) else waited_for or now
    taken = replace(state, looked_at=now, ledger=ledger, silent_since=silent, unready_since=unready)
    return with_windows(spec, taken)


def _is_ready(state: RolloutState, routes: Routes) -> bool:
    """Whether the candidate can take requests; promoted, it is the stable revision."""
    return any(r is not None and r.name == state.candidate and r.ready for r in (routes.stable, routes.candidate))


def _without_gap(state: RolloutState, now: datetime) -> RolloutState:
    """Move what is measured from along with a clock that was set, or over a time in which nobody looked.

    Neither is time that the candidate took to become ready, that a source was silent, or that counts towards a limit.
    """
    gap = now - state.looked_at if state.looked_at is not None else timedelta()
    if timedelta() <= gap <= LONGEST_TICK:
        return state
    return replace(
        state,
        held_seconds=state.held_seconds + gap.total_seconds(),
        hold=replace(state.hold, since=state.hold.since + gap) if state.hold is not None else None,
        step_since=state.step_since + gap,
        silent_since={source: since + gap for source, since in state.silent_since.items()},
        unready_since=state.unready_since + gap if state.unready_since is not None else None,
    )
