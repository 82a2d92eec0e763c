"""Keeps one Rollout's state in its status: the `TickStore` of a cluster, under optimistic locking by resourceVersion.

What moves a rollout is written before it is acted on. Counts that only grow are written now and then: a source is cumulative, so who
takes over from an older state reads the difference and has lost nothing, as long as neither the label nor the source's epoch has changed in
between; those are written at once, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Protocol

from relevo.errors import Conflict
from relevo.operator.resource import FINALIZER, Order, Resource, order_of, read_resource
from relevo.operator.status import Run, Trouble, read_run, with_tick, write_status
from relevo.platforms.cluster_api import ROLLOUTS, Kind
from relevo.rollout.commands import Command, Verb
from relevo.rollout.decision import Transition
from relevo.rollout.ledger import Ledger
from relevo.rollout.state import RolloutState
from relevo.store.rollouts import Record

__all__ = ["Api", "Keeper"]

COUNTS_SECONDS = 2.0
"""How old the stored counts may be while a rollout moves."""

HELD_COUNTS_SECONDS = 60.0
"""The same while it is held; times the Rollout's own `spread`, so that many that were held together are not written together."""

Json = dict[str, Any]


class Api(Protocol):
    """What we ask of the API server. `relevo.platforms.cluster_api.Cluster` answers."""

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None: ...
    def list(self, kind: Kind, namespace: str) -> list[Json]: ...
    def create(self, kind: Kind, namespace: str, manifest: Mapping[str, Any]) -> Json: ...
    def patch(self, kind: Kind, namespace: str, name: str, changes: Mapping[str, Any]) -> Json: ...
    def replace(
        self, kind: Kind, namespace: str, name: str, manifest: Mapping[str, Any], *, subresource: str = ""
    ) -> Json: ...


@dataclass(slots=True)
class Keeper:
    """One Rollout's state. Implements `TickStore`. One thread at a time."""

    api: Api
    may_act: Callable[[], bool]
    """Whether this replica holds the lease."""
    resource: Resource
    unreadable: str = ""
    """Why the stored status cannot be read; it is left alone then."""
    run: Run | None = None
    trouble: Trouble | None = None
    """Why it cannot be carried on just now; told in the conditions."""
    on_write: Callable[[], None] = lambda: None
    on_tick: Callable[[Json, tuple[Transition, ...]], None] = lambda sample, transitions: None
    """Hears every tick that was stored."""
    ordered: Verb | None = None
    """An order of our own: what a deletion or an edit asks for."""
    ordered_by: str = ""
    _told: Mapping[str, Any] = field(default_factory=dict)
    """The conditions as they were written last."""
    _written: Run | None = None
    _written_at: datetime | None = None

    # -- what the API server tells -------------------------------------------------------------------------------------------------

    def take_over(self, body: Mapping[str, Any]) -> None:
        """Hear of the object as it is stored now. What we remember beyond it stays, unless somebody else wrote the status.

        What is older than what we know is no news: to act by it could give traffic back to a candidate that was rolled back since.
        """
        resource, status = read_resource(body), body.get("status") or {}
        if resource.uid == self.resource.uid and _is_older(resource.version, self.resource.version):
            return
        ours = (
            self._written is not None
            and status.get("writes") == self._written.writes
            and resource.uid == self.resource.uid
        )
        self.resource = resource
        if not ours:
            self._told = {"conditions": status.get("conditions", ()), **({} if status.get("state") else status)}
            self.unreadable = ""
            try:
                self.run = self._written = read_run(status)
            except ValueError as error:
                self.unreadable = str(error)

    def distrust(self) -> None:
        """Another replica may have acted since we last did: nothing is done before it is seen that the status is as we know it."""
        self._written_at = None

    def refresh(self) -> bool:
        """Read the object anew. False: it is not there any more."""
        body = self.api.get(ROLLOUTS, self.resource.namespace, self.resource.name)
        if body is None or body["metadata"]["uid"] != self.resource.uid:
            return False
        self.take_over(body)
        return True

    # -- TickStore -----------------------------------------------------------------------------------------------------------------

    def save(
        self,
        record: Record,
        state: RolloutState,
        transitions: Iterable[Transition],
        *,
        sample: dict[str, Any] | None = None,
        at: datetime,
        lease_until: float,
    ) -> Record:
        """Store a tick, at once if it moved anything. Raises `Conflict` where we must look again before we act."""
        if not self.may_act():
            raise Conflict("another replica has taken over", next_step="It carries the rollout.")
        assert self.run is not None
        moved = tuple(transitions)
        run = with_tick(self.run, state, moved, sample)
        if moved or self._is_due(run, at):
            self.write(run, at)
        else:
            self.run = run
        self.on_tick(sample or {}, moved)
        return replace(record, state=state, version=record.version + 1)

    def commands(self, uid: str, after: int) -> tuple[Command, ...]:
        """The order in the annotation, if it has not been heard yet; or our own."""
        order = order_of(self.resource)
        command = order.command if isinstance(order, Order) else None
        if command is not None and command.seq > after:
            return (command,)
        if self.ordered is not None:
            return (Command(after + 1, self.ordered, self.ordered_by, self.resource.created_at),)
        return ()

    def release(self, record: Record) -> None:
        """Nothing to give back: the lease is the replica's, not the rollout's."""

    # -- writing -------------------------------------------------------------------------------------------------------------------

    def write(self, run: Run | None, at: datetime) -> None:
        """Write the status. Raises `Conflict` if the object has changed since we heard of it."""
        if run is not None:
            run = replace(run, writes=(self._written.writes if self._written else run.writes) + 1)
        status = write_status(run, self.resource, self.trouble, self._told, at)
        manifest = {
            "apiVersion": "relevo.dev/v1alpha1",
            "kind": "Rollout",
            "metadata": {
                "name": self.resource.name,
                "namespace": self.resource.namespace,
                "uid": self.resource.uid,
                "resourceVersion": self.resource.version,
            },
            "spec": self.resource.spec,
            "status": status,
        }
        body = self.api.replace(ROLLOUTS, self.resource.namespace, self.resource.name, manifest, subresource="status")
        self.resource = read_resource(body)
        self.run = self._written = run
        self._told = status if run is None else {"conditions": status["conditions"]}
        self._written_at = at
        self.on_write()

    def tell(self, trouble: Trouble | None, at: datetime) -> bool:
        """Write why it cannot be carried on, or that it can again. False: it was told already, in these words."""
        if trouble == self.trouble and (self._told.get("conditions") or self.unreadable):
            return False
        self.trouble = trouble
        if not self.unreadable:
            self.write(self.run, at)
        return True

    def guard(self, present: bool) -> None:
        """Have the finalizer, or have it no more. Raises `Conflict` if the object has changed."""
        if (FINALIZER in self.resource.finalizers) is present:
            return
        others = [f for f in self.resource.finalizers if f != FINALIZER]
        wanted = [*others, FINALIZER] if present else others
        changes = {"metadata": {"finalizers": wanted or None, "resourceVersion": self.resource.version}}
        body = self.api.patch(ROLLOUTS, self.resource.namespace, self.resource.name, changes)
        if body:
            self.resource = read_resource(body)

    def rest(self) -> None:
        """Forget all but what tells a new run from this one, which has ended."""
        if self.run is not None:
            state = replace(
                self.run.state, ledger=Ledger(self.run.state.uid), thresholds={}, usual_rates={}, windows={}
            )
            self.run = replace(self.run, state=state, history=(), checks=(), sample=None)
        self._written = None

    def _is_due(self, run: Run, at: datetime) -> bool:
        before, since = self._written, self._written_at
        if before is None or since is None or _marks(before) != _marks(run):
            return True
        held = run.state.hold is not None and not run.state.phase.is_decided
        age = (at - since).total_seconds()
        grown = before.state.ledger != run.state.ledger or before.state.windows != run.state.windows
        return grown and age >= (HELD_COUNTS_SECONDS * self.resource.spread if held else COUNTS_SECONDS)


def _marks(run: Run) -> tuple[Any, ...]:
    """All that must be stored at once when it changes: everything but counts, and the clock."""
    state = run.state
    return (
        replace(state, ledger=_NOTHING, windows={}, looked_at=None, held_seconds=0.0, step_since=state.started_at),
        {name: (source.epoch, source.last_label, source.edges_ms) for name, source in state.ledger.sources.items()},
        state.ledger.label,
        run.weight_percent,
        run.generation,
    )


def _is_older(version: str, known: str) -> bool:
    """Whether a resourceVersion comes before another; not where these are no numbers, as one could not tell."""
    return version.isdigit() and known.isdigit() and int(version) < int(known)


_NOTHING: Final[Any] = None
