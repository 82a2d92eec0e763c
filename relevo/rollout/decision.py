"""What `plan` answers: the state to store, the transitions to record, and what the world should look like.

The wish is a function of the state alone (`desired`), so that whoever reads a stored state knows what to make so, however often
and in whichever process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from relevo.rollout.ledger import SHADOW, WATCH, route_label
from relevo.rollout.observation import Arm
from relevo.rollout.platform import Split
from relevo.rollout.ramp import expand
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import Phase, RolloutState

if TYPE_CHECKING:
    # `relevo history` reads stored transitions and should not wait for SciPy.
    from relevo.rollout.assessment import Assessment

__all__ = ["Decision", "Desired", "Transition", "desired"]


@dataclass(frozen=True, slots=True)
class Desired:
    """How the world should be. Every field is made so idempotently; None leaves the thing alone."""

    prepare: bool = False
    """A revision of the candidate exists."""
    split: Split | None = None
    keep: Arm | None = None
    """This arm has all the traffic and is the only one left."""
    users: int | None = None
    shadow_label: str | None = None
    """The label of the shadow traffic to send; None sends none."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the audit log."""

    at: datetime
    who: str
    rule: str
    before: str
    after: str
    message: str
    facts: dict[str, Any] = field(default_factory=dict)
    """The numbers behind it: counts by arm, effect with interval, e-value and limit, per check."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Store `state` and `transitions`, then make `desired` so."""

    state: RolloutState
    desired: Desired
    transitions: tuple[Transition, ...] = ()
    assessment: Assessment | None = None


def desired(spec: RolloutSpec, state: RolloutState) -> Desired:
    """How the world should be in this state."""
    steps = expand(spec)
    at_zero = Split(0, route_label(state.uid, 0))
    match state.phase:
        case Phase.PENDING:
            return Desired()
        case Phase.PREPARING if state.is_first:
            return Desired(prepare=True, users=0)
        case Phase.PREPARING:
            return Desired(prepare=True, split=at_zero, users=spec.users_before if steps else 0)
        case Phase.SHADOWING:
            shadow = route_label(state.uid, SHADOW) if state.unready_since is None else None
            return Desired(prepare=True, split=at_zero, users=spec.users_before, shadow_label=shadow)
        case Phase.SHIFTING:
            step = steps[state.step - 1]
            split = Split(step.weight_percent, route_label(state.uid, state.step))
            # The old colour has no users any more, so rows go to both for a comparison.
            watch = route_label(state.uid, WATCH) if step.is_switch else None
            if state.unready_since is not None:  # whatever else it is held for, paused say
                split, watch = at_zero, None
            return Desired(prepare=True, split=split, users=step.users, shadow_label=watch)
        case Phase.PROMOTING:
            return Desired(keep=Arm.CANDIDATE, users=0)
        case Phase.ROLLING_BACK:
            return Desired(keep=Arm.STABLE, users=0)
        case Phase.PROMOTED | Phase.ROLLED_BACK:
            return Desired()
