"""One reconcile tick: read the stored state, observe, plan, store, make so. The operator on a cluster runs this very function.

Every part may fail or the process may die between any two of them: what was stored is true, what was not is decided again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from relevo.errors import Forbidden, Permanent, RelevoError, Transient
from relevo.evidence.source import EvidenceSource, LoadGenerator, LoadPlan, ShadowTargets
from relevo.reconcile.lease import LEASE_SECONDS
from relevo.reconcile.snapshot import Snapshot, take_snapshot
from relevo.rollout.decision import Decision, Desired
from relevo.rollout.observation import Observation, RevisionStatus, Routes, Smoke
from relevo.rollout.plan import plan
from relevo.rollout.platform import ModelRef, Platform, Split
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import Phase
from relevo.store.interface import TickStore
from relevo.store.rollouts import Record

__all__ = ["Reconciler", "SmokeTester", "Tick"]


class SmokeTester(Protocol):
    """Sends the first requests to a candidate."""

    def run(self, address: str) -> Smoke:
        """Ask the revision at this address (http://HOST:PORT) and count what was not answered. Never raises."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick did."""

    record: Record
    decision: Decision
    snapshot: Snapshot
    trouble: str = ""
    """What could not be made so this time, in words; it is tried again."""
    refused: RelevoError | None = None
    """The trouble, where it will not go by itself."""


@dataclass(slots=True)
class Reconciler:
    """The parts that a tick works with. It remembers nothing that matters: another process may do the next tick."""

    store: TickStore
    platform: Platform
    sources: tuple[EvidenceSource, ...]
    load: LoadGenerator
    smoke_test: SmokeTester
    clock: Callable[[], datetime]
    _smoked: dict[str, Smoke] = field(default_factory=dict)
    _refused: dict[str, str] = field(default_factory=dict)
    """Candidates that the platform would not take, by storage URI, and why."""
    _prepared: set[str] = field(default_factory=set)
    """Candidates that this process has prepared to the end, by storage URI."""

    def tick(self, record: Record) -> Tick:
        """Do one tick.

        Raises:
            Transient: the platform or the store did not answer; nothing was decided.
            Conflict: another process drives this rollout now.
        """
        spec = record.rollout.spec
        seen = self._observe(spec, record)
        now = self.clock()
        decision = plan(spec, record.state, seen, now)
        snapshot = take_snapshot(spec, decision, seen, now)
        lease_until = (now + timedelta(seconds=LEASE_SECONDS)).timestamp()
        stored = self.store.save(
            record, decision.state, decision.transitions, sample=snapshot.sample(), at=now, lease_until=lease_until
        )
        problem = self._make_so(spec, decision.desired, seen.routes)
        # What has not answered this rollout yet is still starting, and no trouble.
        unheard = any(source.name not in decision.state.ledger.sources for source in self.sources)
        starting = unheard and decision.state.phase is Phase.PREPARING
        refused = problem if isinstance(problem, Permanent) else None
        return Tick(stored, decision, snapshot, problem.message if problem and not starting else "", refused)

    def _observe(self, spec: RolloutSpec, record: Record) -> Observation:
        state = record.state
        routes = self.platform.observe(spec.target)
        if not state.phase.is_decided and (refusal := self._refused.get(spec.storage_uri)):
            name = state.candidate or f"{spec.target}'s candidate"
            routes = replace(
                routes, candidate=RevisionStatus(name, spec.storage_uri, ready=False, detail=refusal, failed=True)
            )
        evidence = tuple(source.read() for source in self.sources) if spec.strategy.immediate is None else ()
        commands = self.store.commands(state.uid, state.command_seq)
        return Observation(routes, evidence, commands, self._smoke(spec, state.phase, routes, first=state.is_first))

    def _smoke(self, spec: RolloutSpec, phase: Phase, routes: Routes, *, first: bool) -> Smoke | None:
        candidate = routes.candidate or (routes.stable if first else None)
        if (
            phase is not Phase.PREPARING
            or candidate is None
            or not candidate.ready
            or candidate.storage_uri != spec.storage_uri
        ):
            return None
        if candidate.name not in self._smoked:
            self._smoked[candidate.name] = self.smoke_test.run(candidate.address)
        return self._smoked[candidate.name]

    def _make_so(self, spec: RolloutSpec, desired: Desired, routes: Routes) -> RelevoError | None:
        """Compare wish and world, and do what is missing, traffic before load. What fails is said and tried again."""
        try:
            if desired.keep is not None:
                self.platform.settle(spec.target, desired.keep)
            if desired.prepare:
                self._prepare(spec, routes)
            if desired.split is not None and (routes.weight_percent, routes.label) != (
                desired.split.weight_percent,
                desired.split.label,
            ):
                self._withdraw_label(spec, desired.split, routes)
                self.platform.set_weight(spec.target, desired.split)
            if desired.users is not None and spec.strategy.immediate is None:
                self.load.ensure(LoadPlan(desired.users, spec.load.spawn_rate, _shadow_targets(desired, routes)))
                self.load.announce(_label_in_force(desired, routes))
        except RelevoError as error:
            return error
        return None

    def _withdraw_label(self, spec: RolloutSpec, split: Split, routes: Routes) -> None:
        """Before the split changes, so that no request is counted under a label that does not route it any more."""
        if spec.strategy.immediate is not None:
            return
        try:
            self.load.announce("")
        except Transient:
            if split.weight_percent > routes.weight_percent:
                raise  # taking traffic away from a candidate waits for nobody

    def _prepare(self, spec: RolloutSpec, routes: Routes) -> None:
        """Also where a candidate is seen that is not ready: whoever began to prepare it may have died in the middle."""
        there = routes.candidate is not None and routes.candidate.storage_uri == spec.storage_uri
        if there and (spec.storage_uri in self._prepared or (routes.candidate is not None and routes.candidate.ready)):
            return
        try:
            self.platform.prepare(spec.target, ModelRef(spec.storage_uri))
            self._prepared.add(spec.storage_uri)
        except (Transient, Forbidden):
            raise  # which says nothing of the model
        except Permanent as error:
            self._refused[spec.storage_uri] = error.message
            raise


def _label_in_force(desired: Desired, routes: Routes) -> str:
    """The label by which requests were seen to be routed, if the split is the one that is wished for."""
    split = desired.split
    in_force = split is not None and (routes.weight_percent, routes.label) == (split.weight_percent, split.label)
    return routes.label if in_force else ""


def _shadow_targets(desired: Desired, routes: Routes) -> ShadowTargets | None:
    if desired.shadow_label is None or routes.candidate is None or not routes.candidate.address:
        return None
    stable, candidate = routes.stable, routes.candidate
    return ShadowTargets(desired.shadow_label, stable.name, stable.address, candidate.name, candidate.address)
