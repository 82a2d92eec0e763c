"""Watches of a rollout on the cluster: what KServe and Knative say of the traffic, and what the Rollout says of itself, at every change.

The API server tells every version of an object to who watches it, so no state between two looks is missed. Two rules are held against
each state: the weights that an InferenceService and its Knative Route show sum to 100, and a revision that gets weight after having had
none was ready then.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import urllib3

from scripts.lab.kube import Lab, LabError, Object

__all__ = ["Look", "RolloutLook", "Watch", "weights_of"]

KSERVE = "/apis/serving.kserve.io/v1beta1"
KNATIVE = "/apis/serving.knative.dev/v1"
RELEVO = "/apis/relevo.dev/v1alpha1"

_SECONDS = 20
BECOMES_READY_SECONDS = 1.0
"""Two objects are told in no order: so much later a revision may be told to be ready than to have weight."""


@dataclass(frozen=True, slots=True)
class Look:
    """The weights that an object showed, by revision, from a moment on (Unix time)."""

    at: float
    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RolloutLook:
    """A Rollout's status from a moment on."""

    at: float
    phase: str
    step: int
    weight: int
    reason: str
    hold: str
    status: Mapping[str, Any] = field(repr=False)


class Watch:
    """Watches one InferenceService with its Route and revisions, and the Rollout of a name, while the context is open."""

    def __init__(self, lab: Lab, namespace: str, service: str, rollout: str = "") -> None:
        self._lab = lab
        self._namespace = namespace
        self.traffic: list[Look] = []
        """What the InferenceService's status showed."""
        self.route: list[Look] = []
        """What the Knative Route's status showed: by this the gateway is set."""
        self.rollout: list[RolloutLook] = []
        self.problems: list[str] = []
        self.restarts = 0
        """How often a watch could not go on from where it was; in between some states may have gone unseen."""
        self._ready: dict[str, tuple[bool, float]] = {}
        self._changed = threading.Condition()
        self._stop = threading.Event()
        predictor = f"{service}-predictor"
        self._threads = [
            self._thread(
                f"{KSERVE}/namespaces/{namespace}/inferenceservices", f"metadata.name={service}", self._service
            ),
            self._thread(f"{KNATIVE}/namespaces/{namespace}/routes", f"metadata.name={predictor}", self._route),
            self._thread(f"{KNATIVE}/namespaces/{namespace}/revisions", "", self._revision),
            self._thread(
                f"{RELEVO}/namespaces/{namespace}/rollouts", f"metadata.name={rollout or service}", self._rollout
            ),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def wait(self, what: str, holds: Any, *, seconds: float) -> RolloutLook:
        """Wait until a look at the Rollout holds, past ones not counted; that look.

        Raises:
            LabError: none did in time.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                last = self.rollout[-1] if self.rollout else None
                if last is not None and holds(last):
                    return last
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LabError(f"not within {seconds:g} s: {what}; it is {_said(last)}")
                self._changed.wait(left)

    def phases(self) -> list[str]:
        """The phases that were seen, each once per time that it was come to."""
        seen: list[str] = []
        for look in list(self.rollout):
            if look.phase and (not seen or seen[-1] != look.phase):
                seen.append(look.phase)
        return seen

    def _thread(self, path: str, selector: str, take: Any) -> threading.Thread:
        return threading.Thread(target=self._run, args=(path, selector, take), daemon=True)

    def _run(self, path: str, selector: str, take: Any) -> None:
        version = ""
        while not self._stop.is_set():
            query = {"watch": "1", "timeoutSeconds": str(_SECONDS)} | ({"fieldSelector": selector} if selector else {})
            try:
                answer = self._lab.ask(
                    path, seconds=_SECONDS + 10, **query, **({"resourceVersion": version} if version else {})
                )
                for line in _lines(answer):
                    event = json.loads(line)
                    if self._stop.is_set():
                        return
                    if event["type"] == "ERROR":  # too old to go on from
                        version = ""
                        self.restarts += 1
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] in ("ADDED", "MODIFIED"):
                        with self._changed:
                            take(time.time(), event["object"])
                            self._changed.notify_all()
            except (LabError, OSError, urllib3.exceptions.HTTPError):
                self._stop.wait(0.2)
            except Exception as error:  # a watch that has ended must not look like one that saw nothing wrong
                self.problems.append(f"the watch of {path} failed: {type(error).__name__}: {error}")
                return

    def _service(self, at: float, body: Object) -> None:
        predictor = body.get("status", {}).get("components", {}).get("predictor", {})
        self._traffic_seen("InferenceService", self.traffic, at, predictor.get("traffic") or [])

    def _route(self, at: float, body: Object) -> None:
        self._traffic_seen("Route", self.route, at, body.get("status", {}).get("traffic") or [])

    def _traffic_seen(self, kind: str, looks: list[Look], at: float, traffic: list[Object]) -> None:
        if not traffic:
            return
        weights = weights_of(traffic)
        before = looks[-1].weights if looks else {}
        if weights == before:
            return
        looks.append(Look(at, weights))
        if sum(weights.values()) != 100:
            self.problems.append(f"{kind} shows weights {weights} at {at:.3f}")
        for name, weight in weights.items():
            if weight and looks[:-1] and not before.get(name):
                self._judge(kind, name, weight, at)

    def _judge(self, kind: str, name: str, weight: int, at: float) -> None:
        if self._ready.get(name, (False, 0.0))[0]:
            return

        def later() -> None:
            ready, since = self._ready.get(name, (False, 0.0))
            if not ready or since > at + BECOMES_READY_SECONDS:
                self.problems.append(f"{kind} gives {name} {weight} % at {at:.3f} while it is not ready")

        threading.Timer(BECOMES_READY_SECONDS, later).start()

    def _revision(self, at: float, body: Object) -> None:
        name = body["metadata"]["name"]
        ready = any(
            one["type"] == "Ready" and one["status"] == "True" for one in body.get("status", {}).get("conditions", ())
        )
        if self._ready.get(name, (None, 0.0))[0] != ready:
            self._ready[name] = (ready, at)

    def _rollout(self, at: float, body: Object) -> None:
        status = body.get("status") or {}
        hold = next(
            (c["reason"] for c in status.get("conditions", ()) if c["type"] == "Held" and c["status"] == "True"), ""
        )
        phase, step, weight = status.get("phase", ""), int(status.get("step", 0)), int(status.get("weight", 0))
        self.rollout.append(RolloutLook(at, phase, step, weight, status.get("reason", ""), hold, status))


def weights_of(traffic: list[Object]) -> dict[str, int]:
    """Percent by revision, of a `status.traffic`."""
    weights: dict[str, int] = {}
    for one in traffic:
        weights[one["revisionName"]] = weights.get(one["revisionName"], 0) + int(one.get("percent") or 0)
    return weights


def _lines(answer: Any) -> Any:
    rest = b""
    for piece in answer.stream(None):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line.strip())


def _said(look: RolloutLook | None) -> str:
    return f"{look.phase}, step {look.step}, {look.weight} %: {look.reason}" if look else "not there"
