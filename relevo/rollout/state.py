"""What a rollout remembers between two ticks: frozen, small, and JSON, so that it can live in the resource itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter

from relevo.rollout.ledger import Ledger
from relevo.rollout.observation import Arm, RevisionStatus
from relevo.rollout.windows import Windows

__all__ = ["Cause", "Hold", "HoldReason", "Phase", "RolloutState", "Verdict", "dump_state", "load_state", "new_state"]


class Phase(StrEnum):
    """Where a rollout is. The last two are absorbing."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    SHADOWING = "Shadowing"
    SHIFTING = "Shifting"
    PROMOTING = "Promoting"
    ROLLING_BACK = "RollingBack"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"

    @property
    def is_terminal(self) -> bool:
        return self in (Phase.PROMOTED, Phase.ROLLED_BACK)

    @property
    def is_decided(self) -> bool:
        """The verdict stands and only has to be carried out."""
        return self in (Phase.PROMOTING, Phase.ROLLING_BACK) or self.is_terminal


class Verdict(StrEnum):
    """What the evidence says. `unmeasurable` is never a reason to roll back."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    UNMEASURABLE = "unmeasurable"


class Cause(StrEnum):
    """Why a rollout was decided as it was."""

    EVIDENCE = "evidence"
    ORDERED = "ordered"
    NOT_READY = "not-ready"
    SMOKE = "smoke"
    LIMIT = "limit"
    NO_COMPARISON = "no-comparison"


class HoldReason(StrEnum):
    """Why a rollout does not move on, though nothing is decided."""

    PAUSED = "Paused"
    PAUSED_BY_SPEC = "PausedBySpec"
    UNMEASURABLE = "Unmeasurable"
    CANDIDATE_NOT_READY = "CandidateNotReady"
    STABLE_NOT_READY = "StableNotReady"
    SPLIT_MISMATCH = "SplitMismatch"
    EDITED_BY_HAND = "EditedByHand"


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold, since when, and the sentence that says what is missing."""

    reason: HoldReason
    since: datetime
    message: str


@dataclass(frozen=True, slots=True)
class RolloutState:
    """One rollout. `step` counts from 1 while Shifting; 0 before."""

    uid: str
    stable: str
    stable_uri: str
    candidate: str
    phase: Phase
    step: int
    started_at: datetime
    phase_since: datetime
    step_since: datetime
    ledger: Ledger
    hold: Hold | None = None
    held_seconds: float = 0.0
    """Time held in the past, or in which nobody looked, left out of the limits; the present hold is not yet in it."""
    silent_since: Mapping[str, datetime] = field(default_factory=dict)
    thresholds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Per source, the indices of its latency edges that are thresholds; fixed before the candidate sees traffic."""
    usual_rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Per source, how often the stable revision exceeded each threshold; fixed with them, for a bet must not follow its own counts."""
    windows: Mapping[str, Windows] = field(default_factory=dict)
    """Per source, in how many windows of time the candidate was slower."""
    classes: tuple[str, ...] = ()
    """The classes that the stable revision predicted; fixed with the thresholds."""
    unready_since: datetime | None = None
    """Since when the candidate cannot take requests; None while it can."""
    looked_at: datetime | None = None
    """When the last tick was: from it a jump of the clock, or a time in which nobody drove the rollout, is told."""
    verdict: Verdict | None = None
    cause: Cause | None = None
    reason: str = ""
    """The sentence that says why it was decided."""
    decided_at: datetime | None = None
    extended: bool = False
    command_seq: int = 0
    prompted: bool = False
    """A human asked for the next step: it comes without waiting for the step's minimum."""

    @property
    def is_first(self) -> bool:
        """Whether there was nothing before it: no stable revision to compare with, or to give traffic back to."""
        return not self.stable

    @property
    def arms(self) -> Mapping[str, Arm]:
        """Which revision is which arm."""
        arms = {self.stable: Arm.STABLE}
        if self.candidate:
            arms[self.candidate] = Arm.CANDIDATE
        return arms

    @property
    def shown_phase(self) -> str:
        """The phase as people see it: Held hides the phase beneath."""
        return "Held" if self.hold is not None and not self.phase.is_decided else self.phase.value


def new_state(uid: str, stable: RevisionStatus, now: datetime) -> RolloutState:
    """A rollout that has just been asked for. The candidate's revision gets its name when the platform makes it."""
    return RolloutState(
        uid=uid,
        stable=stable.name,
        stable_uri=stable.storage_uri,
        candidate="",
        phase=Phase.PENDING,
        step=0,
        started_at=now,
        phase_since=now,
        step_since=now,
        ledger=Ledger(uid),
    )


_ADAPTER = TypeAdapter(RolloutState)


def dump_state(state: RolloutState) -> str:
    """The state as JSON."""
    return _ADAPTER.dump_json(state).decode()


def load_state(text: str) -> RolloutState:
    """The state from JSON.

    Raises:
        pydantic.ValidationError: the text is not a state of this version.
    """
    return _ADAPTER.validate_json(text)
