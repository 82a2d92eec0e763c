"""An InferenceService, read into what a canary needs of it. Pure. Neighbours: `objects` has the rest of the world, `documents` the tools.

Its `status.observedGeneration` is not read: it is the *Knative Service's* generation, so it says nothing of the InferenceService's own.
KServe also leaves the whole status stale while a candidate starts; what the gateway does, the Knative Route says (`objects`).
"""

from __future__ import annotations

from dataclasses import dataclass

from relevo.platforms.cluster_api import FIELD_MANAGER
from relevo.platforms.kserve.documents import Json, at, condition

__all__ = ["TAG_ROUTING", "InferenceService", "Writer"]

TAG_ROUTING = "serving.kserve.io/enable-tag-routing"


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
        predictor = at(document, "spec", "predictor") or {}
        component = at(document, "status", "components", "predictor") or {}
        metadata = document.get("metadata") or {}
        mode = at(document, "status", "deploymentMode") or ""
        problem, next_step = _unfit(document, mode)
        return cls(
            name=metadata.get("name", ""),
            namespace=metadata.get("namespace", ""),
            resource_version=metadata.get("resourceVersion", ""),
            mode=mode,
            storage_uri=at(predictor, "model", "storageUri") or "",
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
    annotations = at(document, "metadata", "annotations") or {}
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
    if not at(predictor, "model", "storageUri"):
        return "has no spec.predictor.model.storageUri", "Name the model there; that field is what a rollout changes."
    return "", ""


def _failure(document: Json) -> str:
    """Why KServe makes no revision of the spec. While a revision starts there is none of these conditions."""
    info = at(document, "status", "modelStatus", "lastFailureInfo") or {}
    if at(document, "status", "modelStatus", "transitionStatus") == "InvalidSpec":
        return ": ".join(str(info[k]) for k in ("reason", "message") if info.get(k)) or "KServe refuses the spec"
    ready = condition(document, "PredictorReady")
    return ready.message or ready.reason if ready.reason == "ReconcileFailed" else ""


def _writer(metadata: Json, *path: str) -> Writer | None:
    """Who owns a field below spec.predictor: we, if the value is still the one that we wrote; else the last to have written it."""
    owners = []
    for entry in metadata.get("managedFields") or ():
        fields = at(entry, "fieldsV1", "f:spec", "f:predictor", *path)
        if fields is not None and not entry.get("subresource"):
            owners.append(Writer(entry.get("manager", ""), entry.get("time", "")))
    return max(owners, key=lambda w: (w.is_us, w.at), default=None)
