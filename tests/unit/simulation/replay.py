"""Gives the counts of simulated rollouts, tick by tick, to production's `plan`, one rollout at a time.

python -m tests.unit.simulation.replay [POLICIES] [ROLLOUTS]   # the differential test at any size
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from relevo.rollout.ledger import route_label
from relevo.rollout.observation import Counts, Observation, Pairs, Reading, RevisionStatus, Routes, Silence, Smoke
from relevo.rollout.plan import plan
from relevo.rollout.spec import RolloutSpec, parse_rollout
from relevo.rollout.state import HoldReason, Phase, Verdict, new_state
from relevo.simulation.accounts import Increments
from relevo.simulation.conditions import Conditions
from relevo.simulation.engine import Batch
from relevo.simulation.live import Live
from relevo.simulation.outcomes import End
from relevo.simulation.traffic import EFFECTS, Effect, Traffic
from relevo.simulation.world import World

START = datetime(2026, 1, 1, tzinfo=UTC)
STABLE, CANDIDATE, UID = "iris-predictor-00001", "iris-predictor-00002", "u1"
EDGES = {
    "locust": tuple(float(round(1.3**k, 3)) for k in range(24)),
    "envoy": (0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0),
}


def make_spec(**fields: Any) -> RolloutSpec:
    document = {"metadata": {"name": "iris"}, "spec": {"target": "iris", "storageUri": "oci://x/iris:2", **fields}}
    return parse_rollout(document, where="test").spec


@dataclass(frozen=True)
class Told:
    """What a source would say now."""

    labelled: dict[tuple[str, str], Counts]
    plain: dict[str, Counts]
    pairs: Pairs


@dataclass(frozen=True)
class Course:
    """How one rollout went by `plan`."""

    end: End
    seconds: float
    step: int
    split_held: bool
    log_against: float
    """At the decision, or at the last look before it."""


class Recorder:
    """Watches a batch: per tick and rollout, what came."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[int, list[tuple[str, Any]]]] = defaultdict(lambda: defaultdict(list))

    def __call__(self, tick: int, live: Live, kind: str, which: Any, added: Increments) -> None:
        if kind == "baseline":
            owner, ms = added.over[:, 0, 0, 0].astype(int), added.over[:, 0, 0, 1]
            for i, index in enumerate(which):
                self._add(tick, live.number[index], "baseline", (int(added.requests[i, 0]), ms[owner == i]))
            return
        for i, index in enumerate(which):
            row = int(live.routed_row[index]) if kind == "proxy" else 0
            facts = (row, live.edge[index].copy(), *(v[i] for v in _values(added)))
            self._add(tick, live.number[index], kind, facts)

    def _add(self, tick: int, number: Any, kind: str, facts: Any) -> None:
        self.seen[int(number)][tick].append((kind, facts))


def _values(added: Increments) -> list[Any]:
    return [
        added.requests,
        added.errors,
        added.over,
        added.predicted,
        added.wrong,
        added.compared,
        added.disagreed,
    ]


class Replay:
    """One rollout's world, in which what was recorded happens again."""

    def __init__(self, world: World, ticks: dict[int, list[tuple[str, Any]]], tick_us: int) -> None:
        self.world, self.ticks, self.tick_us = world, ticks, tick_us
        self.spec = world.spec
        self.routes = Routes(RevisionStatus(STABLE, "oci://x/iris:1", ready=True), None, 0, "")
        self.pending: tuple[int, int, str] | None = None
        self.counts = {s: Told({}, {}, Pairs()) for s in self.spec.counting_sources}
        self.told = dict(self.counts)
        self.state = new_state(UID, self.routes.stable, START)
        self.split_held = False

    def run(self) -> Course:
        tick, log_against = 0, 0.0
        horizon_us = round(self.world.horizon_seconds * 1e6)
        while (tick - 1) * self.tick_us < horizon_us:  # the last look is the first at or after the horizon
            now = START + timedelta(microseconds=tick * self.tick_us)
            decision = plan(self.spec, self.state, self._observe(tick, now), now)
            self.state = decision.state
            if decision.assessment is not None:
                log_against = decision.assessment.log_against
            hold = self.state.hold
            self.split_held |= hold is not None and hold.reason is HoldReason.SPLIT_MISMATCH
            if self.state.phase.is_decided:
                return self._course(_END[self.state.verdict], tick, log_against)
            self._make_so(decision.desired, tick)
            self._happen(tick)
            tick += 1
        return self._course(End.OPEN, tick - 1, log_against)

    def _course(self, end: End, tick: int, log_against: float) -> Course:
        return Course(end, tick * self.tick_us / 1e6, self.state.step, self.split_held, log_against)

    def _make_so(self, desired: Any, tick: int) -> None:
        if desired.prepare and self.routes.candidate is None:
            status = RevisionStatus(CANDIDATE, self.spec.storage_uri, ready=True)
            self.routes = replace(self.routes, candidate=status)
        split = desired.split
        late_us = round(self.world.conditions.late_weight_seconds * 1e6)
        if split is not None and split.weight_percent == 0:
            self.routes = replace(self.routes, weight_percent=0, label=split.label)
        elif split is not None and (self.pending is None or self.pending[2] != split.label):
            self.pending = (tick * self.tick_us + late_us, split.weight_percent, split.label)
        if self.pending is not None and self.pending[0] <= tick * self.tick_us:
            self.routes = replace(self.routes, weight_percent=self.pending[1], label=self.pending[2])

    def _observe(self, tick: int, now: datetime) -> Observation:
        conditions = self.world.conditions
        elapsed = tick * self.tick_us - round(conditions.silent_from_seconds * 1e6)
        silent = conditions.silent_seconds > 0 and 0 <= elapsed < round(conditions.silent_seconds * 1e6)
        scrape_us = round(conditions.scrape_seconds * 1e6)
        if not silent and (
            not scrape_us or tick * self.tick_us // scrape_us != (tick - 1) * self.tick_us // scrape_us or tick < 1
        ):
            self.told = dict(self.counts)
        elif not silent and self.state.phase in (Phase.PENDING, Phase.PREPARING):
            self.told = dict(self.counts)  # the baseline is told at once
        evidence: list[Reading | Silence] = []
        for source, told in self.told.items():
            if silent:
                evidence.append(Silence(source, now, "connection refused"))
            elif source == "locust":
                pairs = {route_label(UID, "shadow"): told.pairs}
                evidence.append(Reading(source, "a", now, EDGES[source], steps=dict(told.labelled), pairs=pairs))
            else:
                evidence.append(Reading(source, "a", now, EDGES[source], revisions=dict(told.plain)))
        smoke = Smoke(10, 0) if self.state.phase is Phase.PREPARING and self.routes.candidate is not None else None
        return Observation(self.routes, tuple(evidence), (), smoke)

    def _happen(self, tick: int) -> None:
        for kind, facts in self.ticks.get(tick, ()):
            if kind == "baseline":
                requests, ms = facts
                for source in self.counts:
                    width = len(EDGES[source]) + 1
                    histogram = np.bincount(np.searchsorted(EDGES[source], ms), minlength=width)
                    counts = Counts(
                        requests, requests - len(ms), tuple(map(int, histogram)), {str(i): 1 for i in range(3)}, len(ms)
                    )
                    self._add(source, route_label(UID, 0), STABLE, counts, shadow=False)
                continue
            row, edge, requests, errors, over, predicted, wrong, compared, disagreed = facts
            label = route_label(UID, "shadow") if kind == "shadow" else route_label(UID, row)
            if kind == "proxy":
                assert label == self.routes.label, (label, self.routes.label)
            for j, source in enumerate(self.spec.counting_sources):
                if kind == "shadow" and source != "locust":
                    continue
                for arm, revision in enumerate((STABLE, CANDIDATE)):
                    good = int(requests[arm] - errors[arm])
                    histogram = self._histogram(source, edge[j], over[j, :, arm], good, arm)
                    classes = {str(i): int(c) for i, c in enumerate(predicted[:-1, arm])}
                    labelled = good if self.world.traffic.wrong_rate is not None else 0
                    counts = Counts(int(requests[arm]), int(errors[arm]), histogram, classes, labelled, int(wrong[arm]))
                    self._add(source, label, revision, counts, shadow=kind == "shadow")
                if source == "locust":
                    told = self.counts[source]
                    pairs = told.pairs + Pairs(int(compared), int(disagreed))
                    self.counts[source] = replace(told, pairs=pairs)

    def _histogram(self, source: str, edge: Any, over: Any, good: int, arm: int) -> tuple[int, ...]:
        """A histogram with so many requests over each threshold."""
        edges = np.array(EDGES[source])
        histogram = np.zeros(len(edges) + 1, dtype=int)
        left, check = good, self.spec.checks.latency
        cuts = {}
        for i, count in zip(edge, over, strict=True):
            if i >= 0 and check is not None:
                allowed = np.searchsorted(edges, edges[i] * (1 + check.tolerance) * (1 - 1e-9))
                cuts[min(int(allowed), len(edges) - 1) if arm else int(i)] = int(count)
        below = 0
        for cut in sorted(cuts):
            histogram[below] += left - cuts[cut]
            left, below = cuts[cut], cut + 1
        histogram[below] += left
        return tuple(map(int, histogram))

    def _add(self, source: str, label: str, revision: str, counts: Counts, *, shadow: bool) -> None:
        if not counts.requests:
            return
        told = self.counts[source]
        key = (label, revision)
        labelled = {**told.labelled, key: told.labelled.get(key, Counts()) + counts}
        plain = told.plain
        if not shadow:
            bare = replace(counts, predictions={}, labelled=0, wrong=0)
            plain = {**plain, revision: plain.get(revision, Counts()) + bare}
        self.counts[source] = replace(told, labelled=labelled, plain=plain)


_END = {Verdict.PASS: End.PROMOTED, Verdict.FAIL: End.ROLLED_BACK, Verdict.INCONCLUSIVE: End.INCONCLUSIVE}


def random_world(rng: np.random.Generator) -> World:
    """A policy, a traffic, a candidate and conditions, such that all rules come to be used."""

    def maybe(value: Any, chance: float = 0.5) -> Any:
        return value if rng.random() < chance else None

    sources = [["locust", "envoy"], ["envoy", "locust"], ["locust"], ["envoy"]][rng.choice(4, p=(0.5, 0.1, 0.2, 0.2))]
    weights = sorted({int(w) for w in rng.integers(1, 101, rng.integers(1, 5))})
    checks: dict[str, Any] = {
        "errors": {"margin": float(rng.uniform(1.5, 6)), "objective": float(rng.uniform(0.01, 0.2))},
        "latency": maybe(
            {
                "tolerance": float(rng.choice([0.0, 0.1, 0.5])),
                "margin": float(rng.uniform(1.5, 4)),
                "gate": bool(rng.random() < 0.7),
                "window": int(rng.choice([1, 5, 10, 40])),
                "windowSeconds": [None, 0.9, 2.5][rng.integers(3)],
                "quantiles": sorted(set(rng.choice([0.25, 0.5, 0.75, 0.9, 0.95, 0.99], 3))),
            },
            0.8,
        ),
        "predictions": maybe({"tolerance": 0.25, "gate": bool(rng.random() < 0.7)}, 0.7),
        "accuracy": maybe({"gate": bool(rng.random() < 0.5), "margin": 3.0}, 0.7),
    }
    spec = make_spec(
        strategy={
            "canary": {
                "weights": weights,
                "stepSeconds": float(rng.choice([1.0, 2.0, 4.5])),
                "stepRequests": int(rng.integers(1, 60)),
            }
        },
        shadow={"enabled": bool(rng.random() < 0.6), "requests": int(rng.integers(20, 300)), "maxDisagreement": 0.2},
        baseline={"requests": int(rng.integers(20, 300))},
        checks=checks,
        decision={
            "alpha": float(rng.choice([0.05, 0.2])),
            "promotionAlpha": float(rng.choice([0.05, 0.2])),
            "weights": {"errors": 0.4, "latency": float(rng.choice([0, 0.3])), "predictions": 0.2, "accuracy": 0.1},
        },
        limits={
            "maxSeconds": float(rng.choice([12, 30, 45])),
            "maxCandidateRequests": int(rng.choice([400, 3000, 100_000])),
            "evidenceTimeoutSeconds": 2,
        },
        sources=sources,
        tickSeconds=float(rng.choice([0.5, 0.7, 1.0])),
    )
    traffic = Traffic(
        float(rng.uniform(20, 300)),
        float(rng.choice([0.0, 0.002, 0.03])),
        EDGES,
        wrong_rate=maybe(0.05, 0.8),
    )
    worse = Effect("mixed", error_ratio=float(rng.uniform(1, 6)), latency_factor=float(rng.uniform(1, 1.3)))
    effect = worse if rng.random() < 0.3 else EFFECTS[rng.integers(len(EFFECTS))]
    conditions = [
        Conditions(),
        Conditions(late_weight_seconds=1.4),
        Conditions(cluster_requests=8, sticky=True, shared_latency=0.4, error_prone_share=0.3),
        Conditions(cluster_requests=8, shared_latency=0.4),
        Conditions(silent_from_seconds=10, silent_seconds=4.2),
        Conditions(stop_every_seconds=8),
        Conditions(cycle_seconds=8, cycle_error_factor=5, cycle_latency_factor=2),
        Conditions(mislabelled_seconds=3),
        Conditions(scrape_seconds=3),
    ]
    chosen = conditions[rng.integers(len(conditions))] if rng.random() < 0.6 else conditions[0]
    return World(spec, traffic, effect, chosen)


def differences(world: World, rollouts: int, seed: int) -> tuple[list[str], list[End], int]:
    """Where the two engines do not agree, how the rollouts ended, and how many looks there were."""
    recorder = Recorder()
    batch = Batch(world, rollouts, np.random.SeedSequence(seed), recorder)
    while batch.step():
        pass
    outcomes = batch.outcomes()
    found, looks = [], 0
    for number in range(rollouts):
        course = Replay(world, recorder.seen[number], batch.tick_us).run()
        looks += round(course.seconds * 1e6 / batch.tick_us)
        here = (End(outcomes.end[number]), float(outcomes.seconds[number]), int(outcomes.step[number]))
        there = (course.end, course.seconds, course.step)
        if here != there or bool(outcomes.split_held[number]) != course.split_held:
            found.append(f"rollout {number} of seed {seed}: simulated {here}, plan {there}; {world}")
    return found, [End(e) for e in outcomes.end], looks


def main() -> None:
    policies, rollouts = (int(a) for a in (*sys.argv[1:], "50", "6")[:2])
    ends: dict[End, int] = defaultdict(int)
    begun, looks = time.perf_counter(), 0
    for seed in range(policies):
        found, these, more = differences(random_world(np.random.default_rng(seed)), rollouts, seed)
        looks += more
        for end in these:
            ends[end] += 1
        for line in found:
            print(line)
    print(f"{looks} looks, {dict(ends)}, {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
