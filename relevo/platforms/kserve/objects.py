"""Kubernetes' objects, read into what this platform needs of them. Pure. Neighbours: `pods` reads pods, `routes` interprets.

Two fields that look useful are not read. An InferenceService's `status.observedGeneration` is the *Knative Service's* generation, so
it says nothing of the InferenceService's own; and KServe leaves the whole status stale while a candidate starts. The Knative Route is the
one object that says what the gateway does: what its spec asks, what its status routes, and whether the gateway has confirmed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relevo.platforms.cluster_api import FIELD_MANAGER
from relevo.platforms.kserve.pods import PodStatus

__all__ = [
    "TAG_ROUTING",
    "Condition",
    "InferenceService",
    "Revision",
    "Route",
    "Target",
    "World",
    "Writer",
    "condition",
]

Json = Mapping[str, Any]

TAG_ROUTING = "serving.kserve.io/enable-tag-routing"
_SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
_GENERATION = "serving.knative.dev/configurationGeneration"


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of `status.conditions`; `status` is "Unknown" where there is none."""

    status: str = "Unknown"
    reason: str = ""
    message: str = ""

    @property
    def text(self) -> str:
        """Reason and message as one phrase."""
        return ": ".join(part for part in (self.reason, self.message) if part)


def condition(document: Json, kind: str) -> Condition:
    """The condition of this type in an object's status."""
    for entry in _at(document, "status", "conditions") or ():
        if entry.get("type") == kind:
            return Condition(entry.get("status", "Unknown"), entry.get("reason") or "", entry.get("message") or "")
    return Condition()


@dataclass(frozen=True, slots=True)
class Writer:
    """Who last wrote a field, and when."""

    manager: str
    at: str

    @property
    def is_us(self) -> bool:
        return self.manager == FIELD_MANAGER


@dataclass(frozen=True, slots=True)
class InferenceService:
    """What is asked for, and what KServe remembers of revisions."""

    name: str
    namespace: str
    resource_version: str
    mode: str
    """KServe's deployment mode: "Knative" or "Standard"; "" where KServe has not said yet."""
    storage_uri: str
    canary_percent: int | None
    has_tags: bool
    rolled_out: str
    """The revision that KServe takes for the stable one: the last that had all the traffic."""
    rolled_out_before: str
    """Where KServe goes back to when it believes that a promotion is undone."""
    failure: str
    """Why KServe cannot make a revision of what is asked for; empty when it can."""
    problem: str
    """Why no canary can be driven for it; empty when it can."""
    next_step: str
    percent_writer: Writer | None
    uri_writer: Writer | None
    deleting: bool = False

    @classmethod
    def read(cls, document: Json) -> InferenceService:
        """From the object."""
        predictor = _at(document, "spec", "predictor") or {}
        component = _at(document, "status", "components", "predictor") or {}
        metadata = document.get("metadata") or {}
        mode = _at(document, "status", "deploymentMode") or ""
        problem, next_step = _unfit(document, mode)
        return cls(
            name=metadata.get("name", ""),
            namespace=metadata.get("namespace", ""),
            resource_version=metadata.get("resourceVersion", ""),
            mode=mode,
            storage_uri=_at(predictor, "model", "storageUri") or "",
            canary_percent=predictor.get("canaryTrafficPercent"),
            has_tags=(metadata.get("annotations") or {}).get(TAG_ROUTING) == "true",
            rolled_out=component.get("latestRolledoutRevision", ""),
            rolled_out_before=component.get("previousRolledoutRevision", ""),
            failure=_failure(document),
            problem=problem,
            next_step=next_step,
            percent_writer=_writer(metadata, "f:canaryTrafficPercent"),
            uri_writer=_writer(metadata, "f:model", "f:storageUri"),
            deleting=bool(metadata.get("deletionTimestamp")),
        )


def _unfit(document: Json, mode: str) -> tuple[str, str]:
    """Why no canary can be driven for it, and what to do."""
    spec = document.get("spec") or {}
    predictor = spec.get("predictor") or {}
    annotations = _at(document, "metadata", "annotations") or {}
    mode = mode or annotations.get("serving.kserve.io/deploymentMode", "")
    if mode in ("Standard", "RawDeployment"):
        return (
            f"is in {mode} mode, in which KServe cannot split traffic between two revisions",
            "Create it anew in Knative mode: annotation serving.kserve.io/deploymentMode: Knative (the mode cannot be changed later).",
        )
    if mode == "ModelMesh":
        return "is served by ModelMesh, which has no revisions", "Create it anew in Knative mode."
    for part in ("transformer", "explainer"):
        if spec.get(part):
            return (
                f"has a {part}, whose traffic would not follow the predictor's split",
                f"Use an InferenceService without spec.{part}.",
            )
    containers = predictor.get("containers") or []
    if containers:
        named = ", ".join(str(c.get("name") or "unnamed") for c in containers)
        plural = "containers" if len(containers) > 1 else "container"
        return (
            f"has {len(containers)} {plural} of its own in spec.predictor.containers ({named}), and no one model to replace",
            "Serve the model by spec.predictor.model with a storageUri; a ServingRuntime names the container.",
        )
    if not _at(predictor, "model", "storageUri"):
        return "has no spec.predictor.model.storageUri", "Name the model there; that field is what a rollout changes."
    return "", ""


def _failure(document: Json) -> str:
    """Why KServe makes no revision of the spec. While a revision starts there is none of these conditions."""
    info = _at(document, "status", "modelStatus", "lastFailureInfo") or {}
    if _at(document, "status", "modelStatus", "transitionStatus") == "InvalidSpec":
        return ": ".join(str(info[k]) for k in ("reason", "message") if info.get(k)) or "KServe refuses the spec"
    ready = condition(document, "PredictorReady")
    return ready.message or ready.reason if ready.reason == "ReconcileFailed" else ""


def _writer(metadata: Json, *path: str) -> Writer | None:
    """Who owns a field below spec.predictor: we, if the value is still the one that we wrote; else the last to have written it."""
    owners = []
    for entry in metadata.get("managedFields") or ():
        fields = _at(entry, "fieldsV1", "f:spec", "f:predictor", *path)
        if fields is not None and not entry.get("subresource"):
            owners.append(Writer(entry.get("manager", ""), entry.get("time", "")))
    return max(owners, key=lambda w: (w.is_us, w.at), default=None)


@dataclass(frozen=True, slots=True)
class Target:
    """One entry of a Route's traffic."""

    revision: str
    percent: int
    tag: str
    host: str
    latest: bool


@dataclass(frozen=True, slots=True)
class Route:
    """What the gateway is asked to do, and does."""

    asked_percent: int | None
    """What the spec gives to the latest ready revision; None before there is a Route."""
    asked_rest: str
    """The revision that the spec gives the rest to; "" for none."""
    targets: tuple[Target, ...] = ()
    confirmed: bool = False
    """The spec's newest generation is what every gateway routes by."""
    host: str = ""
    detail: str = ""
    """Why it is not confirmed."""

    @classmethod
    def read(cls, document: Json | None) -> Route:
        """From the object; None where there is no Route yet."""
        if document is None:
            return cls(None, "", detail="there is no Route yet")
        wanted = _at(document, "spec", "traffic") or ()
        latest = [int(t.get("percent") or 0) for t in wanted if t.get("latestRevision")]
        rest = [str(t["revisionName"]) for t in wanted if t.get("revisionName") and not t.get("latestRevision")]
        targets = tuple(
            Target(
                revision=str(t.get("revisionName") or ""),
                percent=int(t.get("percent") or 0),
                tag=str(t.get("tag") or ""),
                host=_host(t.get("url")),
                latest=bool(t.get("latestRevision")),
            )
            for t in _at(document, "status", "traffic") or ()
        )
        ready = condition(document, "Ready")
        observed = _at(document, "status", "observedGeneration") == _at(document, "metadata", "generation")
        return cls(
            asked_percent=latest[0] if latest else None,
            asked_rest=rest[0] if rest else "",
            targets=targets,
            confirmed=observed and ready.status == "True",
            host=_host(_at(document, "status", "url")),
            detail="" if observed and ready.status == "True" else ready.text or "the change is not taken up yet",
        )

    @property
    def weights(self) -> Mapping[str, int]:
        """Percent per revision."""
        summed: dict[str, int] = {}
        for target in self.targets:
            summed[target.revision] = summed.get(target.revision, 0) + target.percent
        return summed

    @property
    def latest(self) -> str:
        """The revision that "the latest ready one" means at the moment."""
        return next((t.revision for t in self.targets if t.latest), "")

    def tag_of(self, revision: str) -> Target | None:
        """A target whose tag reaches this revision and no other."""
        return next((t for t in self.targets if t.tag and t.revision == revision), None)


@dataclass(frozen=True, slots=True)
class Revision:
    """One Knative Revision with its pods."""

    name: str
    number: int
    """The generation of the configuration that it was made for: a newer revision has a higher one."""
    storage_uri: str
    ready: Condition = field(default_factory=Condition)
    active: Condition = field(default_factory=Condition)
    pods: tuple[PodStatus, ...] = ()

    @classmethod
    def read(cls, document: Json, pods: Iterable[PodStatus]) -> Revision:
        """From the object."""
        metadata = document.get("metadata") or {}
        name = metadata.get("name", "")
        return cls(
            name=name,
            number=int((metadata.get("labels") or {}).get(_GENERATION, 0)),
            storage_uri=(metadata.get("annotations") or {}).get(_SOURCE_URI, ""),
            ready=condition(document, "Ready"),
            active=condition(document, "Active"),
            pods=tuple(pod for pod in pods if pod.revision == name),
        )


@dataclass(frozen=True, slots=True)
class World:
    """All that one look at the cluster saw of one InferenceService."""

    service: InferenceService
    route: Route
    revisions: tuple[Revision, ...]

    @classmethod
    def read(cls, service: Json, route: Json | None, revisions: Iterable[Json], pods: Iterable[Json]) -> World:
        """From the objects."""
        statuses = tuple(PodStatus.read(pod) for pod in pods)
        known = (Revision.read(one, statuses) for one in revisions)
        return cls(
            InferenceService.read(service),
            Route.read(route),
            tuple(sorted(known, key=lambda r: r.number)),
        )

    def revision(self, name: str) -> Revision | None:
        """The revision of this name."""
        return next((one for one in self.revisions if one.name == name), None)

    @property
    def stable(self) -> Revision | None:
        """The revision that KServe takes for the stable one; None before the first deployment."""
        return self.revision(self.service.rolled_out)

    @property
    def newest(self) -> Revision | None:
        """The revision made last, which a newly ready one may become."""
        return self.revisions[-1] if self.revisions else None


def _host(url: object) -> str:
    return str(url).partition("://")[2].strip("/") if url else ""


def _at(document: Any, *path: str) -> Any:
    """What stands at a path, None where something on the way is missing."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document
