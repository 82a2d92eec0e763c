"""What is known of rollouts on a cluster, read from the Rollout resources and the records beside them. Implements `Journal`.

The operator keeps a run's whole state in its resource's status, so that what is drawn here is computed from the same numbers as on one
machine. The resource holds the present run; its history goes further back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo.errors import BadInput, Permanent, RelevoError
from relevo.operator.resource import read_resource, rollout_of, spec_of
from relevo.operator.status import Run, read_run
from relevo.platforms.blue_green.platform import BlueGreenPlatform, is_coloured
from relevo.platforms.cluster_api import CONFIG_MAPS, INFERENCE_SERVICES, ROLLOUTS, Objects
from relevo.rollout.observation import RevisionStatus
from relevo.rollout.state import new_state
from relevo.store.rollouts import Record

if TYPE_CHECKING:
    from relevo.packaging import Package
    from relevo.reconcile.snapshot import Snapshot
    from relevo.rollout.decision import Transition

__all__ = ["ClusterJournal", "ClusterRecord", "Json", "record_of", "storage_uri_of", "transition_of"]

NEGLECTED_SECONDS = 75.0
"""A rollout that was not looked at for so long is not carried: the operator stores a held one every 30 s."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ClusterRecord(Record):
    """A rollout, and the resource that holds it."""

    body: Json = field(default_factory=dict)
    run: Run | None = None
    """None until the operator has taken it up."""

    @property
    def name(self) -> str:
        """The resource's name."""
        return str(self.body["metadata"]["name"])

    @property
    def trouble(self) -> str:
        """Why the operator cannot carry it, in its own words."""
        conditions = self.body.get("status", {}).get("conditions", ())
        return next((str(c["message"]) for c in conditions if c["type"] == "Ready" and c["status"] == "False"), "")


class ClusterJournal:
    """The Rollouts of one namespace. Implements `Journal` and `Archive`."""

    def __init__(self, objects: Objects, namespace: str, flags: str = "") -> None:
        self._objects = objects
        self.namespace = namespace
        self.flags = flags
        """What follows the target in the commands that sentences name."""

    @property
    def archive(self) -> ClusterJournal:
        """Itself."""
        return self

    @property
    def home(self) -> Path:
        """RELEVO_HOME/reports."""
        from relevo.packaging.store import home_folder

        return home_folder() / "reports"

    @property
    def locust_url(self) -> str:
        """It has no address that can be opened from here; `relevo dashboard` gives it one."""
        return ""

    # -- Archive -------------------------------------------------------------------------------------------------------------------

    def find(self, target: str | None = None) -> list[ClusterRecord]:
        """Rollouts, newest first. Raises `BadInput` where the cluster knows no Rollouts."""
        records = [record_of(body) for body in self._objects.list(ROLLOUTS, self.namespace)]
        mine = [r for r in records if target in (None, r.rollout.spec.target)]
        return sorted(mine, key=lambda r: r.state.started_at, reverse=True)

    def latest(self, target: str | None = None) -> ClusterRecord | None:
        """The rollout that began last, of one target or of all."""
        return next(iter(self.find(target)), None)

    def get(self, uid: str) -> ClusterRecord:
        """A rollout by the name of its run or of its resource. Raises `Permanent` where there is none."""
        for record in self.find():
            if uid in (record.state.uid, record.name):
                return record
        raise Permanent(
            f"rollout {uid}: there is none in namespace {self.namespace}",
            next_step="`relevo history` lists those that are there; a resource holds its last run only.",
        )

    def read(self, name: str) -> ClusterRecord | None:
        """The rollout that a resource holds now; None where there is no resource of that name."""
        body = self._objects.get(ROLLOUTS, self.namespace, name)
        return record_of(body) if body is not None else None

    def transitions(self, uid: str) -> list[Transition]:
        """The audit log: with all numbers where the operator has them on record, else what the status still holds."""
        record = self.get(uid)
        kept = self._kept(record, "transitions.json")
        return [transition_of(line) for line in kept or (record.run.history if record.run else ())]

    def samples(self, uid: str) -> list[Json]:
        """What the ticks saw, thinned."""
        return self._kept(self.get(uid), "samples.json")

    # -- Journal -------------------------------------------------------------------------------------------------------------------

    def known(self, target: str | None) -> str:
        """The target that is meant: the one named, or the only one there is. Raises `BadInput`."""
        if target is not None:
            if not self.find(target) and not is_coloured(self._objects, self.namespace, target):
                self.service(target)
            return target
        names = sorted({record.rollout.spec.target for record in self.find()})
        names = names or sorted({_model_of(b) for b in self._objects.list(INFERENCE_SERVICES, self.namespace)})
        if len(names) == 1:
            return names[0]
        if names:
            raise BadInput(
                f"which one is meant? Namespace {self.namespace} has {', '.join(names)}",
                next_step="Give its name as an argument.",
            )
        raise BadInput(
            f"namespace {self.namespace} has no InferenceService",
            next_step="Make one with `kubectl apply -f k8s/samples/iris.yaml`, or name another with --namespace.",
        )

    def service(self, target: str) -> Json:
        """The InferenceService of that name. Raises `BadInput` where there is none."""
        body = self._objects.get(INFERENCE_SERVICES, self.namespace, target)
        if body is None:
            raise BadInput(
                f"no InferenceService {target} in namespace {self.namespace}",
                next_step=f"Make it with `kubectl apply -f`, as k8s/samples/{target}.yaml does, or name another namespace.",
            )
        return body

    def snapshot(self, record: Record) -> Snapshot | None:
        """How a rollout looks, by the state that the operator stored last."""
        assert isinstance(record, ClusterRecord)
        if record.run is None:
            return None
        from relevo.reconcile.snapshot import take_snapshot
        from relevo.rollout.assessment import assess
        from relevo.rollout.decision import Decision, desired
        from relevo.rollout.observation import Observation, Routes
        from relevo.rollout.ramp import expand

        spec, state = record.rollout.spec, record.state
        stable = RevisionStatus(state.stable, state.stable_uri, ready=True)
        candidate = RevisionStatus(state.candidate, spec.storage_uri, ready=True) if state.candidate else None
        assessment = assess(spec, expand(spec), state) if spec.strategy.immediate is None else None
        seen = Observation(Routes(stable, candidate, record.run.weight_percent, ""))
        at = state.phase_since if state.phase.is_terminal else state.looked_at or state.started_at
        return take_snapshot(spec, Decision(state, desired(spec, state), (), assessment), seen, at)

    def idle(self, target: str) -> Json:
        """What the InferenceService serves, or the active one of two colours."""
        plain = self._objects.get(INFERENCE_SERVICES, self.namespace, target) is not None
        if not plain and is_coloured(self._objects, self.namespace, target):
            stable = BlueGreenPlatform(self.namespace, self._objects).observe(target).stable
            told = {"revision": stable.name, "storageUri": stable.storage_uri}
            return {**told, "ready": stable.ready, "detail": stable.detail}
        body = self.service(target)
        predictor = body.get("status", {}).get("components", {}).get("predictor", {})
        conditions: list[Json] = body.get("status", {}).get("conditions", [])
        ready = next((c for c in conditions if c["type"] == "Ready"), {})
        return {
            "revision": predictor.get("latestRolledoutRevision") or predictor.get("latestReadyRevision") or "",
            "storageUri": storage_uri_of(body),
            "ready": ready.get("status") == "True",
            "detail": ready.get("message") or ready.get("reason") or "not ready yet",
        }

    def driver(self, record: Record) -> str:
        """The operator, where it carries the rollout."""
        return "" if record.state.phase.is_terminal or self.neglect(record) else "operator"

    def neglect(self, record: Record) -> str:
        """Whether the operator carries it, and if not, why."""
        assert isinstance(record, ClusterRecord)
        if record.state.phase.is_terminal:
            return ""
        if record.trouble:
            return f"The operator cannot carry it: {record.trouble}"
        if record.run is None:
            return (
                "No operator has taken it up yet. See `kubectl get pods -A -l app.kubernetes.io/name=relevo`, "
                f"and whether it watches namespace {self.namespace}."
            )
        looked_at = record.state.looked_at or record.state.started_at
        seconds = (datetime.now(UTC) - looked_at).total_seconds()
        if seconds < NEGLECTED_SECONDS:
            return ""
        pods = "`kubectl get pods -A -l app.kubernetes.io/name=relevo`"
        return f"The operator has not looked at it for {seconds:.0f} s; see {pods}."

    def package(self, storage_uri: str) -> Package | None:
        """A model's package, where the local store has it."""
        from relevo.packaging import load_package, resolve
        from relevo.packaging.store import home_folder

        try:
            return load_package(resolve(storage_uri, home_folder()))
        except RelevoError:
            return None

    def _kept(self, record: ClusterRecord, key: str) -> list[Json]:
        """A part of what the operator keeps beside the resource, if it is of this run."""
        found = self._objects.get(CONFIG_MAPS, self.namespace, f"{record.name}-record")
        data = found.get("data", {}) if found else {}
        if data.get("uid") != record.state.uid or key not in data:
            return []
        return list(json.loads(data[key]))


def _model_of(service: Json) -> str:
    """The name that rollouts know it by: a colour's is its model's."""
    labels = service["metadata"].get("labels") or {}
    return str(labels.get("relevo.dev/model") or service["metadata"]["name"])


def storage_uri_of(service: Mapping[str, Any]) -> str:
    """The model that an InferenceService names; empty where it has another form."""
    return str(service.get("spec", {}).get("predictor", {}).get("model", {}).get("storageUri", ""))


def record_of(body: Json) -> ClusterRecord:
    """A Rollout resource as a record.

    Raises:
        Permanent: its status was written by another version.
    """
    resource = read_resource(body)
    try:
        run = read_run(body.get("status", {}))
    except ValueError as error:
        raise Permanent(
            f"Rollout {resource.key}: {error}", next_step="Use the relevo of the operator's version."
        ) from error
    if run is None:
        rollout = rollout_of(resource)
        state = new_state(resource.name, RevisionStatus("", "", ready=False), resource.created_at)
    else:
        rollout, state = spec_of(resource, run.pinned), run.state
    return ClusterRecord(rollout, state, resource.generation, "", 0.0, resource.created_at, body, run)


def transition_of(line: Mapping[str, Any]) -> Transition:
    """A line of the history: of the record, or of the status, which names the places as Kubernetes' users know them."""
    from relevo.rollout.decision import Transition

    return Transition(
        datetime.fromisoformat(line["at"]),
        line["who"],
        line["rule"],
        line.get("before", line.get("from", "")),
        line.get("after", line.get("to", "")),
        line["message"],
        line.get("facts", {}),
    )
