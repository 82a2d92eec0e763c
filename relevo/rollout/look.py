"""What the rules look at: one tick's spec, state, observation and assessment, and the ways a rule may answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from relevo.rollout.assessment import Assessment
from relevo.rollout.decision import Transition
from relevo.rollout.messages import facts_of
from relevo.rollout.observation import Observation, RevisionStatus, Silence
from relevo.rollout.ramp import Step
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import Cause, Hold, HoldReason, Phase, RolloutState, Verdict

__all__ = ["ENGINE", "Look", "Outcome"]

Outcome = tuple[RolloutState, Transition]
ENGINE = "relevo"
"""Who acted, where no human did."""


@dataclass(frozen=True, slots=True)
class Look:
    """All that a rule may look at."""

    spec: RolloutSpec
    steps: tuple[Step, ...]
    state: RolloutState
    seen: Observation
    now: datetime
    assessment: Assessment

    @property
    def candidate(self) -> RevisionStatus | None:
        """The candidate as the platform sees it; None while there is none of this rollout's name."""
        candidate = self.seen.routes.candidate
        if (
            candidate is None and self.state.is_first
        ):  # with nothing before it, it has all the traffic as soon as it is ready
            candidate = self.seen.routes.stable
        return candidate if candidate is not None and candidate.name == self.state.candidate else None

    @property
    def candidate_ready(self) -> bool:
        """Whether the candidate can take requests now."""
        return self.candidate is not None and self.candidate.ready

    @property
    def at_switch(self) -> bool:
        """Whether all users are sent to the candidate and it is watched."""
        return self.state.phase is Phase.SHIFTING and self.steps[self.state.step - 1].is_switch

    @property
    def unready_seconds(self) -> float:
        """Seconds since when the candidate cannot take requests; 0 while it can."""
        return (self.now - self.state.unready_since).total_seconds() if self.state.unready_since else 0.0

    @property
    def silences(self) -> tuple[Silence, ...]:
        """The sources that did not answer this time."""
        return tuple(e for e in self.seen.evidence if isinstance(e, Silence))

    @property
    def held_seconds(self) -> float:
        """Seconds of the present hold."""
        return (self.now - self.state.hold.since).total_seconds() if self.state.hold else 0.0

    @property
    def active_seconds(self) -> float:
        """Seconds since the start in which the rollout was looked at and not held."""
        return (self.now - self.state.started_at).total_seconds() - self.state.held_seconds - self.held_seconds

    def to_phase(self, phase: Phase, rule: str, message: str, *, who: str = ENGINE, step: int = 0) -> Outcome:
        """Go to a phase, and to a step of it."""
        return self._record(self._entered(self.state, phase, step), rule, message, who)

    def decide(
        self, phase: Phase, verdict: Verdict | None, cause: Cause, message: str, *, who: str = ENGINE
    ) -> Outcome:
        """Give the verdict, which from now on stands, and go to the phase that carries it out."""
        decided = replace(self._released(), verdict=verdict, cause=cause, reason=message, decided_at=self.now)
        return self._record(self._entered(decided, phase, self.state.step), cause.value, message, who)

    def hold(self, reason: HoldReason, message: str, *, who: str = ENGINE) -> Outcome | None:
        """Hold for this reason; None where it is held for it already."""
        if self.state.hold is not None and self.state.hold.reason is reason:
            return None
        after = replace(self._released(), hold=Hold(reason, self.now, message))
        return self._record(after, f"hold-{reason.value}", message, who)

    def release(self, message: str, *, who: str = ENGINE) -> Outcome:
        """End the hold. The step starts its clock anew."""
        return self._record(replace(self._released(), step_since=self.now), "release", message, who)

    def note(self, after: RolloutState, rule: str, message: str, *, who: str = ENGINE) -> Outcome:
        """A line in the audit log for a change that moves nothing."""
        return self._record(after, rule, message, who)

    def _entered(self, state: RolloutState, phase: Phase, step: int) -> RolloutState:
        return replace(state, phase=phase, step=step, phase_since=self.now, step_since=self.now, prompted=False)

    def _released(self) -> RolloutState:
        return replace(self.state, hold=None, held_seconds=self.state.held_seconds + self.held_seconds)

    def _record(self, after: RolloutState, rule: str, message: str, who: str) -> Outcome:
        facts = facts_of(self.spec, self.state, self.assessment)
        before, then = _place(self.state, self.steps), _place(after, self.steps)
        return after, Transition(self.now, who, rule, before, then, message, facts)


def _place(state: RolloutState, steps: tuple[Step, ...]) -> str:
    """The phase as people read it, with the step where there is one."""
    shifting = state.phase is Phase.SHIFTING and state.hold is None
    return f"{state.shown_phase} {state.step}/{len(steps)}" if shifting else state.shown_phase
