"""KServe 0.20 and Knative Serving 0.48 on paper: the objects that a canary goes through, each controller a step that a test takes.

Each controller does to its objects what the real one does, as read in their sources: `ksvc_reconciler.go` and `PropagateStatus` of
KServe, the service, configuration and route reconcilers of Knative. A test decides in which order they run. Implements
`cluster_api.Objects`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relevo.errors import Conflict
from relevo.platforms.cluster_api import Kind

__all__ = ["NAMESPACE", "FakeCluster", "uri"]

NAMESPACE = "team"
Json = dict[str, Any]


def uri(version: int) -> str:
    """The model of a version."""
    return f"oci://dev.local/iris:{version}"


@dataclass
class Revision:
    """A Knative Revision and its one pod."""

    name: str
    number: int
    uri: str
    tagged: bool
    ready: bool = False
    pod: Json | None = None


@dataclass
class FakeCluster:
    """One InferenceService "iris" with all that is made of it."""

    percent: int | None = None
    uri: str = field(default_factory=lambda: uri(1))
    tags: bool = False
    version: int = 1
    owners: dict[str, str] = field(default_factory=lambda: {"uri": "kubectl"})
    component: Json = field(default_factory=dict)
    template: tuple[str, bool] | None = None
    traffic: list[Json] = field(default_factory=list)
    service_status: Json = field(default_factory=lambda: {"created": "", "ready": "", "traffic": []})
    config: tuple[str, bool] | None = None
    config_generation: int = 0
    config_observed: int = 0
    created: str = ""
    latest_ready: str = ""
    route_traffic: list[Json] = field(default_factory=list)
    route_generation: int = 0
    route_observed: int = 0
    routed: list[Json] = field(default_factory=list)
    """What the Route's status says."""
    confirmed: bool = False
    live: dict[str, int] = field(default_factory=dict)
    """By what the gateway really routes: percent per revision."""
    revisions: list[Revision] = field(default_factory=list)
    patches: list[Json] = field(default_factory=list)
    before_patch: Callable[[], None] | None = None
    """Called before each write, as somebody who is faster."""
    extra_spec: Json = field(default_factory=dict)
    status: Json = field(default_factory=dict)
    missing: bool = False

    # -- the controllers -----------------------------------------------------------------------------------------------------------

    def kserve(self) -> None:
        """KServe: make the Knative Service from the InferenceService, then take over its status."""
        rolled = self.component.get("latestRolledoutRevision", "")
        if self.percent is not None and rolled:
            wanted: list[Json] = [
                {"latestRevision": True, "percent": self.percent, **({"tag": "latest"} if self.tags else {})}
            ]
            if self.percent < 100:
                wanted.append(
                    {"revisionName": rolled, "latestRevision": False, "percent": 100 - self.percent, "tag": "prev"}
                )
        else:
            wanted = [{"latestRevision": True, "percent": 100, **({"tag": "latest"} if self.tags else {})}]
        self.template, self.traffic = (self.uri, self.tags), wanted
        self._propagate()

    def _propagate(self) -> None:
        status, before = self.service_status, dict(self.component)
        by_revision: dict[str, int] = {}
        for target in status["traffic"]:
            by_revision[target["revisionName"]] = by_revision.get(target["revisionName"], 0) + target["percent"]
        for target in status["traffic"]:
            if target["revisionName"] != status["ready"] or not target["latestRevision"]:
                continue
            if self.component.get("latestRolledoutRevision") != status["ready"]:
                if target["percent"] == 100:
                    self.component["previousRolledoutRevision"] = self.component.get("latestRolledoutRevision", "")
                    self.component["latestRolledoutRevision"] = status["ready"]
            elif status["ready"] == status["created"] and target["percent"] < 100:
                whole = by_revision[target["revisionName"]] == 100
                if whole and self.component.get("previousRolledoutRevision"):
                    self.component["latestRolledoutRevision"] = self.component["previousRolledoutRevision"]
        self.component["latestReadyRevision"] = status["ready"]
        self.component["latestCreatedRevision"] = status["created"]
        if self.component != before:
            self.version += 1

    def service(self) -> None:
        """Knative's service controller."""
        if self.template is None:
            return
        if self.config != self.template:
            self.config, self.config_generation = self.template, self.config_generation + 1
        if self.config_generation == self.config_observed:
            self.service_status |= {"created": self.created, "ready": self.latest_ready}
        if self.route_traffic != self.traffic:
            self.route_traffic, self.route_generation = copy.deepcopy(self.traffic), self.route_generation + 1
        if self.route_generation == self.route_observed:
            self.service_status["traffic"] = copy.deepcopy(self.routed)

    def configuration(self) -> None:
        """Knative's configuration controller: a new revision for a new generation."""
        if self.config is not None and self.config_generation != self.config_observed:
            name = f"iris-predictor-{self.config_generation:05d}"
            self.revisions.append(Revision(name, self.config_generation, *self.config))
            self.created, self.config_observed = name, self.config_generation
        ready = [r for r in self.revisions if r.ready]
        if ready:
            self.latest_ready = ready[-1].name

    def route(self) -> None:
        """Knative's route controller: what each target means now. The gateway follows with `gateway`."""
        if not self.latest_ready or not self.route_generation:
            return
        routed = []
        for target in self.route_traffic:
            name = self.latest_ready if target["latestRevision"] else target["revisionName"]
            tag = target.get("tag", "")
            host = f"{tag}-iris-predictor.team.example.com" if tag else ""
            routed.append({**target, "revisionName": name, **({"url": f"http://{host}"} if tag else {})})
        if routed != self.routed or self.route_observed != self.route_generation:
            self.confirmed = False
        self.routed, self.route_observed = routed, self.route_generation

    def gateway(self) -> None:
        """Kourier: route as the Route's status says, and confirm it."""
        if self.routed and self.route_observed == self.route_generation:
            self.live = self._weights()
            self.confirmed = True

    def _weights(self) -> dict[str, int]:
        weights: dict[str, int] = {}
        for target in self.routed:
            weights[target["revisionName"]] = weights.get(target["revisionName"], 0) + target["percent"]
        return weights

    @property
    def controllers(self) -> tuple[Callable[[], None], ...]:
        """All of them, in the order in which a change passes them."""
        return (self.kserve, self.service, self.configuration, self.route, self.gateway)

    def start(self, name: str | None = None) -> None:
        """A revision's pod becomes ready; the newest one's without a name."""
        for revision in self.revisions:
            if revision.name == (name or self.revisions[-1].name):
                revision.ready = True

    def rest(self, *, start: bool = True) -> None:
        """Run all controllers until nothing changes; with `start`, every pod comes up."""
        for _ in range(12):
            if start:
                for revision in self.revisions:
                    revision.ready = revision.ready or revision.pod is None
            for controller in self.controllers:
                controller()

    # -- users and people ----------------------------------------------------------------------------------------------------------

    @property
    def users_reach(self) -> dict[str, int]:
        """Percent of the users' requests by model."""
        models = {r.name: r.uri for r in self.revisions}
        reached: dict[str, int] = {}
        for name, percent in self.live.items():
            if percent:
                reached[models[name]] = reached.get(models[name], 0) + percent
        return reached

    def edit(self, **fields: Any) -> None:
        """Somebody uses `kubectl edit`."""
        self._set(fields, "kubectl-edit")

    def _set(self, fields: Mapping[str, Any], manager: str) -> None:
        for name, value in fields.items():
            if getattr(self, name) != value:
                setattr(self, name, value)
                self.owners[name] = manager
                if value is None:
                    del self.owners[name]
        self.version += 1

    # -- relevo.platforms.cluster_api.Objects --------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """The InferenceService or the Route."""
        assert namespace == NAMESPACE
        if kind.plural == "routes":
            return self._route_document() if self.route_generation else None
        return None if self.missing or name != "iris" else self._service_document()

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Json]:
        """Revisions or pods."""
        assert namespace == NAMESPACE
        assert labels == {"serving.knative.dev/service": "iris-predictor"}
        if kind.plural == "revisions":
            return [_revision_document(r) for r in self.revisions]
        return [_pod_document(r) for r in self.revisions]

    def patch(self, kind: Kind, namespace: str, name: str, changes: Mapping[str, Any]) -> Json:
        """A merge patch of the InferenceService or its status."""
        if self.before_patch is not None:
            self.before_patch()
        if changes["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict("the object has been modified")
        self.patches.append(copy.deepcopy(dict(changes)))
        if name.endswith("/status"):
            self.component |= changes["status"]["components"]["predictor"]
            self.version += 1
            return self._service_document()
        predictor = changes["spec"]["predictor"]
        fields: Json = {}
        if "canaryTrafficPercent" in predictor:
            fields["percent"] = predictor["canaryTrafficPercent"]
        if "model" in predictor:
            fields["uri"] = predictor["model"]["storageUri"]
        if "annotations" in changes["metadata"]:
            fields["tags"] = True
        self._set(fields, "relevo")
        return self._service_document()

    def apply(self, kind: Kind, namespace: str, manifest: Mapping[str, Any]) -> Json:
        """Not used."""
        raise AssertionError

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Not used."""
        raise AssertionError

    def _service_document(self) -> Json:
        paths = {"percent": {"f:canaryTrafficPercent": {}}, "uri": {"f:model": {"f:storageUri": {}}}, "tags": {}}
        managed = [
            {"manager": who, "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:predictor": paths[what]}}}
            for what, who in self.owners.items()
        ]
        predictor: Json = {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": self.uri}, "minReplicas": 1}
        if self.percent is not None:
            predictor["canaryTrafficPercent"] = self.percent
        annotations = {"serving.kserve.io/enable-tag-routing": "true"} if self.tags else {}
        return {
            "metadata": {
                "name": "iris", "namespace": NAMESPACE, "resourceVersion": str(self.version), "annotations": annotations,
                "managedFields": managed,
            },
            "spec": {"predictor": predictor | self.extra_spec},
            "status": {"deploymentMode": "Knative", "components": {"predictor": dict(self.component)}} | self.status,
        }  # fmt: skip

    def _route_document(self) -> Json:
        spec = [
            {**t, **({} if "revisionName" in t else {"configurationName": "iris-predictor"})}
            for t in self.route_traffic
        ]
        return {
            "metadata": {"generation": self.route_generation},
            "spec": {"traffic": spec},
            "status": {
                "observedGeneration": self.route_observed,
                "traffic": copy.deepcopy(self.routed),
                "url": "http://iris-predictor.team.example.com",
                "conditions": [{"type": "Ready", "status": "True" if self.confirmed else "Unknown"}],
            },
        }


def _revision_document(revision: Revision) -> Json:
    return {
        "metadata": {
            "name": revision.name,
            "labels": {"serving.knative.dev/configurationGeneration": str(revision.number)},
            "annotations": {"internal.serving.kserve.io/storage-initializer-sourceuri": revision.uri},
        },
        "status": {"conditions": [{"type": "Ready", "status": "True" if revision.ready else "Unknown"}]},
    }


def _pod_document(revision: Revision) -> Json:
    metadata = {"name": f"{revision.name}-pod", "labels": {"serving.knative.dev/revision": revision.name}}
    if revision.pod is not None:
        return {"metadata": metadata, "status": revision.pod}
    ready = "True" if revision.ready else "False"
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready}]}}
