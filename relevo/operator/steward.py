"""Carries one Rollout: begins its run, ticks, hears edits and orders, tells its troubles, and lets go of it when it has ended.

A piece of work for the `agenda`: each call does one thing and says when the next is due. What may fail is tried again, later each time;
what only a person can mend is told as a condition and an Event, once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from relevo.errors import BadInput, Conflict, Forbidden, Permanent, Transient
from relevo.operator.edits import changes_between
from relevo.operator.events import Events
from relevo.operator.keeper import Api, Keeper
from relevo.operator.metrics import Metrics, Seen
from relevo.operator.recording import Recorder
from relevo.operator.resource import (
    FINALIZER,
    Order,
    Pinned,
    Resource,
    order_of,
    rollout_of,
    run_name,
    spec_of,
)
from relevo.operator.status import Run, Trouble, with_line
from relevo.operator.troubles import LONGEST_PAUSE_SECONDS, PROMPT_SECONDS, Troubles
from relevo.operator.wiring import Parts
from relevo.platforms.cluster_api import INFERENCE_SERVICES, ROUTES
from relevo.reconcile.tick import Reconciler, Tick
from relevo.rollout.commands import Verb
from relevo.rollout.ledger import Ledger
from relevo.rollout.observation import Routes
from relevo.rollout.platform import Platform
from relevo.rollout.spec import Rollout, RolloutSpec
from relevo.rollout.state import Cause, Phase, RolloutState, new_state
from relevo.store.rollouts import Record

if TYPE_CHECKING:
    from relevo.rollout.decision import Transition

__all__ = ["Shared", "Steward", "Wires"]

_ENDED: Final = (Phase.PROMOTED.value, Phase.ROLLED_BACK.value)

_log = logging.getLogger(__name__)

BUSY_SECONDS: Final = 3.0
HELD_SECONDS: Final = 2.0
"""How often a rollout is looked at that has been held for a while. Orders and edits are heard at once all the same."""
HELD_A_WHILE_SECONDS: Final = 60.0
LOOKS_PER_SECOND: Final = 250.0
"""With more rollouts than can be looked at so often, each is looked at more rarely."""
HELD_LOOKS_PER_SECOND: Final = 100.0
"""The same for those that are held."""


class Wires(Protocol):
    """Where the parts come from; see `wiring`."""

    def platform(self, namespace: str) -> Platform:
        """Where traffic is shifted, for one Rollout."""

    def check(self, spec: RolloutSpec) -> None:
        """Refuse what cannot be done there. Raises `BadInput`."""

    def parts(self, resource: Resource, spec: RolloutSpec, state: RolloutState) -> Parts:
        """What one run works with. Raises `BadInput`."""


@dataclass
class Shared:
    """What all stewards share."""

    api: Api
    wires: Wires
    events: Events
    metrics: Metrics
    may_act: Callable[[], bool]
    clock: Callable[[], datetime]
    monotonic: Callable[[], float] = time.monotonic
    beginning: threading.Lock = field(default_factory=threading.Lock)
    """Held while somebody looks whether an InferenceService is free: it has one run at a time."""
    at_work_on: Callable[[str, str], Iterable[Steward]] = lambda namespace, target: ()
    """The stewards whose Rollouts are under way on an InferenceService, or about to begin."""
    carried: Callable[[], int] = lambda: 1
    """How many rollouts are under way."""


class Steward:
    """One Rollout's. `hear` may be called from any thread, `work` from one at a time."""

    def __init__(self, shared: Shared, resource: Resource) -> None:
        self._shared = shared
        self._lock = threading.Lock()
        self._news: bytes | None = None
        self._keeper = Keeper(
            shared.api, shared.may_act, resource, on_write=shared.metrics.writes.inc, on_tick=self._on_tick
        )
        self._troubles = Troubles(shared, self._keeper, on_deleted=self.close)
        self._platform: Platform | None = None
        self._parts: Parts | None = None
        self._reconciler: Reconciler | None = None
        self._recorder: Recorder | None = None
        self._pending: list[tuple[dict[str, Any], tuple[Transition, ...]]] = []
        self._spec: Mapping[str, Any] = resource.spec
        self._gone = False
        self._begins = False
        self._heard_under_way = False
        """The object said that a run is under way when we last heard of it; `work` may not have read it yet."""

    # -- from outside --------------------------------------------------------------------------------------------------------------

    def hear(self, body: Mapping[str, Any]) -> bool:
        """Take in the object as it is now. False where it is what we have just written ourselves."""
        if body["metadata"].get("resourceVersion") == self._keeper.resource.version and self._keeper.run is not None:
            return False
        status = body.get("status") or {}
        self._heard_under_way = bool(status.get("state")) and status.get("phase") not in _ENDED
        with self._lock:
            self._news = orjson.dumps(body)
        return True

    def is_at_work_on(self, namespace: str, target: str) -> bool:
        """Whether this Rollout's run is under way on an InferenceService, or about to begin."""
        resource = self._keeper.resource
        if resource.namespace != namespace or resource.spec.get("target") != target or self._gone:
            return False
        return self._begins or self.under_way or (self._news is not None and self._heard_under_way)

    def distrust(self) -> None:
        """Another replica may have acted since we last did."""
        self._keeper.distrust()

    def close(self) -> None:
        """Close the connections; the load goes on."""
        self._gone = True
        self._forget_parts()

    @property
    def under_way(self) -> bool:
        """Whether a run is being carried."""
        run = self._keeper.run
        return run is not None and not run.state.phase.is_terminal

    def seen(self) -> Seen:
        """For the metrics."""
        resource, run = self._keeper.resource, self._keeper.run
        phase = run.state.shown_phase if run is not None else Phase.PENDING.value
        return Seen(resource.namespace, resource.name, str(resource.spec.get("target", "")), run, phase)

    def work(self) -> float | None:
        """Do what is due; in how many seconds something is due again, None for not before news."""
        if self._gone or not self._shared.may_act():
            return None
        began = self._shared.monotonic()
        outcome = "ok"
        try:
            again = self._carry()
            self._troubles.none()
        except Conflict:
            outcome, again = "waiting", self._troubles.look_again()
        except Permanent as error:
            outcome, again = "waiting", self._troubles.stuck(error)
        except Transient as error:
            outcome, again = "waiting", self._troubles.waiting(error)
        except Exception as error:
            _log.exception("%s: an error of relevo's own", self._keeper.resource.key)
            problem = Permanent(
                f"an error of relevo's own: {type(error).__name__}: {error}", next_step="See the operator's log."
            )
            outcome, again = "failed", self._troubles.stuck(problem, reason="InternalError")
        self._tell_pending()
        if self.under_way or outcome != "ok":
            resource, metrics = self._keeper.resource, self._shared.metrics
            metrics.ticks.labels(resource.namespace, resource.name, outcome).inc()
            metrics.tick_seconds.observe(self._shared.monotonic() - began)
            metrics.last_tick.set_to_current_time()
        return again

    # -- what is due ---------------------------------------------------------------------------------------------------------------

    def _carry(self) -> float | None:
        self._take_news()
        if self._keeper.unreadable:
            raise BadInput(self._keeper.unreadable, next_step="Let that version end it; its status is left alone.")
        run, resource = self._keeper.run, self._keeper.resource
        if run is not None and not run.state.phase.is_terminal:
            return self._tick(run)
        if run is not None and FINALIZER in resource.finalizers:
            self._finish(run)
        if resource.deleting:
            self._keeper.guard(False)
            return None
        if run is None or self._is_wanted(run):
            return self._begin()
        if run.generation != resource.generation:
            self._keeper.write(replace(run, generation=resource.generation), self._shared.clock())
        self._rest()
        return None

    def _take_news(self) -> None:
        with self._lock:
            news, self._news = self._news, None
        if news is not None:
            self._keeper.take_over(orjson.loads(news))

    def _is_wanted(self, run: Run) -> bool:
        """Whether an ended Rollout is to begin anew: for another model, or because somebody ordered it."""
        order = order_of(self._keeper.resource)
        retried = isinstance(order, Order) and order.verb == "retry" and order.seq > run.state.command_seq
        return retried or self._keeper.resource.spec.get("storageUri") != run.pinned.storage_uri

    def _begin(self) -> float:
        keeper, resource = self._keeper, self._keeper.resource
        try:
            spec = rollout_of(resource).spec
            self._shared.wires.check(spec)
        except BadInput as error:
            return self._troubles.stuck(error, reason="Invalid")
        if other := self._claim(spec.target):
            self._troubles.tell(
                Trouble(
                    "TargetBusy", f"Rollout {other} is under way on {spec.target}; this one begins when it has ended."
                )
            )
            return BUSY_SECONDS
        try:
            routes = self._platform_of(resource).observe(spec.target)
            now = self._shared.clock()
            if waiting := self._first_is_coming(routes, spec, now):
                self._troubles.tell(Trouble("FirstRevisionComing", waiting))
                return 1.0
            keeper.guard(True)
            keeper.trouble, self._spec, self._recorder = None, resource.spec, None
            self._forget_parts()
            keeper.write(self._new_run(routes, spec, now), now)
        finally:
            self._begins = False
        return 0.0

    def _new_run(self, routes: Routes, spec: RolloutSpec, now: datetime) -> Run:
        resource, last = self._keeper.resource, self._keeper.run
        number = last.number + 1 if last is not None else 1
        state = new_state(run_name(resource, number), routes.stable, now)
        state = replace(state, command_seq=self._heard_before(last))
        pinned = Pinned.of(spec) if routes.stable.name else Pinned.of(spec).without_comparison()
        run = Run(state, number, pinned, resource.generation, history=last.history if last is not None else ())
        return _served_already(run, now) if routes.stable.storage_uri == spec.storage_uri else run

    def _claim(self, target: str) -> str:
        """Begin on an InferenceService alone; else the name of the Rollout that is under way there."""
        resource = self._keeper.resource
        with self._shared.beginning:
            for other in self._shared.at_work_on(resource.namespace, target):
                if other is not self:
                    return other._keeper.resource.name
            self._begins = True
        return ""

    def _first_is_coming(self, routes: Routes, spec: RolloutSpec, now: datetime) -> str:
        """What a first deployment waits for: the InferenceService's own first revision, of another model, may be about to come up."""
        first = routes.candidate
        if routes.stable.name or first is None or first.failed or first.storage_uri == spec.storage_uri:
            return ""
        waited = (now - self._keeper.resource.created_at).total_seconds()
        if waited > spec.limits.preparation_seconds:
            return ""
        return f"{first.name or spec.target} is coming up; the rollout begins when it serves. {first.detail}".strip()

    def _heard_before(self, run: Run | None) -> int:
        """The last order that is not this run's: all that were given before it began."""
        order = order_of(self._keeper.resource)
        if not isinstance(order, Order):
            return run.state.command_seq if run is not None else 0
        # Whoever applies a Rollout and orders something before the operator has seen it means this run.
        early = run is None and order.at >= self._keeper.resource.created_at and order.verb != "retry"
        return 0 if early else order.seq

    # -- a run under way -----------------------------------------------------------------------------------------------------------

    def _tick(self, run: Run) -> float:
        keeper, resource = self._keeper, self._keeper.resource
        began = self._shared.monotonic()
        if run.generation != resource.generation:
            run = self._take_up_edit(run)
        rollout = self._rollout(run)
        keeper.ordered, keeper.ordered_by = self._own_order(run)
        reconciler = self._reconciler or self._make_reconciler(rollout, run)
        record = Record(rollout, run.state, 0, "", 0.0, resource.created_at)
        try:
            tick = reconciler.tick(record)
        except Permanent:
            if resource.deleting and self._is_gone(rollout.spec.target):
                keeper.guard(False)  # there is no traffic to give back
                self.close()
                return LONGEST_PAUSE_SECONDS
            raise
        self._troubles.weigh(tick)
        if tick.decision.state.phase.is_terminal:
            self._count_verdict(tick.decision.state)
            return 0.0
        if self._recorder is not None:
            self._recorder.flush(keeper.resource, run.state.uid)
        if tick.decision.transitions and not tick.trouble:
            return PROMPT_SECONDS
        return max(self._interval(tick, rollout.spec) - (self._shared.monotonic() - began), 0.0)

    def _interval(self, tick: Tick, spec: RolloutSpec) -> float:
        state, carried = tick.decision.state, self._shared.carried() * self._keeper.resource.spread
        if state.hold is None or state.phase.is_decided:
            return max(spec.tick_seconds, carried / LOOKS_PER_SECOND)
        pause = max(spec.tick_seconds, carried / HELD_LOOKS_PER_SECOND)
        a_while = (tick.snapshot.at - state.hold.since).total_seconds() >= HELD_A_WHILE_SECONDS
        return max(pause, HELD_SECONDS) if a_while else pause

    def _own_order(self, run: Run) -> tuple[Verb | None, str]:
        """What a deletion or an edit asks of the run."""
        resource = self._keeper.resource
        if run.state.phase.is_decided:
            return None, ""
        if resource.deleting:
            return Verb.ROLLBACK, "The deletion of this Rollout"
        if resource.spec.get("storageUri") != run.pinned.storage_uri:
            return Verb.ROLLBACK, f"The edit of spec.storageUri to {resource.spec.get('storageUri')}"
        return None, ""

    def _rollout(self, run: Run) -> Rollout:
        return spec_of(self._keeper.resource, run.pinned)

    def _take_up_edit(self, run: Run) -> Run:
        """Say what was edited, and work by it from now on."""
        resource = self._keeper.resource
        self._rollout(run)  # an edit that cannot be read is refused before it is told
        message = changes_between(self._spec, resource.spec)
        run = replace(run, generation=resource.generation)
        if message:
            run = with_line(run, self._shared.clock(), "edited", message)
            self._shared.events.post(resource, "PolicyChanged", message)
        self._spec, self._keeper.run = resource.spec, run
        # The sources and the load may have to be others now.
        self._forget_parts()
        return run

    def _make_reconciler(self, rollout: Rollout, run: Run) -> Reconciler:
        resource = self._keeper.resource
        self._parts = self._shared.wires.parts(resource, rollout.spec, run.state)
        self._recorder = self._recorder or Recorder(self._shared.api, self._shared.monotonic, resource.spread)
        self._reconciler = Reconciler(
            store=self._keeper,
            platform=self._platform_of(resource),
            sources=self._parts.sources,
            load=self._parts.load,
            smoke_test=self._parts.smoke_test,
            clock=self._shared.clock,
        )
        return self._reconciler

    def _platform_of(self, resource: Resource) -> Platform:
        if self._platform is None:
            self._platform = self._shared.wires.platform(resource.namespace)
        return self._platform

    def _finish(self, run: Run) -> None:
        """What is left to do for a run that has ended: its load goes, its record is written, and the resource may go."""
        resource = self._keeper.resource
        parts = self._parts or self._shared.wires.parts(resource, self._rollout(run).spec, run.state)
        parts.load.remove()
        parts.close()
        self._tell_pending()
        if self._recorder is not None and not resource.deleting:
            self._recorder.flush(resource, run.state.uid, now=True)
        self._keeper.guard(False)

    def _rest(self) -> None:
        """An ended Rollout costs nothing: only what tells a new run from the old is kept."""
        self._forget_parts()
        self._platform = self._recorder = None
        self._keeper.rest()

    def _forget_parts(self) -> None:
        parts, self._parts, self._reconciler = self._parts, None, None
        if parts is not None:
            parts.close()

    def _is_gone(self, target: str) -> bool:
        try:
            api, namespace = self._shared.api, self._keeper.resource.namespace
            return api.get(INFERENCE_SERVICES, namespace, target) is None and api.get(ROUTES, namespace, target) is None
        except Forbidden:
            return False
        except BadInput:
            return True  # nor is there KServe

    # -- telling -------------------------------------------------------------------------------------------------------------------

    def _on_tick(self, sample: dict[str, Any], transitions: tuple[Transition, ...]) -> None:
        self._pending.append((sample, transitions))

    def _tell_pending(self) -> None:
        """Post Events and keep the record, after the tick has acted."""
        pending, self._pending = self._pending, []
        for sample, transitions in pending:
            for transition in transitions:
                self._shared.events.transition(self._keeper.resource, transition)
            if self._recorder is not None:
                self._recorder.add(sample, transitions)

    def _count_verdict(self, state: RolloutState) -> None:
        verdict = state.verdict.value if state.verdict is not None else "none"
        cause = state.cause.value if state.cause is not None else ""
        self._shared.metrics.verdicts.labels(self._keeper.resource.namespace, verdict, cause).inc()


def _served_already(run: Run, now: datetime) -> Run:
    """A run that is at its end before it begins: the stable revision serves the model that is asked for."""
    state = run.state
    reason = f"{state.stable} serves {state.stable_uri} already."
    state = replace(
        state,
        phase=Phase.PROMOTED,
        candidate=state.stable,
        cause=Cause.NO_COMPARISON,
        reason=reason,
        decided_at=now,
        ledger=Ledger(state.uid),
    )
    return with_line(replace(run, state=state), now, "served", reason)
