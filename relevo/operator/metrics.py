"""What Prometheus reads of the operator. `k8s/monitoring` has rules and a dashboard over these series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from relevo.operator.status import Run

__all__ = ["Metrics", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One Rollout at the moment of a scrape."""

    namespace: str
    name: str
    target: str
    run: Run | None
    phase: str


class Metrics:
    """The operator's series, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.ticks = Counter(
            "relevo_ticks", "Looks at a rollout.", ["namespace", "rollout", "outcome"], registry=self.registry
        )
        self.tick_seconds = Histogram(
            "relevo_tick_duration_seconds",
            "How long one look took.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
            registry=self.registry,
        )
        self.late_seconds = Histogram(
            "relevo_tick_lateness_seconds",
            "How long a look had to wait for a thread.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
            registry=self.registry,
        )
        self.last_tick = Gauge(
            "relevo_last_tick_timestamp_seconds", "When the last look ended.", registry=self.registry
        )
        self.writes = Counter("relevo_status_writes", "Statuses written.", registry=self.registry)
        self.leader = Gauge("relevo_leader", "1 for the replica that acts.", registry=self.registry)
        self.verdicts = Counter(
            "relevo_verdicts", "Rollouts that ended.", ["namespace", "verdict", "cause"], registry=self.registry
        )

    def watch(self, rollouts: Callable[[], Iterable[Seen]]) -> None:
        """Tell of these Rollouts with each scrape."""
        self.registry.register(_Rollouts(rollouts))

    def forget(self, namespace: str, name: str) -> None:
        """A Rollout is gone, and its series with it."""
        for outcome in ("ok", "waiting", "failed"):
            try:
                self.ticks.remove(namespace, name, outcome)
            except KeyError:
                continue


class _Rollouts(Collector):
    def __init__(self, rollouts: Callable[[], Iterable[Seen]]) -> None:
        self._rollouts = rollouts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        phases = GaugeMetricFamily("relevo_rollouts", "Rollouts by phase.", labels=["namespace", "phase"])
        weights = GaugeMetricFamily(
            "relevo_rollout_weight_percent",
            "The candidate's share of the traffic.",
            labels=["namespace", "rollout", "target"],
        )
        held = GaugeMetricFamily(
            "relevo_rollout_held_since_timestamp_seconds",
            "Since when a rollout is held.",
            labels=["namespace", "rollout", "reason"],
        )
        counts: dict[tuple[str, str], int] = {}
        for seen in self._rollouts():
            counts[seen.namespace, seen.phase] = counts.get((seen.namespace, seen.phase), 0) + 1
            state = seen.run.state if seen.run is not None else None
            if state is None or seen.run is None or state.phase.is_terminal:
                continue
            weights.add_metric([seen.namespace, seen.name, seen.target], seen.run.weight_percent)
            if state.hold is not None and not state.phase.is_decided:
                held.add_metric([seen.namespace, seen.name, state.hold.reason.value], state.hold.since.timestamp())
        for (namespace, phase), count in sorted(counts.items()):
            phases.add_metric([namespace, phase], count)
        yield phases
        yield weights
        yield held
