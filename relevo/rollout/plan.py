"""The decision core: what a rollout does next, from what is stored and what is seen.

`plan` is pure: no client, no clock, no environment, no randomness. It takes in the evidence, then asks four sets of rules in order: what
a human ordered (`obey`), what the evidence proves (`judge`), what makes going on unsafe or meaningless (`protect`), and what comes next
(`progress`). The first that answers decides this tick.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from relevo.rollout.assessment import assess
from relevo.rollout.decision import Decision, desired
from relevo.rollout.look import Look
from relevo.rollout.observation import Observation, Reading
from relevo.rollout.ramp import expand
from relevo.rollout.rules import judge, obey, progress, protect
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import RolloutState

__all__ = ["RULES", "plan"]

RULES = (obey, judge, protect, progress)


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
    for rule in RULES:
        if outcome := rule(look):
            after, transition = outcome
            return Decision(after, desired(spec, after), (transition,), look.assessment)
    return Decision(state, desired(spec, state), (), look.assessment)


def _take_in(spec: RolloutSpec, state: RolloutState, seen: Observation, now: datetime) -> RolloutState:
    """Add what was seen to what is known: the candidate's name, the counts, and since when which source is silent."""
    candidate = seen.routes.candidate
    if not state.candidate and candidate is not None and candidate.storage_uri == spec.storage_uri:
        state = replace(state, candidate=candidate.name)
    readings = [e for e in seen.evidence if isinstance(e, Reading)]
    silent = {e.source: state.silent_since.get(e.source, now) for e in seen.evidence if not isinstance(e, Reading)}
    ledger = state.ledger
    if not state.phase.is_decided:
        # Counts stop with the decision: what the verdict rests on stays what it rested on.
        ledger = ledger.absorb(readings, seen.routes, state.arms)
    return replace(state, ledger=ledger, silent_since=silent)
