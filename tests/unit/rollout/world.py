"""A world on paper for the decision core: two revisions with given rates, a proxy that obeys, sources that count. No clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from relevo.rollout.commands import Command, Verb
from relevo.rollout.decision import Decision, Desired
from relevo.rollout.observation import Arm, Counts, Observation, Pairs, Reading, RevisionStatus, Routes, Silence, Smoke
from relevo.rollout.plan import plan
from relevo.rollout.spec import RolloutSpec, parse_rollout
from relevo.rollout.state import Phase, RolloutState, new_state

EDGES_MS = tuple(float(round(1.1**k, 3)) for k in range(60))
START = datetime(2026, 1, 1, tzinfo=UTC)
STABLE, CANDIDATE = "iris-predictor-00001", "iris-predictor-00002"


def make_spec(**fields: object) -> RolloutSpec:
    """A valid spec with some fields replaced, in YAML's names."""
    document = {"metadata": {"name": "iris"}, "spec": {"target": "iris", "storageUri": "oci://x/iris:2", **fields}}
    return parse_rollout(document, where="test").spec


@dataclass
class Behaviour:
    """How one revision behaves."""

    errors: float = 0.002
    median_ms: float = 10.0
    wrong: float = 0.05
    shares: tuple[float, ...] = (0.34, 0.33, 0.33)


@dataclass
class World:
    """Traffic of `rate` requests a second, split as the proxy is told."""

    spec: RolloutSpec
    candidate: Behaviour = field(default_factory=Behaviour)
    stable: Behaviour = field(default_factory=Behaviour)
    rate: float = 200.0
    seed: int = 0
    disagreement: float = 0.03

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.now = START
        self.routes = Routes(RevisionStatus(STABLE, "oci://x/iris:1", ready=True), None, 0, "")
        self.labelled: dict[tuple[str, str], Counts] = {}
        self.plain: dict[str, Counts] = {}
        self.pairs: dict[str, Pairs] = {}
        self.users = 0
        self.epoch = {"locust": "a", "envoy": "a"}
        self.silent: set[str] = set()
        self.candidate_ready = True
        self.commands: list[Command] = []
        self.state: RolloutState = new_state("u1", self.routes.stable, self.now)
        self.decisions: list[Decision] = []
        self.smoke_fails = False

    def order(self, verb: Verb) -> None:
        """A human asks for something."""
        self.commands.append(Command(len(self.commands) + 1, verb, "someone", self.now))

    def observe(self) -> Observation:
        """What a tick sees now."""
        routes = self.routes
        if routes.candidate is not None:
            routes = replace(routes, candidate=replace(routes.candidate, ready=self.candidate_ready))
        readings: list[Reading | Silence] = []
        for source in self.spec.sources:
            if source in self.silent:
                readings.append(Silence(source, self.now, "connection refused"))
            elif source == "locust":
                readings.append(
                    Reading(
                        source,
                        self.epoch[source],
                        self.now,
                        EDGES_MS,
                        steps=dict(self.labelled),
                        pairs=dict(self.pairs),
                        users=self.users,
                    )
                )
            else:
                readings.append(Reading(source, self.epoch[source], self.now, EDGES_MS, revisions=dict(self.plain)))
        smoke = None
        if self.state.phase is Phase.PREPARING and routes.candidate is not None and routes.candidate.ready:
            smoke = Smoke(10, 10 if self.smoke_fails else 0, "HTTP 500" if self.smoke_fails else "")
        return Observation(routes, tuple(readings), tuple(self.commands), smoke)

    def tick(self, *, apply: bool = True) -> Decision:
        """Observe, plan, store; then, unless the process dies here, make it so."""
        decision = plan(self.spec, self.state, self.observe(), self.now)
        self.state = decision.state
        self.decisions.append(decision)
        if apply:
            self.make_so(decision.desired)
        return decision

    def make_so(self, desired: Desired) -> None:
        """What the platform and the load generator do."""
        if desired.keep is Arm.CANDIDATE and self.routes.candidate is not None:
            self.routes = Routes(self.routes.candidate, None, 0, "")
        elif desired.keep is Arm.STABLE:
            self.routes = Routes(self.routes.stable, None, 0, "")
        if desired.prepare and self.routes.candidate is None:
            status = RevisionStatus(CANDIDATE, self.spec.storage_uri, ready=self.candidate_ready)
            self.routes = replace(self.routes, candidate=status)
        if desired.split is not None:
            weight = desired.split.weight_percent if self.candidate_ready else 0
            self.routes = replace(self.routes, weight_percent=weight, label=desired.split.label)
        if desired.users is not None:
            self.users = desired.users
        self.shadow = desired.shadow_label

    def restart(self, source: str) -> None:
        """A source loses all it has counted, and says so by a new epoch."""
        self.epoch[source] += "+"
        if source == "locust":
            self.labelled, self.pairs = {}, {}
        else:
            self.plain = {}

    def pass_time(self, seconds: float) -> None:
        """Let traffic flow."""
        self.now += timedelta(seconds=seconds)
        if not self.users or "locust" in self.silent:
            return
        n = int(self.random.poisson(self.rate * seconds))
        to_candidate = int(self.random.binomial(n, self.routes.weight_percent / 100))
        for revision, behaviour, count in (
            (self.routes.stable.name, self.stable, n - to_candidate),
            (CANDIDATE, self.candidate, to_candidate),
        ):
            if count:
                self._count(revision, self._outcomes(behaviour, count), self.routes.label, through_proxy=True)
        if self.shadow is not None:
            k = max(n // 2, 1)
            for revision, behaviour in ((STABLE, self.stable), (CANDIDATE, self.candidate)):
                self._count(revision, self._outcomes(behaviour, k), self.shadow, through_proxy=False)
            differed = int(self.random.binomial(k, self.disagreement))
            self.pairs[self.shadow] = self.pairs.get(self.shadow, Pairs()) + Pairs(k, differed)

    def run(self, seconds: float = 400, step: float = 0.5) -> RolloutState:
        """Tick until it has ended."""
        end = self.now + timedelta(seconds=seconds)
        while not self.state.phase.is_terminal and self.now < end:
            self.tick()
            self.pass_time(step)
        return self.state

    def _count(self, revision: str, counts: Counts, label: str, *, through_proxy: bool) -> None:
        key = (label, revision)
        self.labelled[key] = self.labelled.get(key, Counts()) + counts
        if through_proxy:
            self.plain[revision] = self.plain.get(revision, Counts()) + replace(
                counts, predictions={}, labelled=0, wrong=0
            )

    def _outcomes(self, behaviour: Behaviour, n: int) -> Counts:
        errors = int(self.random.binomial(n, behaviour.errors))
        good = n - errors
        latency = self.random.lognormal(np.log(behaviour.median_ms), 0.4, good)
        histogram = np.bincount(np.searchsorted(EDGES_MS, latency), minlength=len(EDGES_MS) + 1)
        classes = self.random.multinomial(good, behaviour.shares)
        return Counts(
            n,
            errors,
            tuple(int(c) for c in histogram),
            {str(i): int(c) for i, c in enumerate(classes)},
            good,
            int(self.random.binomial(good, behaviour.wrong)),
        )
