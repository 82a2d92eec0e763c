"""The simulated rules are production's rules: proved on the same counts, tick by tick."""

from __future__ import annotations

import numpy as np
import pytest

from relevo.errors import BadInput
from relevo.simulation.engine import simulate
from relevo.simulation.outcomes import End, Outcomes, summarise
from relevo.simulation.traffic import HEALTHY, Effect, Traffic
from relevo.simulation.world import World
from tests.unit.simulation.replay import EDGES, differences, make_spec, random_world


def test_plan_and_the_simulation_give_the_same_verdict_at_the_same_tick() -> None:
    """For policies, traffic, candidates and troubles drawn at random, `plan` on the same counts decides the same at the same look."""
    ends: set[End] = set()
    for seed in range(1000, 1010):
        found, these, _ = differences(random_world(np.random.default_rng(seed)), 2, seed)
        assert not found, found
        ends |= set(these)
    assert ends >= {End.PROMOTED, End.ROLLED_BACK, End.INCONCLUSIVE}


def _world(**effect: float) -> World:
    spec = make_spec(baseline={"requests": 50}, shadow={"enabled": False}, tickSeconds=1.0, limits={"maxSeconds": 40})
    return World(spec, Traffic(100, 0.01, EDGES), Effect("worse", **effect) if effect else HEALTHY)


def test_a_seed_makes_a_simulation_repeatable_and_another_seed_differs() -> None:
    """Equal arguments give equal outcomes, and outcomes come in the order of the rollouts."""
    one, same, other = (simulate(_world(), 40, np.random.SeedSequence(seed)) for seed in (1, 1, 2))
    assert (one.seconds == same.seconds).all()
    assert (one.requests == same.requests).all()
    assert (one.requests != other.requests).any()


def test_a_worse_candidate_is_rolled_back_more_often_and_sooner() -> None:
    """The share of rollbacks rises with the error ratio, and the candidate's requests until then fall."""
    some, many = (simulate(_world(error_ratio=r), 60, np.random.SeedSequence(3)) for r in (1.5, 20.0))
    assert summarise(some).rolled_back[0] < summarise(many).rolled_back[0]
    assert many.exposed[many.end == End.ROLLED_BACK].mean() < some.exposed.mean()


def test_outcomes_join_and_sum_to_one() -> None:
    """Every rollout has exactly one end, so the shares sum to 1."""
    outcomes = simulate(_world(error_ratio=2.0), 60, np.random.SeedSequence(4))
    joined = Outcomes.joined([outcomes, outcomes])
    summary = summarise(joined)
    assert len(joined) == summary.runs == 120
    total = sum(s[0] for s in (summary.promoted, summary.rolled_back, summary.inconclusive, summary.open))
    assert total == pytest.approx(1.0)


def test_what_cannot_be_simulated_is_refused_by_name() -> None:
    """An immediate strategy, a source without edges and an impossible effect are bad input."""
    with pytest.raises(BadInput, match="immediate"):
        World(make_spec(strategy={"immediate": {}}), Traffic(100, 0.01, EDGES))
    with pytest.raises(BadInput, match="envoy"):
        World(make_spec(), Traffic(100, 0.01, {"locust": EDGES["locust"]}))
    with pytest.raises(BadInput, match="impossible"):
        World(make_spec(), Traffic(100, 0.2, EDGES), Effect("errors x10", error_ratio=10.0))
