"""An API server on paper, with what matters of it here: versions, conflicts, generations, the status by itself, finalizers. On top of it
the operator's parts, over simulated services, with a clock that the test moves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.simulated_platform import SimulatedCluster, SimulatedService
from relevo.errors import Conflict, RelevoError
from relevo.operator.agenda import Agenda
from relevo.operator.events import Events
from relevo.operator.fleet import Fleet
from relevo.operator.metrics import Metrics
from relevo.operator.steward import Shared, Steward
from relevo.platforms.cluster_api import INFERENCE_SERVICES, ROLLOUTS, ApiError, Kind
from relevo.rollout.observation import Routes

START = datetime(2026, 1, 1, tzinfo=UTC)
FAST = {"canary": {"weights": [5, 50], "stepSeconds": 1, "stepRequests": 5}}


class PaperApi:
    """Objects by kind, namespace and name."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._version = 0
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.status_writes = 0
        self.fails: list[RelevoError] = []
        """Raised by the next calls, one each."""
        self.refuses: dict[tuple[str, str], RelevoError] = {}
        """Raised by every call of a verb on a plural."""
        self.on_change: Any = lambda kind, body, deleted: None

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        self._may("get", kind)
        found = self.objects.get((kind.plural, namespace, name))
        return copy.deepcopy(found)

    def list(self, kind: Kind, namespace: str) -> list[dict[str, Any]]:
        self._may("list", kind)
        return [
            copy.deepcopy(o) for (plural, ns, _), o in self.objects.items() if (plural, ns) == (kind.plural, namespace)
        ]

    def create(self, kind: Kind, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        self._may("create", kind)
        body = copy.deepcopy(dict(manifest))
        key = (kind.plural, namespace, body["metadata"]["name"])
        if key in self.objects:
            raise Conflict(f"{key} is there already")
        self._version += 1
        stamp = self._clock().isoformat().replace("+00:00", "Z")
        body["metadata"] |= {
            "namespace": namespace,
            "uid": f"uid-{self._version}",
            "creationTimestamp": stamp,
            "generation": 1,
            "resourceVersion": str(self._version),
        }
        self.objects[key] = body
        self._changed(kind, body)
        return copy.deepcopy(body)

    def patch(self, kind: Kind, namespace: str, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        self._may("patch", kind)
        before = self._found(kind, namespace, name)
        self._hold(before, changes.get("metadata", {}).get("resourceVersion"))
        body = _merged(before, changes)
        return self._store(kind, before, body)

    def replace(
        self, kind: Kind, namespace: str, name: str, manifest: Mapping[str, Any], *, subresource: str = ""
    ) -> dict[str, Any]:
        self._may("update", kind)
        before = self._found(kind, namespace, name)
        self._hold(before, manifest["metadata"].get("resourceVersion"))
        body = copy.deepcopy(before)
        if subresource:
            self.status_writes += kind is ROLLOUTS
            body[subresource] = copy.deepcopy(manifest[subresource])
        else:
            body |= {k: copy.deepcopy(v) for k, v in manifest.items() if k not in ("metadata", "status")}
        return self._store(kind, before, body)

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        before = self._found(kind, namespace, name)
        if before["metadata"].get("finalizers"):
            self._store(kind, before, _merged(before, {"metadata": {"deletionTimestamp": self._clock().isoformat()}}))
            return
        del self.objects[kind.plural, namespace, name]
        self.on_change(kind, before, True)

    def _store(self, kind: Kind, before: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        metadata = body["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            del self.objects[kind.plural, metadata["namespace"], metadata["name"]]
            self.on_change(kind, body, True)
            return body
        if body == before:
            return copy.deepcopy(body)
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        metadata["generation"] = before["metadata"]["generation"] + (body.get("spec") != before.get("spec"))
        self.objects[kind.plural, metadata["namespace"], metadata["name"]] = body
        self._changed(kind, body)
        return copy.deepcopy(body)

    def _changed(self, kind: Kind, body: dict[str, Any]) -> None:
        self.on_change(kind, copy.deepcopy(body), False)

    def _may(self, verb: str, kind: Kind) -> None:
        if self.fails:
            raise self.fails.pop(0)
        if error := self.refuses.get((verb, kind.plural)):
            raise error

    def _found(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        found = self.objects.get((kind.plural, namespace, name))
        if found is None:
            raise ApiError(f"{name}: there is no such {kind.plural}", status=404)
        return found

    @staticmethod
    def _hold(before: dict[str, Any], version: str | None) -> None:
        if version is not None and version != before["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified")


class Paper:
    """A cluster on paper, and one replica of the operator in it. `run` lets time pass."""

    def __init__(self) -> None:
        self.now = START
        self.api = PaperApi(lambda: self.now)
        self.services = SimulatedCluster(lambda: self.now)
        self.leads = True
        self.start_operator()

    def start_operator(self) -> None:
        """A new process that knows nothing; the one before is gone, as if it were killed."""
        self.metrics = Metrics()
        self.shared = Shared(
            api=self.api,
            wires=self.services,
            events=Events(self.api, "paper", clock=lambda: self.now),
            metrics=self.metrics,
            may_act=lambda: self.leads,
            clock=lambda: self.now,
            monotonic=self.seconds,
        )
        self.agenda = Agenda(0, monotonic=self.seconds)
        self.fleet = Fleet(self.shared, self.agenda)
        self.api.on_change = self._hear
        for (plural, _, _), body in list(self.api.objects.items()):
            if plural == ROLLOUTS.plural:
                self.fleet.hear(copy.deepcopy(body), deleted=False)

    def seconds(self) -> float:
        """Since the beginning."""
        return (self.now - START).total_seconds()

    def _hear(self, kind: Kind, body: dict[str, Any], deleted: bool) -> None:
        if kind is ROLLOUTS:
            self.fleet.hear(body, deleted=deleted)

    def changes(self, kind: Kind) -> list[tuple[str, float]]:
        """Name and time of each object of a kind that changes from now on; the list grows."""
        found: list[tuple[str, float]] = []
        hear = self.api.on_change

        def note(changed: Kind, body: dict[str, Any], deleted: bool) -> None:
            hear(changed, body, deleted)
            if changed is kind:
                found.append((body["metadata"]["name"], self.seconds()))

        self.api.on_change = note
        return found

    def looks_at(self, target: str) -> list[float]:
        """The time of each look at an InferenceService from now on; the list grows."""
        found: list[float] = []
        service = self.service(target)
        observe = service.observe

        def note(name: str) -> Routes:
            found.append(self.seconds())
            return observe(name)

        service.observe = note  # type: ignore[method-assign]
        return found

    def service(self, target: str = "iris", namespace: str = "default") -> SimulatedService:
        """The InferenceService, which is made with the first question."""
        if ("inferenceservices", namespace, target) not in self.api.objects:
            self.api.create(INFERENCE_SERVICES, namespace, {"metadata": {"name": target}})
        return self.services.service(namespace, target)

    def create(self, name: str = "iris", uri: str = "sim://iris/2", **fields: Any) -> None:
        """A Rollout, with a short strategy unless another is given."""
        spec = {"target": "iris", "storageUri": uri, "sources": ["locust"], "strategy": FAST, **fields}
        self.service(spec["target"])
        self.api.create(ROLLOUTS, "default", {"metadata": {"name": name}, "spec": spec})

    def edit(self, name: str = "iris", **fields: Any) -> None:
        """A human edits the spec."""
        self.api.patch(ROLLOUTS, "default", name, {"spec": fields})

    def annotate(self, text: str, name: str = "iris") -> None:
        """A human orders something."""
        self.api.patch(ROLLOUTS, "default", name, {"metadata": {"annotations": {"relevo.dev/command": text}}})

    def order(self, verb: str, seq: int = 1, name: str = "iris") -> None:
        """A human orders something by the command line."""
        self.annotate(f'{{"verb": "{verb}", "by": "ada", "at": "{self.now.isoformat()}", "seq": {seq}}}', name)

    def body(self, name: str = "iris") -> dict[str, Any]:
        """The Rollout."""
        return self.api.objects["rollouts", "default", name]

    def status(self, name: str = "iris") -> dict[str, Any]:
        """Its status."""
        status: dict[str, Any] = self.body(name).get("status", {})
        return status

    def condition(self, kind: str, name: str = "iris") -> dict[str, Any]:
        """One of its conditions."""
        return next(c for c in self.status(name)["conditions"] if c["type"] == kind)

    def events(self, name: str = "iris") -> list[str]:
        """The reasons of its Events, in their order."""
        found = [o for (plural, _, _), o in self.api.objects.items() if plural == "events"]
        return [e["reason"] for e in found if e["involvedObject"]["name"] == name]

    def stewards(self) -> list[Steward]:
        """All stewards of this replica."""
        return list(self.fleet._stewards.values())

    def run(self, seconds: float = 0.0, until: str = "", step: float = 0.02) -> None:
        """Work on what is due while time passes; `until` a phase is reached."""
        end = self.now + timedelta(seconds=seconds or 120)
        while self.now < end:
            due = [
                key for key, entry in self.agenda._entries.items() if entry.due is not None and self._is_due(entry.due)
            ]
            for key in due:
                self._work(key)
            if until and self.status().get("phase") == until:
                return
            if not due:
                self.now += timedelta(seconds=step)
        assert not until, f"{self.status().get('phase')}: {self.status().get('reason')}"

    def _is_due(self, due: float) -> bool:
        return due <= (self.now - START).total_seconds()

    def _work(self, key: str) -> None:
        entry = self.agenda._entries.get(key)
        if entry is None:
            return
        entry.due, entry.running = None, True
        again = entry.work()
        entry.running = False
        if entry.prompted:
            entry.prompted, again = False, 0.0
        if again is not None:
            entry.due = (self.now - START).total_seconds() + again


def _merged(before: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    body = dict(copy.deepcopy(before)) if isinstance(before, dict) else {}
    for key, value in changes.items():
        if value is None:
            body.pop(key, None)
        elif isinstance(value, Mapping):
            body[key] = _merged(body.get(key), value)
        else:
            body[key] = copy.deepcopy(value)
    return body
