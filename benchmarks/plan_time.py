"""How long one decision takes: `plan` with all four checks, two sources, the shadow stage and four steps.

    python -m benchmarks.plan_time

Every sample is a tick of its own at the last step, with counts that no tick before had. The engine's budget is 1 ms. Prints the median and
the 99th percentile in ms.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from relevo.evidence.counts import LATENCY_EDGES_MS
from relevo.rollout.ledger import route_label
from relevo.rollout.observation import Counts, Observation, Pairs, Reading, RevisionStatus, Routes, Smoke
from relevo.rollout.plan import plan
from relevo.rollout.ramp import expand
from relevo.rollout.spec import RolloutSpec, parse_rollout
from relevo.rollout.state import Phase, RolloutState, new_state

UID, START = "bench", datetime(2026, 1, 1, tzinfo=UTC)
STABLE = RevisionStatus("iris-predictor-00001", "oci://registry.local/iris:1", ready=True)
CANDIDATE = RevisionStatus("iris-predictor-00002", "oci://registry.local/iris:2", ready=True)
ENVOY_EDGES_MS = tuple(
    float(e) for e in (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000)
)


def make_spec() -> RolloutSpec:
    """All four checks, two sources, a shadow stage, four steps; the proof it waits for is out of reach, so that it stays at the last."""
    spec = {
        "target": "iris",
        "storageUri": CANDIDATE.storage_uri,
        "strategy": {"canary": {"weights": [5, 12, 31, 50]}},
        "decision": {"promotionAlpha": 1e-300, "alpha": 1e-9},
    }
    return parse_rollout({"metadata": {"name": "iris"}, "spec": spec}, where="benchmark").spec


class Traffic:
    """Counts that grow by `requests` in each tick."""

    def __init__(self, seed: int, requests: int = 100) -> None:
        self._random = np.random.default_rng(seed)
        self._requests = requests
        self._labelled: dict[tuple[str, str], Counts] = {}
        self._plain: dict[str, Counts] = {}
        self._pairs = Pairs()

    def flow(self, routes: Routes, *, shadow: bool) -> None:
        """One tick's requests, split as the routes say; or shadow pairs."""
        to_candidate = int(self._random.binomial(self._requests, 0.5 if shadow else routes.weight_percent / 100))
        label = route_label(UID, "shadow") if shadow else routes.label
        for revision, n in ((STABLE.name, self._requests - to_candidate), (CANDIDATE.name, to_candidate)):
            key = (label, revision)
            self._labelled[key] = self._labelled.get(key, Counts()) + self._outcomes(n, LATENCY_EDGES_MS, labels=True)
            if not shadow:
                before = self._plain.get(revision, Counts())
                self._plain[revision] = before + self._outcomes(n, ENVOY_EDGES_MS, labels=False)
        if shadow:
            self._pairs += Pairs(self._requests, int(self._random.binomial(self._requests, 0.02)))

    def observe(self, routes: Routes, now: datetime) -> Observation:
        """Both sources' readings."""
        pairs = {route_label(UID, "shadow"): self._pairs}
        locust = Reading("locust", "a", now, LATENCY_EDGES_MS, steps=dict(self._labelled), pairs=pairs, users=20)
        envoy = Reading("envoy", "a", now, ENVOY_EDGES_MS, revisions=dict(self._plain))
        return Observation(routes, (locust, envoy))

    def _outcomes(self, n: int, edges_ms: tuple[float, ...], *, labels: bool) -> Counts:
        buckets = np.searchsorted(edges_ms, self._random.lognormal(np.log(5), 0.4, n))
        latency = tuple(np.bincount(buckets, minlength=len(edges_ms) + 1).tolist())
        errors = int(self._random.binomial(n, 0.002))
        if not labels:
            return Counts(n, errors, latency)
        classes = self._random.multinomial(n, (0.34, 0.33, 0.33)).tolist()
        wrong = int(self._random.binomial(n, 0.05))
        return Counts(n, errors, latency, {str(i): c for i, c in enumerate(classes)}, n, wrong)


def make_state(spec: RolloutSpec, traffic: Traffic) -> RolloutState:
    """A rollout at its last step, brought there by `plan` itself."""
    state, now = new_state(UID, STABLE, START), START
    label = ""
    while state.phase is not Phase.SHIFTING or state.step < len(expand(spec)):
        now += timedelta(seconds=1)
        weight = expand(spec)[state.step - 1].weight_percent if state.step else 0
        routes = Routes(STABLE, CANDIDATE, weight, label)
        seen = traffic.observe(routes, now)
        if state.phase is Phase.PREPARING:
            seen = replace(seen, smoke=Smoke(10, 0))
        decision = plan(spec, state, seen, now)
        state = decision.state
        if decision.desired.split is not None:
            label = decision.desired.split.label
        if label:
            traffic.flow(routes, shadow=state.phase is Phase.SHADOWING)
    return state


def sample_ms(ticks: int, seed: int) -> Iterator[float]:
    """The time of each of so many decisions, in ms."""
    spec, traffic = make_spec(), Traffic(seed)
    state = make_state(spec, traffic)
    now = state.looked_at or START
    last = expand(spec)[-1].weight_percent
    routes = Routes(STABLE, CANDIDATE, last, route_label(UID, len(expand(spec))))
    for _ in range(ticks):
        now += timedelta(seconds=spec.tick_seconds)
        traffic.flow(routes, shadow=False)
        seen = traffic.observe(routes, now)
        began = time.perf_counter()
        decision = plan(spec, state, seen, now)
        yield (time.perf_counter() - began) * 1000
        state = decision.state
        if state.phase is not Phase.SHIFTING or state.hold is not None:
            raise RuntimeError(f"the benchmark left its step: {state.shown_phase}, {state.reason}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Time `plan`.")
    parser.add_argument("--ticks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    times = np.array(list(sample_ms(options.ticks, options.seed)))
    median, p99 = np.percentile(times, [50, 99])
    print(f"plan: median {median:.3f} ms, p99 {p99:.3f} ms over {len(times)} ticks")


if __name__ == "__main__":
    main()
