"""What a whole rollout does, by simulation: the default policy for a grid of candidates, and a long watch while assumptions are broken.

`operating_page` runs it and writes its tables into docs/operating-characteristics.md. Both use production's rules (`relevo.simulation`).

The default policy: 200 requests per second, 0.2 % errors, p50 5 ms and p99 16 ms, 5 % wrong answers, Locust and Envoy as sources. The long
watch cannot promote (its proof is out of reach) and goes on to 60,000 requests, so that every false alarm it has in it comes about:
ramp 5, 12, 31, 50 %, 15 s each, looked at every second, alpha 0.05, errors and latency only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from relevo.evidence.counts import LATENCY_EDGES_MS
from relevo.platforms.local.envoy_config import BUCKETS_MS
from relevo.rollout.spec import RolloutSpec, parse_rollout
from relevo.simulation.characteristics import CHUNK
from relevo.simulation.conditions import Conditions
from relevo.simulation.engine import simulate
from relevo.simulation.outcomes import Outcomes, summarise
from relevo.simulation.traffic import EFFECTS, HEALTHY, Effect, Traffic
from relevo.simulation.world import World

__all__ = ["CONDITIONS", "DEFAULT_CANDIDATES", "VARIANTS", "default_policy", "long_watch", "variant"]

EDGES_MS = {"locust": LATENCY_EDGES_MS, "envoy": tuple(map(float, BUCKETS_MS))}
DEFAULT_TRAFFIC = Traffic(200, 0.002, EDGES_MS)
WATCH_TRAFFIC = Traffic(200, 0.005, EDGES_MS, wrong_rate=None)
DEFAULT_CANDIDATES = {effect.name: effect for effect in EFFECTS}
WORSE = Effect("errors x3", error_ratio=3.0)

CONDITIONS: dict[str, tuple[Conditions, Mapping[str, Any]]] = {
    "nothing is broken": (Conditions(), {}),
    "base rate: errors x5, latency x2 in every other half minute": (
        Conditions(cycle_seconds=60, cycle_error_factor=5, cycle_latency_factor=2),
        {},
    ),
    "traffic stops for 10 s every 20 s": (Conditions(stop_every_seconds=20), {}),
    "weights take effect 5 s late, with their label": (Conditions(late_weight_seconds=5), {}),
    "the label changes 5 s before the weight": (Conditions(mislabelled_seconds=5), {}),
    "evidence in batches of 15 s": (Conditions(scrape_seconds=15), {}),
    "a source restarts every 10 s": (Conditions(restart_every_seconds=10), {}),
    "no source answers for 30 s": (Conditions(silent_from_seconds=30, silent_seconds=30), {}),
    "thresholds from 20 requests": (Conditions(), {"baseline": {"requests": 20}}),
    "sticky sessions of 10, all users alike": (Conditions(cluster_requests=10, sticky=True), {}),
    "sticky sessions of 10, half of the latency the user's": (
        Conditions(cluster_requests=10, sticky=True, shared_latency=0.5),
        {},
    ),
    "sticky sessions of 10, all errors with 2 % of the users": (
        Conditions(cluster_requests=10, sticky=True, error_prone_share=0.02),
        {},
    ),
    **{
        f"queues: {size} in a row share {share:g} of the latency's variance": (
            Conditions(cluster_requests=size, shared_latency=share),
            {},
        )
        for size, share in ((5, 0.2), (5, 0.5), (10, 0.5), (10, 0.8))
    },
}


VARIANTS: dict[str, Mapping[str, Any]] = {
    "default": {},
    "300 shadow pairs": {"shadow": {"requests": 300}},
    "no shadow stage": {"shadow": {"enabled": False}},
    "no latency threshold at p99.9": {"checks": {"latency": {"quantiles": [0.25, 0.5, 0.75, 0.9, 0.95, 0.99]}}},
    "latency windows of 10": {"checks": {"latency": {"window": 10}}},
    "ramp 2, 10, 50 %": {"strategy": {"canary": {"weights": [2, 10, 50]}}},
    "ramp 5, 25, 50 %": {"strategy": {"canary": {"weights": [5, 25, 50]}}},
    "ramp 5, 50 %": {"strategy": {"canary": {"weights": [5, 50]}}},
}
"""Changes to the default policy that were tried, to lessen exposure."""


def variant(name: str, runs: int, seed: int) -> dict[str, Any]:
    """A row of the table of variants, by candidate."""
    spec = _spec(**VARIANTS[name])
    candidates = ("as good as the stable one", "errors x3", "errors x5", "errors x10", "3 % of requests +400 ms")
    worlds = {c: World(spec, DEFAULT_TRAFFIC, DEFAULT_CANDIDATES[c]) for c in candidates}
    return {c: summarise(_simulate(world, runs, seed)).as_dict() for c, world in worlds.items()}


def default_policy(candidate: str, runs: int, seed: int) -> dict[str, Any]:
    """A row of the table of the default policy."""
    world = World(_spec(), DEFAULT_TRAFFIC, DEFAULT_CANDIDATES[candidate])
    return summarise(_simulate(world, runs, seed)).as_dict()


def long_watch(condition: str, runs: int, seed: int) -> dict[str, Any]:
    """A row of the table of broken assumptions: a healthy candidate, and one that fails three times as often."""
    conditions, changed = CONDITIONS[condition]
    spec = _spec(
        strategy={"canary": {"weights": [5, 12, 31, 50], "stepSeconds": 15}},
        shadow={"enabled": False},
        baseline=changed.get("baseline", {}),
        checks={"predictions": None, "accuracy": None},
        decision={"promotionAlpha": 1e-300},
        limits={"maxSeconds": 200},
        tickSeconds=1.0,
    )
    healthy = summarise(_simulate(World(spec, WATCH_TRAFFIC, HEALTHY, conditions), runs, seed)).as_dict()
    worse = summarise(_simulate(World(spec, WATCH_TRAFFIC, WORSE, conditions), runs, seed + 1)).as_dict()
    return {"healthy": healthy, "worse": worse}


def _spec(**fields: Any) -> RolloutSpec:
    document = {"metadata": {"name": "model"}, "spec": {"target": "model", "storageUri": "oci://x/model:2", **fields}}
    return parse_rollout(document, where="benchmark").spec


def _simulate(world: World, runs: int, seed: int) -> Outcomes:
    parts = [min(CHUNK, runs - begin) for begin in range(0, runs, CHUNK)]
    seeds = np.random.SeedSequence(seed).spawn(len(parts))
    return Outcomes.joined([simulate(world, size, each) for size, each in zip(parts, seeds, strict=True)])
