"""A Rollout as the API server has it, and what people wrote into it: the spec and the last order. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from relevo.rollout.commands import Command, Verb
from relevo.rollout.ramp import expand
from relevo.rollout.spec import BlueGreen, Canary, Immediate, Rollout, RolloutSpec, Strategy, parse_rollout

__all__ = [
    "COMMAND",
    "FINALIZER",
    "Order",
    "Pinned",
    "Resource",
    "order_of",
    "parse_time",
    "read_resource",
    "rollout_of",
    "run_name",
    "spec_of",
]

FINALIZER = "relevo.dev/traffic"
COMMAND = "relevo.dev/command"


@dataclass(frozen=True, slots=True)
class Resource:
    """One Rollout, without its status."""

    namespace: str
    name: str
    uid: str
    generation: int
    version: str
    """The resourceVersion."""
    created_at: datetime
    deleting: bool
    finalizers: tuple[str, ...]
    order_text: str
    """The annotation by which people order something."""
    spec: Mapping[str, Any]

    @property
    def key(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    @property
    def spread(self) -> float:
        """Between 0.75 and 1.25, always the same for this object: what all objects do as often then comes at different times."""
        return 0.75 + 0.5 * zlib.crc32(self.uid.encode()) / 2**32

    @property
    def reference(self) -> dict[str, str]:
        """This object, as Events name it."""
        return {
            "apiVersion": "relevo.dev/v1alpha1",
            "kind": "Rollout",
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
        }

    @property
    def owner(self) -> dict[str, Any]:
        """This object, as what belongs to it names it."""
        owner = {key: self.reference[key] for key in ("apiVersion", "kind", "name", "uid")}
        return {**owner, "controller": True, "blockOwnerDeletion": False}


def read_resource(body: Mapping[str, Any]) -> Resource:
    """What we need of an object, without what it remembers."""
    metadata = body["metadata"]
    return Resource(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=int(metadata.get("generation", 1)),
        version=metadata.get("resourceVersion", ""),
        created_at=parse_time(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers", ())),
        order_text=metadata.get("annotations", {}).get(COMMAND, ""),
        spec=body.get("spec", {}),
    )


class Order(BaseModel):
    """What the command line writes into the annotation."""

    verb: Literal["promote", "promote-full", "promoteFull", "rollback", "pause", "resume", "retry"]
    by: str = Field(min_length=1, max_length=256)
    at: AwareDatetime
    seq: int = Field(ge=1)

    @property
    def command(self) -> Command | None:
        """The order to a running rollout; None for one that begins it anew."""
        if self.verb == "retry":
            return None
        verb = Verb.PROMOTE_FULL if self.verb == "promoteFull" else Verb(self.verb)
        return Command(self.seq, verb, self.by, self.at)


def order_of(resource: Resource) -> Order | str | None:
    """The order in the annotation; a sentence where it is none; None where there is no annotation."""
    if not resource.order_text:
        return None
    try:
        return Order.model_validate(json.loads(resource.order_text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"annotation {COMMAND}: {where + ': ' if where else ''}{first['msg']}"
    except ValueError:
        return f"annotation {COMMAND}: is not JSON"


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a run keeps of the spec that it began with: what it compares, and in which steps. An edit of these is for the next run."""

    storage_uri: str
    weights: tuple[int, ...]
    """None at all for a run with no comparison."""
    sources: tuple[str, ...]

    @classmethod
    def of(cls, spec: RolloutSpec) -> Pinned:
        """Of a run that begins now."""
        return cls(spec.storage_uri, tuple(step.weight_percent for step in expand(spec)), spec.sources)

    def without_comparison(self) -> Pinned:
        """The same with no steps: there is nothing to compare with."""
        return replace(self, weights=())


def rollout_of(resource: Resource) -> Rollout:
    """The Rollout as its author wants it now. Raises `BadInput`."""
    metadata = {"name": resource.name, "namespace": resource.namespace}
    document = {"apiVersion": "relevo.dev/v1alpha1", "kind": "Rollout", "metadata": metadata, "spec": resource.spec}
    return parse_rollout(document, where=f"Rollout {resource.key}")


def spec_of(resource: Resource, pinned: Pinned | None) -> Rollout:
    """The Rollout that a tick works by: the author's of now, but for what this run has pinned. Raises `BadInput`."""
    rollout = rollout_of(resource)
    if pinned is None:
        return rollout
    kept = {
        "storage_uri": pinned.storage_uri,
        "strategy": _pinned_strategy(rollout.spec.strategy, pinned.weights),
        "sources": pinned.sources,
    }
    return rollout.model_copy(update={"spec": rollout.spec.model_copy(update=kept)})


def _pinned_strategy(now: Strategy, weights: tuple[int, ...]) -> Strategy:
    """The strategy as it is written now, with the steps that the run began with."""
    if not weights:
        return Strategy(immediate=Immediate())
    if weights[-1] == 100:  # a canary on a cluster ends below
        blue_green = now.blue_green or BlueGreen()
        return Strategy(blue_green=blue_green.model_copy(update={"weights": weights[:-1] or None}))
    canary = now.canary or Canary()
    return Strategy(canary=canary.model_copy(update={"ramp": None, "weights": weights}))


def run_name(resource: Resource, runs: int) -> str:
    """The name of a resource's n-th run: the same however often it is asked for, and unlike that of any other."""
    return f"{resource.name}-{zlib.crc32(f'{resource.uid}/{runs}'.encode()):08x}"


def parse_time(text: str) -> datetime:
    """A time as the API writes it."""
    return datetime.fromisoformat(text).astimezone(UTC)
