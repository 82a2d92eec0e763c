"""A Knative Route over two colours, on paper. The controllers are steps that a test takes. Implements `cluster_api.Objects`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relevo.errors import Conflict
from relevo.platforms.cluster_api import Kind

NAMESPACE = "team"
Json = dict[str, Any]


def uri(version: int) -> str:
    """The model of a version."""
    return f"oci://dev.local/iris:{version}"


@dataclass
class Colour:
    """One InferenceService with its newest revision."""

    uri: str
    release: str
    revision: str = ""
    made_of: str = ""
    ready: bool = False
    pod: bool = False
    least: int = 1


@dataclass
class FakeColours:
    """The model "iris" with its colours and its Route; each `patch` of the Route is taken up by `knative`."""

    colours: dict[str, Colour] = field(default_factory=dict)
    route: Json | None = None
    version: int = 1
    status: list[Json] = field(default_factory=list)
    confirmed: bool = False
    patches: list[Json] = field(default_factory=list)
    before_patch: Callable[[], None] | None = None
    made: int = 0

    @classmethod
    def up(cls, *colours: str) -> FakeColours:
        """Colours installed by Helm, blue with version 1 and green with 2; users are with the first."""
        world = cls()
        for colour in colours or ("blue",):
            world.install(colour, uri(1 if colour == "blue" else 2))
        world.route = {
            "metadata": {"name": "iris", "generation": 1, "annotations": {}, "labels": {}},
            "spec": {"traffic": [_target((colours or ("blue",))[0], 100)]},
        }
        world.rest()
        return world

    def install(self, colour: str, storage_uri: str, *, release: str | None = None) -> None:
        """Somebody runs helm, or kubectl where there is no release."""
        self.colours[colour] = Colour(storage_uri, f"iris-{colour}" if release is None else release)

    # -- the controllers -----------------------------------------------------------------------------------------------------------

    def kserve(self) -> None:
        """A revision for what each colour names, with a pod that is not up yet."""
        for name, colour in self.colours.items():
            if colour.made_of != colour.uri:
                self.made += 1
                colour.revision, colour.made_of = f"iris-{name}-predictor-{self.made:05d}", colour.uri
                colour.ready, colour.pod = False, True

    def start(self, colour: str) -> None:
        """Its pod comes up."""
        self.colours[colour].ready = True
        self.colours[colour].pod = True

    def knative(self) -> None:
        """Follow the Route: only what is ready and named is routed; what is not named loses its pod."""
        assert self.route is not None
        wanted = self.route["spec"]["traffic"]
        if not all(self.colours[t["tag"]].ready for t in wanted):
            self.confirmed = False
            return
        self.status = [
            {**t, "revisionName": self.colours[t["tag"]].revision, "url": f"http://{t['tag']}-iris.team.example.com"}
            for t in wanted
        ]
        self.confirmed = True
        named = {t["tag"] for t in wanted}
        for name, colour in self.colours.items():
            colour.pod = name in named or colour.least > 0

    def rest(self) -> None:
        """All controllers, and every pod comes up."""
        self.kserve()
        for name in self.colours:
            self.start(name)
        self.knative()

    @property
    def users_reach(self) -> dict[str, int]:
        """Percent of the users' requests by colour."""
        return {t["tag"]: t["percent"] for t in self.status if t["percent"]}

    # -- relevo.platforms.cluster_api.Objects --------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """An InferenceService or the Route."""
        assert namespace == NAMESPACE
        if kind.plural == "routes":
            return self._route_document() if self.route is not None and name == "iris" else None
        colour = self.colours.get(name.removeprefix("iris-"))
        if colour is None:
            return None
        notes = {"meta.helm.sh/release-name": colour.release} if colour.release else {}
        return {
            "metadata": {"name": name, "annotations": notes},
            "spec": {"predictor": {"model": {"storageUri": colour.uri}, "minReplicas": colour.least}},
        }

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Json]:
        """Revisions or pods of one colour's configuration; there are no Rollouts."""
        if kind.plural == "rollouts":
            return []
        configuration = (labels or {})["serving.knative.dev/configuration"]
        colour = self.colours[configuration.removeprefix("iris-").removesuffix("-predictor")]
        if not colour.revision:
            return []
        metadata: Json = {
            "name": colour.revision,
            "labels": {"serving.knative.dev/configurationGeneration": "1"},
            "annotations": {"internal.serving.kserve.io/storage-initializer-sourceuri": colour.made_of},
        }
        ready = "True" if colour.ready else "Unknown"
        if kind.plural == "revisions":
            asleep = {"type": "Active", "status": "False", "reason": "NoTraffic"}
            conditions = [{"type": "Ready", "status": ready}, *([] if colour.pod else [asleep])]
            return [{"metadata": metadata, "status": {"conditions": conditions}}]
        if not colour.pod:
            return []
        pod = {"name": "pod", "labels": {"serving.knative.dev/revision": colour.revision}}
        return [{"metadata": pod, "status": {"conditions": [{"type": "Ready", "status": ready}]}}]

    def patch(self, kind: Kind, namespace: str, name: str, changes: Mapping[str, Any]) -> Json:
        """A merge patch of the Route, or of a colour's least scale."""
        if kind.plural == "inferenceservices":
            self.colours[name.removeprefix("iris-")].least = changes["spec"]["predictor"]["minReplicas"]
            return {}
        if self.before_patch is not None:
            self.before_patch()
        assert self.route is not None
        assert (kind.plural, name) == ("routes", "iris")
        if changes["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict("the object has been modified")
        self.patches.append(copy.deepcopy(dict(changes)))
        metadata = self.route["metadata"]
        for key in ("annotations", "labels"):
            for note, value in changes["metadata"].get(key, {}).items():
                metadata[key].pop(note, None)
                if value is not None:
                    metadata[key][note] = value
        self.edit(changes["spec"]["traffic"])
        return self._route_document()

    def edit(self, traffic: list[Json]) -> None:
        """The Route's traffic is written, by us or by somebody else."""
        assert self.route is not None
        if self.route["spec"]["traffic"] != traffic:
            self.route["spec"]["traffic"] = copy.deepcopy(traffic)
            self.route["metadata"]["generation"] += 1
            self.confirmed = False
        self.version += 1

    def apply(self, kind: Kind, namespace: str, manifest: Mapping[str, Any]) -> Json:
        """Not used."""
        raise AssertionError

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Not used."""
        raise AssertionError

    def _route_document(self) -> Json:
        assert self.route is not None
        metadata = self.route["metadata"] | {
            "resourceVersion": str(self.version),
            "managedFields": [
                {"manager": "kubectl-patch", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:traffic": {}}}}
            ],
        }
        return copy.deepcopy(
            {
                "metadata": metadata,
                "spec": self.route["spec"],
                "status": {
                    "observedGeneration": metadata["generation"],
                    "url": "http://iris.team.example.com",
                    "traffic": self.status,
                    "conditions": [{"type": "Ready", "status": "True" if self.confirmed else "Unknown"}],
                },
            }
        )


def _target(colour: str, percent: int) -> Json:
    return {
        "tag": colour,
        "configurationName": f"iris-{colour}-predictor",
        "latestRevision": True,
        "percent": percent,
    }
