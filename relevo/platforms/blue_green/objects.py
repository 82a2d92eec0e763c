"""The world of one model's two colours: our Knative Route, and each colour's InferenceService with its revisions. Pure.

What a rollout has set is noted on the Route itself, in annotations, so that whoever takes over knows it: a Route makes no revisions.
Which colour users belong to when nothing is under way, the percents alone say, whoever set them. Neighbours: `changes` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relevo.platforms.colours import COLOURS, other
from relevo.platforms.kserve.documents import Json, at
from relevo.platforms.kserve.objects import Revision, Route
from relevo.platforms.kserve.pods import PodStatus

__all__ = ["CANDIDATE", "LABEL", "PERCENT", "Colour", "Marks", "World", "configuration_of"]

CANDIDATE = "relevo.dev/candidate"
PERCENT = "relevo.dev/candidate-percent"
LABEL = "relevo.dev/route-label"


def configuration_of(target: str, colour: str) -> str:
    """The Configuration that KServe makes of a colour."""
    return f"{target}-{colour}-predictor"


@dataclass(frozen=True, slots=True)
class Marks:
    """What a rollout has noted on the Route; `candidate` is "" while none is under way."""

    candidate: str = ""
    percent: int = 0
    label: str = ""

    @classmethod
    def read(cls, document: Json) -> Marks:
        """From the annotations."""
        notes = at(document, "metadata", "annotations") or {}
        candidate, percent = notes.get(CANDIDATE, ""), str(notes.get(PERCENT, "0"))
        if candidate not in COLOURS:
            return cls()
        return cls(candidate, int(percent) if percent.isdigit() else 0, notes.get(LABEL, ""))


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour's InferenceService and its newest revision."""

    name: str
    storage_uri: str
    release: str
    """The Helm release that made it; "" where somebody made it by hand."""
    failure: str = ""
    least_replicas: int = 0
    newest: Revision | None = None

    @classmethod
    def read(cls, name: str, service: Json, revisions: Iterable[Json], pods: Iterable[Json]) -> Colour:
        """From the objects."""
        statuses = tuple(PodStatus.read(pod) for pod in pods)
        known = sorted((Revision.read(one, statuses) for one in revisions), key=lambda r: r.number)
        info = at(service, "status", "modelStatus", "lastFailureInfo") or {}
        refused = at(service, "status", "modelStatus", "transitionStatus") == "InvalidSpec"
        failure = ": ".join(str(info[k]) for k in ("reason", "message") if info.get(k)) if refused else ""
        notes = at(service, "metadata", "annotations") or {}
        return cls(
            name=name,
            storage_uri=str(at(service, "spec", "predictor", "model", "storageUri") or ""),
            release=str(notes.get("meta.helm.sh/release-name", "")),
            failure=failure,
            least_replicas=int(at(service, "spec", "predictor", "minReplicas") or 0),
            newest=known[-1] if known else None,
        )

    @property
    def revision(self) -> Revision | None:
        """The revision of the model that the InferenceService names now; None until KServe has made it."""
        newest = self.newest
        return newest if newest is not None and newest.storage_uri == self.storage_uri else None


@dataclass(frozen=True, slots=True)
class World:
    """All that one look saw."""

    target: str
    namespace: str
    resource_version: str
    route: Route
    asked: Mapping[str, int]
    """Percent per colour that the Route's spec gives; a colour that is not named there is put to sleep."""
    marks: Marks
    colours: Mapping[str, Colour]
    """Those that are installed."""
    writer: str = ""
    """Who wrote the Route's spec last, if it was not we."""

    @property
    def stable(self) -> str:
        """The colour that users belong to: during a rollout the one that is not its candidate, else the one with most of the traffic."""
        if self.marks.candidate:
            return other(self.marks.candidate)
        return max(COLOURS, key=lambda colour: self.asked.get(colour, -1))

    @property
    def idle(self) -> str:
        """The other one."""
        return other(self.stable)

    def live(self, colour: str) -> int:
        """Percent of the users' requests that this colour gets by the Route's status."""
        return sum(t.percent for t in self.route.targets if t.tag == colour)

    @property
    def edited(self) -> str:
        """What somebody else changed of what a rollout set, in words; "" where nobody did."""
        candidate = self.marks.candidate
        if not candidate or self.asked.get(candidate, 0) == self.marks.percent:
            return ""
        by = f" by {self.writer}" if self.writer else ""
        now = self.asked.get(candidate, 0)
        return f"the Route's percent of {candidate} was changed from {self.marks.percent} to {now}{by}"
