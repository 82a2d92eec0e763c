"""The record of a run: samples for the report's plots and all transitions with their numbers, in a ConfigMap that belongs to the Rollout.

One sample a second is kept, and the looks that changed something with the look before each: what was known just before says when it
changed. Samples are thinned as they grow in number, evenly over the run. What has not been written yet when a replica dies is lost; the
status, which decides, is not kept here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from relevo.operator.keeper import Api
from relevo.operator.resource import Resource
from relevo.platforms.cluster_api import CONFIG_MAPS

if TYPE_CHECKING:
    from relevo.rollout.decision import Transition

__all__ = ["Recorder", "record_name", "thinned"]

MOST_SAMPLES: Final = 200
SAMPLE_SECONDS: Final = 1.0
HELD_SAMPLE_SECONDS: Final = 30.0
WRITE_SECONDS: Final = 15.0
"""How long samples wait to be written."""
HELD_WRITE_SECONDS: Final = 60.0
"""The same while it is held; times the Rollout's own `spread`."""
PROMPT_SECONDS: Final = 2.0
"""How soon after a transition the record is written; several that follow each other are one write."""
_MOST_BYTES: Final = 900_000
"""A ConfigMap holds 1 MiB."""

Json = dict[str, Any]


def record_name(rollout: str) -> str:
    """The ConfigMap's name."""
    return f"{rollout}-record"


class Recorder:
    """Gathers one run's record and writes it now and then. One thread at a time."""

    def __init__(self, api: Api, monotonic: Callable[[], float], spread: float) -> None:
        self._api = api
        self._monotonic = monotonic
        self._held_write_seconds = HELD_WRITE_SECONDS * spread
        self._samples: list[Json] = []
        self._transitions: list[Json] = []
        self._sampled_at = -1e9
        self._skipped: Json = {}
        self._due_at: float | None = None

    def add(self, sample: Json, transitions: Iterable[Transition]) -> None:
        """Take in a tick."""
        now = self._monotonic()
        lines = [asdict(t) | {"at": t.at.isoformat()} for t in transitions]
        held = bool(sample.get("hold"))
        pause = HELD_SAMPLE_SECONDS if held else SAMPLE_SECONDS
        if sample and (lines or now - self._sampled_at >= pause):
            self._samples += [self._skipped, sample] if lines and self._skipped else [sample]
            self._sampled_at, self._skipped = now, {}
        else:
            self._skipped = sample
        self._transitions += lines
        if lines:
            self._due_by(now + PROMPT_SECONDS)
        elif self._samples:
            self._due_by(now + (self._held_write_seconds if held else WRITE_SECONDS))

    def flush(self, resource: Resource, run: str, *, now: bool = False) -> None:
        """Write what is due; all of it where the run has ended. Raises `Transient` and its like; nothing is lost then."""
        if self._due_at is None or not (now or self._monotonic() >= self._due_at):
            return
        name, namespace = record_name(resource.name), resource.namespace
        before = self._api.get(CONFIG_MAPS, namespace, name)
        samples, transitions = _read(before, run)
        samples = thinned([*samples, *self._samples], MOST_SAMPLES)
        transitions += self._transitions
        data = {"uid": run, "samples.json": _dump(samples), "transitions.json": _dump(transitions)}
        while len(data["samples.json"]) + len(data["transitions.json"]) > _MOST_BYTES and len(samples) > 2:
            samples = thinned(samples, len(samples) // 2)
            data["samples.json"] = _dump(samples)
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "relevo", "app.kubernetes.io/instance": resource.name},
                "ownerReferences": [resource.owner],
            },
            "data": data,
        }
        if before is None:
            self._api.create(CONFIG_MAPS, namespace, manifest)
        else:
            self._api.patch(CONFIG_MAPS, namespace, name, manifest)
        self._samples, self._transitions, self._due_at = [], [], None

    def _due_by(self, at: float) -> None:
        self._due_at = at if self._due_at is None else min(self._due_at, at)


def thinned(samples: list[Json], most: int) -> list[Json]:
    """At most so many of the samples, spread evenly over the time that they cover; the first and the last always stay.

    Left out is, one by one, whose neighbours are nearest to each other: so it stays even when it is thinned again and again.
    """
    kept = list(samples)
    times = [datetime.fromisoformat(s["at"]).timestamp() for s in kept]
    while len(kept) > max(most, 2):
        least = min(range(1, len(kept) - 1), key=lambda i: times[i + 1] - times[i - 1])
        del kept[least], times[least]
    return kept


def _read(before: Json | None, run: str) -> tuple[list[Json], list[Json]]:
    data = (before or {}).get("data") or {}
    if data.get("uid") != run:
        return [], []
    try:
        return json.loads(data["samples.json"]), json.loads(data["transitions.json"])
    except (KeyError, ValueError):
        return [], []


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
