"""Brings the load's workloads up, keeps them there, and steers the Locust in them by HTTP as on one machine.

A pod that is lost costs evidence for a while, never a wrong verdict: without an answer, or without a worker, there is `Silence`; a
master that comes back begins a new epoch and gets its orders again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from relevo.errors import RelevoError, Transient
from relevo.evidence.locust import LocustSource
from relevo.evidence.source import LoadPlan
from relevo.load.workloads import Workload, manifests
from relevo.platforms.cluster_api import DEPLOYMENTS, PODS, SERVICES, Kind, Objects
from relevo.rollout.observation import Reading, Silence

__all__ = ["KubernetesLoad", "NoLoad"]

_KINDS: Final[Mapping[str, Kind]] = {"services": SERVICES, "deployments": DEPLOYMENTS}

LOOK_SECONDS: Final = 10.0
"""How often the workloads are made so, whatever happened to them."""
SILENT_LOOK_SECONDS: Final = 2.0
"""The same while Locust does not answer, and how often the pods are then asked why."""


class KubernetesLoad:
    """One run's load. Implements `LoadGenerator` and `EvidenceSource`. Not thread-safe: one reconcile loop owns it.

    `url` is where Locust answers, for whoever is not in the cluster; else it is the workload's Service.
    """

    name = "locust"

    def __init__(
        self,
        objects: Objects,
        workload: Workload,
        *,
        url: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._workload = workload
        self._locust = LocustSource(url or workload.url, stamps=True)
        self._monotonic = monotonic
        self._look_at = 0.0
        self._ask_at = 0.0
        self._silent = True
        self._why = ""

    def read(self) -> Reading | Silence:
        """Read the counts of all workers, added up by the master. Never raises."""
        answer = self._locust.read()
        self._silent = isinstance(answer, Silence)
        if isinstance(answer, Reading):
            return answer
        why = self._pods_say()
        return replace(answer, reason=f"{answer.reason}; {why}") if why else answer

    def ensure(self, plan: LoadPlan) -> None:
        """Make the load be as planned, its workloads included.

        Raises:
            Transient: Locust or the cluster did not answer. BadInput: there are no rows, or no permission to make the workloads.
        """
        if plan.users or plan.shadow or self._exists():
            self._make_workloads()
        elif self._silent:
            return  # there is no load, and none is wanted
        self._locust.ensure(plan)

    def announce(self, label: str) -> None:
        """Say by which split requests are routed from now on; see `LoadGenerator`."""
        if self._silent and not label:
            # Nobody is there who could count under the old one: orders that are not repeated lapse.
            with suppress(Transient):
                self._locust.announce("")
            return
        self._locust.announce(label)

    def remove(self) -> None:
        """Delete the workloads, when the rollout has ended. Raises `Transient`."""
        for plural, manifest in reversed(manifests(self._workload)):
            self._objects.delete(_KINDS[plural], self._workload.namespace, manifest["metadata"]["name"])
        self._look_at = 0.0

    def close(self) -> None:
        """Close the connection to Locust."""
        self._locust.close()

    def _exists(self) -> bool:
        return self._look_at > 0 or not self._silent

    def _make_workloads(self) -> None:
        now = self._monotonic()
        if now < self._look_at and not (self._silent and now >= self._look_at - LOOK_SECONDS + SILENT_LOOK_SECONDS):
            return
        for plural, manifest in manifests(self._workload):
            self._objects.apply(_KINDS[plural], self._workload.namespace, manifest)
        self._look_at = now + LOOK_SECONDS

    def _pods_say(self) -> str:
        """Why the pods are not at work, in their own words; asked now and then."""
        now = self._monotonic()
        if now >= self._ask_at:
            self._ask_at = now + SILENT_LOOK_SECONDS
            selector = {"app.kubernetes.io/name": "relevo-load", "app.kubernetes.io/instance": self._workload.rollout}
            try:
                self._why = "; ".join(_troubles(self._objects.list(PODS, self._workload.namespace, selector)))
            except RelevoError:
                self._why = ""
        return self._why


class NoLoad:
    """For a rollout that is judged by its users' own traffic alone. Implements `LoadGenerator` and `EvidenceSource`."""

    name = "locust"

    def read(self) -> Reading:
        """There is nothing to count."""
        return Reading(self.name, "none", datetime.now(UTC))

    def ensure(self, plan: LoadPlan) -> None:
        """There is nothing to make so."""

    def announce(self, label: str) -> None:
        """There is nobody to tell."""

    def remove(self) -> None:
        """There is nothing to delete."""

    def close(self) -> None:
        """There is nothing to close."""


def _troubles(pods: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """What keeps pods from their work: not scheduled, evicted, an image that cannot be pulled, a crash."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        if status.get("phase") == "Failed":
            yield f"{name}: {status.get('reason') or 'failed'} {status.get('message', '')}".rstrip()
            continue
        for condition in status.get("conditions", ()):
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                yield f"{name}: {condition.get('reason', 'not scheduled')}: {condition.get('message', '')}"
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = container.get("state", {}).get("waiting") or {}
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                last = container.get("lastState", {}).get("terminated") or {}
                code = f", exit code {last['exitCode']}" if "exitCode" in last else ""
                yield f"{name}: {waiting['reason']}{code} {waiting.get('message', '')}".rstrip()
