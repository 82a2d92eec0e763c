"""Where the parts of one rollout's reconcile come from: platform, evidence and load. The one place that knows which they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from relevo.access.credential import Credential
from relevo.errors import BadInput
from relevo.evidence.kourier import Gateway, Gateways, KourierSource, gateways_of
from relevo.evidence.prometheus import PrometheusSource
from relevo.evidence.source import EvidenceSource, LoadGenerator
from relevo.load import KubernetesLoad, NoLoad, Workload
from relevo.operator.either import Either
from relevo.operator.resource import Resource
from relevo.operator.smoke import MetadataSmokeTest
from relevo.platforms.blue_green.platform import BlueGreenPlatform, is_ours
from relevo.platforms.cluster_api import PODS, Cluster
from relevo.platforms.kserve.address import InCluster, ThroughGateway
from relevo.platforms.kserve.platform import KServePlatform
from relevo.reconcile.tick import SmokeTester
from relevo.rollout.platform import Platform
from relevo.rollout.ramp import expand
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import RolloutState

__all__ = ["Parts", "Wiring"]


class OwnLoad(LoadGenerator, Protocol):
    """A load that belongs to one run."""

    def remove(self) -> None:
        """End it for good."""

    def close(self) -> None:
        """Close the connection to it."""


@dataclass(slots=True)
class Parts:
    """What one run works with."""

    sources: tuple[EvidenceSource, ...]
    load: OwnLoad
    smoke_test: SmokeTester
    closing: tuple[Any, ...] = field(default=())

    def close(self) -> None:
        """Close all connections; the load goes on."""
        for part in self.closing:
            part.close()


@dataclass
class Wiring:
    """Makes the parts from a cluster. `gateway` is where the gateway is reached from outside, for development."""

    cluster: Cluster
    gateway: str = ""
    load_url: str = ""
    """Where Locust answers, for an operator that does not run in the cluster."""
    kourier_url: str = ""
    """Where one gateway's statistics answer, for the same."""
    prometheus_url: str = ""
    credential: Credential | None = None
    """What the smoke tests carry; None where anybody may ask."""
    credential_secret: str = ""
    """The Secret, in a Rollout's namespace, with what its load carries."""

    def platform(self, namespace: str) -> Platform:
        """Where traffic is shifted, for one Rollout: it remembers what it wrote."""
        addresses = ThroughGateway(self.gateway) if self.gateway else InCluster()
        return Either(
            KServePlatform(namespace, self.cluster, addresses=addresses),
            BlueGreenPlatform(namespace, self.cluster, addresses=addresses),
            lambda target: is_ours(self.cluster, namespace, target),
        )

    def check(self, spec: RolloutSpec) -> None:
        """Refuse what cannot be done on this platform. Raises `BadInput`."""
        steps = expand(spec) if spec.strategy.blue_green is None else ()
        if steps and steps[-1].weight_percent > 99:
            raise BadInput(
                "a step of 100 percent: KServe takes that for promoted, before anything is proven",
                next_step="End spec.strategy.canary's ramp or weights at 99 or less; promotion gives it all traffic.",
            )

    def parts(self, resource: Resource, spec: RolloutSpec, state: RolloutState) -> Parts:
        """The parts of one run. Raises `BadInput`."""
        smoke_test = MetadataSmokeTest(spec.target, credential=self.credential)
        if not expand(spec) or state.is_first:
            load = NoLoad()
            return Parts((), load, smoke_test)
        generator = self._load(resource, spec, state)
        sources = [self._source(name, resource.namespace, spec.target, generator) for name in spec.sources]
        own = [source for source in sources if isinstance(source, PrometheusSource)]
        return Parts(tuple(sources), generator, smoke_test, (generator, *own))

    def _load(self, resource: Resource, spec: RolloutSpec, state: RolloutState) -> KubernetesLoad | NoLoad:
        if spec.load.users_to == 0 and not spec.has_client:
            return NoLoad()
        workload = Workload(
            namespace=resource.namespace,
            rollout=resource.name,
            rollout_uid=resource.uid,
            run=state.uid,
            target=spec.target,
            stable_uri=state.stable_uri,
            entry=spec.target if spec.strategy.blue_green is not None else "",
            workers=spec.load.workers,
            credential_secret=self.credential_secret,
        )
        return KubernetesLoad(self.cluster, workload, url=self.load_url or None)

    def _source(self, name: str, namespace: str, target: str, generator: KubernetesLoad | NoLoad) -> EvidenceSource:
        match name:
            case "locust":
                return generator
            case "envoy":
                return KourierSource(self.gateways, namespace)
            case "prometheus" if self.prometheus_url:
                return PrometheusSource(self.prometheus_url, namespace, target)
            case "prometheus":
                step = "Start it with --prometheus URL (chart: operator.extraArgs), or take prometheus out of spec.sources."
                raise BadInput("the operator knows no Prometheus", next_step=step)
        raise BadInput(
            f"no source {name} on a cluster", next_step="spec.sources may name locust, envoy and prometheus."
        )

    @cached_property
    def gateways(self) -> Gateways:
        """The gateways' statistics, read once for all rollouts."""
        if self.kourier_url:
            return Gateways(lambda: [Gateway("the one that was named", self.kourier_url, "")])
        return Gateways(gateways_of(lambda namespace, labels: self.cluster.list(PODS, namespace, labels)))
