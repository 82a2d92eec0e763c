"""The world of one InferenceService: its Knative Route, its revisions with their pods, and itself (`service`). Pure.

The Route is the one object that says what the gateway does: what its spec asks, what its status routes, and whether the gateway has
confirmed it. Neighbours: `pods` reads pods, `routes` interprets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relevo.platforms.kserve.documents import Condition, Json, at, condition
from relevo.platforms.kserve.pods import PodStatus
from relevo.platforms.kserve.service import InferenceService

__all__ = ["Revision", "Route", "Target", "World"]

_SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
_GENERATION = "serving.knative.dev/configurationGeneration"


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
        wanted = at(document, "spec", "traffic") or ()
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
            for t in at(document, "status", "traffic") or ()
        )
        ready = condition(document, "Ready")
        observed = at(document, "status", "observedGeneration") == at(document, "metadata", "generation")
        return cls(
            asked_percent=latest[0] if latest else None,
            asked_rest=rest[0] if rest else "",
            targets=targets,
            confirmed=observed and ready.status == "True",
            host=_host(at(document, "status", "url")),
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
