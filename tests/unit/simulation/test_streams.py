"""The counts that are drawn have the rates that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from relevo.simulation.accounts import Increments
from relevo.simulation.conditions import Conditions
from relevo.simulation.streams import Streams, shares_between
from relevo.simulation.traffic import HEALTHY, Effect, Traffic
from relevo.statistics.counts import Floats
from tests.unit.simulation.replay import EDGES

RUNS, SHARE, SECONDS = 4000, 0.2, 2.0
TRAFFIC = Traffic(100, 0.05, EDGES)
WORSE = Effect("worse", error_ratio=3.0, latency_factor=1.5)
CUTS = np.array([5.0, 16.0])


def _drawn(effect: Effect, conditions: Conditions) -> Increments:
    streams = Streams(np.random.default_rng(1), TRAFFIC, effect, conditions, sources=1, thresholds=2, with_answers=True)
    survival = np.stack((HEALTHY.survival(TRAFFIC, CUTS), effect.survival(TRAFFIC, CUTS)), axis=-1)
    every = np.broadcast_to(survival, (RUNS, 2, 2))
    order = np.broadcast_to(np.array([[0, 0], [1, 1]]), (RUNS, 2, 2))
    cuts_ms = np.broadcast_to(CUTS[:, None], (RUNS, 2, 2))
    return streams.routed(np.full(RUNS, SHARE), shares_between(every), order, cuts_ms, 0.0, SECONDS)


def _rate(part: Floats, whole: Floats) -> Floats:
    return part.sum(axis=0) / whole.sum(axis=0)


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(),
        Conditions(cluster_requests=5, sticky=True, shared_latency=0.6, error_prone_share=0.5),
        Conditions(cluster_requests=5, shared_latency=0.6),
    ],
    ids=["each by itself", "sticky sessions", "queues"],
)
def test_rates_are_as_asked_however_requests_cluster(conditions: Conditions) -> None:
    """Requests, errors, slow ones and wrong answers come at their rates in each arm, whatever they have in common."""
    drawn = _drawn(WORSE, conditions)
    good = drawn.requests - drawn.errors
    assert drawn.requests.mean(axis=0) == pytest.approx([160, 40], rel=0.02)
    assert _rate(drawn.errors, drawn.requests) == pytest.approx([0.05, 0.15], rel=0.03)
    expected = np.stack((HEALTHY.survival(TRAFFIC, CUTS), WORSE.survival(TRAFFIC, CUTS)), axis=-1)
    for cut in (0, 1):
        assert _rate(drawn.over[:, 0, cut], good) == pytest.approx(expected[cut], rel=0.06)
    assert _rate(drawn.wrong, drawn.labelled) == pytest.approx([0.05, 0.05], rel=0.05)
    assert drawn.predicted.sum(axis=1) == pytest.approx(good)


def test_sticky_sessions_spread_the_split_and_single_requests_do_not() -> None:
    """The candidate's share of a Poisson stream has Poisson's variance; in sessions of five it has about five times as much."""
    single = _drawn(HEALTHY, Conditions()).requests[:, 1]
    sticky = _drawn(HEALTHY, Conditions(cluster_requests=5, sticky=True)).requests[:, 1]
    assert single.var() / single.mean() == pytest.approx(1.0, abs=0.1)
    assert sticky.var() / sticky.mean() == pytest.approx(5.0, abs=0.5)


def test_both_arms_of_a_shadow_pair_are_counted() -> None:
    """Each pair is one request of each arm, and half of the traffic is pairs."""
    streams = Streams(
        np.random.default_rng(2), TRAFFIC, HEALTHY, Conditions(), sources=1, thresholds=2, with_answers=True
    )
    survival = np.broadcast_to(HEALTHY.survival(TRAFFIC, CUTS)[:, None], (RUNS, 2, 2))
    drawn = streams.shadowed(survival, 0.0, SECONDS)
    assert (drawn.requests == drawn.compared[:, None]).all()
    assert drawn.compared.mean() == pytest.approx(100, rel=0.02)
    assert drawn.disagreed.sum() / drawn.compared.sum() == pytest.approx(TRAFFIC.disagreement, rel=0.05)


def test_a_cycle_and_a_stop_have_their_time() -> None:
    """Errors are more frequent in the second half of a cycle, and no request comes in the second half of a stop."""
    conditions = Conditions(cycle_seconds=10, cycle_error_factor=4, stop_every_seconds=20)
    streams = Streams(
        np.random.default_rng(3), TRAFFIC, HEALTHY, conditions, sources=1, thresholds=1, with_answers=False
    )
    assert streams.requests_in(5.0, 1.0) == 100
    assert streams.requests_in(15.0, 1.0) == 0
    calm, busy = (streams.baseline(RUNS, at, 1.0) for at in (2.0, 7.0))
    errors = [1 - owner.size / requests.sum() for requests, owner, _ in (calm, busy)]
    assert errors == pytest.approx([0.05, 0.2], rel=0.05)
