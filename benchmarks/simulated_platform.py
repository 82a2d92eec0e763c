"""A platform, its load and its evidence on paper, for what is to be seen of the operator alone: many rollouts, no model servers.

Traffic flows as long as somebody looks: each reading adds what the time since the last would have brought, split as the weights say.
How a model behaves stands in its URI: `sim://iris/2?errors=0.2&ready=never`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import numpy as np

from relevo.errors import BadInput
from relevo.evidence.source import LoadPlan
from relevo.operator.resource import Resource
from relevo.operator.wiring import Parts
from relevo.rollout.observation import Arm, Counts, Pairs, Reading, RevisionStatus, Routes, Silence, Smoke
from relevo.rollout.platform import ModelRef, Split
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import RolloutState

__all__ = ["SimulatedCluster", "SimulatedService"]

EDGES_MS = tuple(float(round(1.12**k, 3)) for k in range(48))
CLASSES = 3


@dataclass
class SimulatedService:
    """One InferenceService. Implements `Platform`, `EvidenceSource`, `LoadGenerator` and the smoke test."""

    clock: Callable[[], datetime]
    stable_uri: str
    requests_per_second: float = 100.0
    name: str = "locust"
    silent: bool = False
    gone: bool = False
    broken: Exception | None = None
    revision: int = 1
    candidate: RevisionStatus | None = None
    weight_percent: int = 0
    label: str = ""
    users: int = 0
    shadow: str = ""
    removed: bool = False
    writes: list[tuple[str, object]] = field(default_factory=list)
    _counts: dict[tuple[str, str], Counts] = field(default_factory=dict)
    _pairs: dict[str, Pairs] = field(default_factory=dict)
    _counted_at: datetime | None = None

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(0)

    @property
    def stable(self) -> RevisionStatus:
        """The stable revision."""
        return RevisionStatus(_revision(self.revision), self.stable_uri, ready=True, address="http://stable")

    # -- Platform ------------------------------------------------------------------------------------------------------------------

    def observe(self, target: str) -> Routes:
        if self.broken is not None:
            raise self.broken
        if self.gone:
            raise BadInput(f"there is no InferenceService {target}", next_step="Create it.")
        return Routes(self.stable, self.candidate, self.weight_percent, self.label)

    def prepare(self, target: str, candidate: ModelRef) -> None:
        del target
        ready = _behaviour(candidate.storage_uri).get("ready", "yes") == "yes"
        detail = "" if ready else "ImagePullBackOff"
        name = _revision(self.revision + 1)
        self.candidate = RevisionStatus(name, candidate.storage_uri, ready, "http://candidate", detail=detail)
        self.writes.append(("prepare", candidate.storage_uri))

    def set_weight(self, target: str, split: Split) -> None:
        del target
        self._count()
        self.weight_percent, self.label = split.weight_percent, split.label
        self.writes.append(("weight", split))

    def settle(self, target: str, keep: Arm) -> None:
        del target
        if self.candidate is None:
            return
        self._count()
        self.writes.append(("settle", keep))
        if keep is Arm.CANDIDATE:
            self.stable_uri = self.candidate.storage_uri
            self.revision += 1
        self.candidate, self.weight_percent, self.label = None, 0, ""

    # -- EvidenceSource, LoadGenerator, smoke test ---------------------------------------------------------------------------------

    def read(self) -> Reading | Silence:
        now = self.clock()
        if self.silent:
            return Silence(self.name, now, "connection refused")
        self._count()
        return Reading(
            self.name, "1", now, EDGES_MS, steps=dict(self._counts), pairs=dict(self._pairs), users=self.users
        )

    def ensure(self, plan: LoadPlan) -> None:
        self._count()
        self.users = plan.users
        self.shadow = plan.shadow.label if plan.shadow is not None else ""

    def announce(self, label: str) -> None:
        """The split itself stamps its requests."""

    def remove(self) -> None:
        self.removed = True

    def close(self) -> None:
        """Nothing is open."""

    def run(self, address: str) -> Smoke:
        del address
        return Smoke(10, 0)

    def _count(self) -> None:
        now = self.clock()
        since, self._counted_at = self._counted_at, now
        if since is None or not self.users:
            return
        requests = int(self._random.poisson(self.requests_per_second * (now - since).total_seconds()))
        to_candidate = int(self._random.binomial(requests, self.weight_percent / 100)) if self.candidate else 0
        self._add(self.label, self.stable, requests - to_candidate)
        if self.candidate is not None:
            self._add(self.label, self.candidate, to_candidate)
            if self.shadow:
                self._add(self.shadow, self.stable, requests)
                self._add(self.shadow, self.candidate, requests)
                differed = int(self._random.binomial(requests, 0.03))
                self._pairs[self.shadow] = self._pairs.get(self.shadow, Pairs()) + Pairs(requests, differed)

    def _add(self, label: str, revision: RevisionStatus, requests: int) -> None:
        if not requests:
            return
        behaviour = _behaviour(revision.storage_uri)
        errors = int(self._random.binomial(requests, float(behaviour.get("errors", "0.002"))))
        good = requests - errors
        latency = self._random.lognormal(np.log(10.0), 0.4, good)
        buckets = np.bincount(np.searchsorted(EDGES_MS, latency), minlength=len(EDGES_MS) + 1)
        classes = self._random.multinomial(good, [1 / CLASSES] * CLASSES)
        counts = Counts(
            requests,
            errors,
            tuple(buckets.tolist()),
            {str(i): int(n) for i, n in enumerate(classes)},
            good,
            int(self._random.binomial(good, 0.05)),
        )
        key = (label, revision.name)
        self._counts[key] = self._counts.get(key, Counts()) + counts


class SimulatedCluster:
    """The wiring to simulated services, made when they are first asked for. Stands where `relevo.operator.wiring.Wiring` does."""

    def __init__(self, clock: Callable[[], datetime], *, requests_per_second: float = 100.0) -> None:
        self._clock = clock
        self._requests_per_second = requests_per_second
        self._lock = threading.Lock()
        self.services: dict[tuple[str, str], SimulatedService] = {}

    def service(self, namespace: str, target: str) -> SimulatedService:
        """The service of this name."""
        with self._lock:
            key = (namespace, target)
            if key not in self.services:
                uri = f"sim://{target}/1"
                self.services[key] = SimulatedService(self._clock, uri, self._requests_per_second)
            return self.services[key]

    def platform(self, namespace: str) -> _Namespace:
        """Where traffic is shifted."""
        return _Namespace(self, namespace)

    def check(self, spec: RolloutSpec) -> None:
        """Everything can be simulated."""

    def parts(self, resource: Resource, spec: RolloutSpec, state: RolloutState) -> Parts:
        """The parts of one run."""
        del state
        service = self.service(resource.namespace, spec.target)
        sources = (service,) if "locust" in spec.sources and spec.strategy.immediate is None else ()
        return Parts(sources, service, service, ())


@dataclass(frozen=True, slots=True)
class _Namespace:
    cluster: SimulatedCluster
    namespace: str

    def observe(self, target: str) -> Routes:
        return self.cluster.service(self.namespace, target).observe(target)

    def prepare(self, target: str, candidate: ModelRef) -> None:
        self.cluster.service(self.namespace, target).prepare(target, candidate)

    def set_weight(self, target: str, split: Split) -> None:
        self.cluster.service(self.namespace, target).set_weight(target, split)

    def settle(self, target: str, keep: Arm) -> None:
        self.cluster.service(self.namespace, target).settle(target, keep)


def _revision(number: int) -> str:
    return f"sim-predictor-{number:05}"


def _behaviour(uri: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(uri).query).items()}
