"""The checks' batched numbers against `relevo.statistics`, test by test; and which sources have a say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from relevo.rollout.assessment import assess
from relevo.rollout.checks import LEAST_GATED_RATE, MOST_GATED_RATE, gather, log_mean
from relevo.rollout.commands import Verb
from relevo.rollout.observation import Arm
from relevo.rollout.ramp import expand
from relevo.rollout.state import Phase, Verdict
from relevo.rollout.tables import Table, table_of
from relevo.statistics import (
    log_e_mix_shifted,
    log_e_not_slower,
    log_e_not_worse,
    log_e_rate_above,
    log_e_rate_below,
    log_e_worse,
    margin_at,
    weighted_mean,
)
from relevo.statistics.betting import WORSE, WORSE_BY_LITTLE
from relevo.statistics.windows import correlation, witnesses
from tests.unit.rollout.world import Behaviour, World, make_spec


@pytest.fixture(params=range(4))
def world(request: pytest.FixtureRequest) -> World:
    """A rollout at its last step, with a candidate that differs a little in everything."""
    behaviour = Behaviour(errors=0.004, median_ms=10.5, wrong=0.06, shares=(0.36, 0.33, 0.31))
    world = World(
        make_spec(decision={"alpha": 1e-9, "promotionAlpha": 1e-9}, shadow={"requests": 50}),
        behaviour,
        seed=request.param,
    )
    while world.state.step < 4 and len(world.decisions) < 200:
        world.tick()
        if world.state.phase is Phase.SHADOWING and world.state.ledger.pairs().compared > 100 and not world.commands:
            world.order(Verb.PROMOTE)
        world.pass_time(0.5)
    world.tick()
    return world


def tables(world: World) -> dict[str, Table]:
    steps = expand(world.spec)
    return {name: table_of(world.state, name, known, steps) for name, known in world.state.ledger.sources.items()}


def test_the_panel_gives_what_the_tests_give_one_by_one(world: World) -> None:
    """Errors, latency, predictions and accuracy, against and for: equal to asking relevo.statistics for each stream by itself."""
    spec, state, of = world.spec, world.state, tables(world)
    assert state.step == 4
    found = {e.name: e for e in gather(spec, state, list(of.values()))}

    def failures(name: str, table: Table, check: object) -> tuple[float, float]:
        bad = table.count(lambda c: c.errors if name == "errors" else c.wrong)
        total = table.count(lambda c: c.requests if name == "errors" else c.labelled)
        prior = WORSE if name == "errors" else WORSE_BY_LITTLE
        against = log_e_worse(bad, table.rho, check.tolerance, prior=prior)  # type: ignore[attr-defined]
        ratio = log_e_not_worse(bad, table.rho, check.margin)  # type: ignore[attr-defined]
        rate = log_e_rate_below(bad[:, 1].sum(), total[:, 1].sum(), check.objective)  # type: ignore[attr-defined]
        return float(against), float(weighted_mean([float(ratio), float(rate)]))

    errors = [failures("errors", table, spec.checks.errors) for table in of.values()]
    assert found["errors"].against == pytest.approx(float(weighted_mean([a for a, _ in errors])))
    assert found["errors"].in_favour == pytest.approx(min(f for _, f in errors))
    accuracy = failures("accuracy", of["locust"], spec.checks.accuracy)
    assert (found["accuracy"].against, found["accuracy"].in_favour) == pytest.approx(accuracy)

    slower, not_slower = [], []
    assert spec.checks.latency is not None
    clustering = spec.checks.latency.clustering
    for name, table in of.items():
        windows = state.windows[name]
        assert windows.closed > 5
        slower.append(math.log(sum(windows.capitals)) * witnesses(correlation(windows.scores, windows.fresh)))
        rates = np.array(state.usual_rates[name])
        over, total = table.exceedances(state.thresholds[name], spec.checks.latency.tolerance)
        over[:, :-1] = total[:-1] = 0  # only the last step counts for it
        gated = (rates >= LEAST_GATED_RATE) & (rates <= MOST_GATED_RATE)
        margins = margin_at(spec.checks.latency.margin, rates[gated])
        ratio = log_e_not_slower(over[gated], total, table.rho, rates[gated], margins)
        rate = log_e_rate_below(over[gated, -1, 1], np.full(gated.sum(), total[-1, 1]), margins * rates[gated])
        not_slower.append(min(float(weighted_mean(pair)) for pair in zip(ratio, rate, strict=True)) / clustering)
    assert found["latency"].against == pytest.approx(float(weighted_mean(slower)))
    assert found["latency"].in_favour == pytest.approx(min(not_slower))

    assert spec.checks.predictions is not None
    client, pairs = of["locust"], state.ledger.pairs()
    streams = [client.count(lambda c, k=k: c.predictions.get(k, 0)) for k in state.classes]  # type: ignore[misc]
    streams.append(np.zeros_like(streams[0]))
    mix = float(log_e_mix_shifted(np.stack(streams), client.rho, spec.checks.predictions.tolerance))
    above = float(log_e_rate_above(pairs.disagreed, pairs.compared, spec.shadow.max_disagreement))
    below = float(log_e_rate_below(pairs.disagreed, pairs.compared, spec.shadow.max_disagreement))
    assert found["predictions"].against == pytest.approx(float(weighted_mean([mix, above])))
    assert found["predictions"].in_favour == pytest.approx(below)


def test_exceedances_count_the_candidate_over_the_tolerated_edge(world: World) -> None:
    """The stable arm is counted over the threshold, the candidate over the first edge at or above (1 + tolerance) times it."""
    table, threshold = tables(world)["locust"], world.state.thresholds["locust"][0]
    over, total = table.exceedances((threshold,), 0.1)
    first = next(i for i, e in enumerate(table.edges_ms) if e >= table.edges_ms[threshold] * 1.1 * (1 - 1e-9))
    for step, (stable, candidate) in enumerate(table.cells):
        assert over[0, step].tolist() == [sum(stable.latency[threshold + 1 :]), sum(candidate.latency[first + 1 :])]
        assert total[step].tolist() == [sum(stable.latency), sum(candidate.latency)]


def test_what_the_bets_rest_on_is_fixed_before_the_candidate_sees_traffic(world: World) -> None:
    """Traffic to the stable revision alone, later on, moves neither the usual rates nor the classes: a bet must not follow its counts."""
    before = world.state.usual_rates, world.state.classes, world.state.thresholds
    world.candidate_ready = False
    for _ in range(5):
        world.tick()
        world.pass_time(0.5)
    assert world.state.ledger.total("locust", Arm.STABLE, ["0"]).requests > 0
    assert (world.state.usual_rates, world.state.classes, world.state.thresholds) == before


def test_without_load_of_its_own_locust_has_no_say() -> None:
    """With 0 users the users' own traffic alone decides: Locust's silence of counts blocks neither the baseline nor the promotion."""
    spec = make_spec(load={"usersFrom": 0, "usersTo": 0})
    world = World(spec)
    world.pass_time(0)
    while not world.state.phase.is_terminal and len(world.decisions) < 400:
        world.tick()
        world.users = 1  # the users' own traffic
        world.pass_time(0.5)
        world.users = 0
        world.labelled, world.pairs = {}, {}
    assert world.state.verdict is Verdict.PASS
    assert Phase.SHADOWING not in {d.state.phase for d in world.decisions}


@pytest.mark.parametrize("sources", [["locust"], ["envoy"]])
def test_one_source_is_enough(sources: list[str]) -> None:
    """Either source alone promotes a healthy candidate and rolls a failing one back."""
    assert World(make_spec(sources=sources)).run().verdict is Verdict.PASS
    assert World(make_spec(sources=sources), Behaviour(errors=0.15)).run().verdict is Verdict.FAIL


def test_a_check_set_to_null_is_not_made(world: World) -> None:
    """Only the checks of the spec are judged, and the culprit is the one that weighs most in the sum."""
    spec = make_spec(checks={"latency": None, "accuracy": None})
    names = [c.name for c in assess(spec, expand(spec), world.state).checks]
    assert names == ["errors", "predictions"]


def test_log_mean_is_the_weighted_mean() -> None:
    """The few-number form equals combine.weighted_mean, also far outside the range of exp, and with infinities."""
    for logs, weights in (([1.0, -3.0], None), ([900.0, 1.0, -900.0], [0.4, 0.3, 0.3]), ([0.0], None)):
        assert log_mean(logs, weights) == pytest.approx(float(weighted_mean(logs, weights)))
    assert log_mean([-np.inf, -np.inf]) == -np.inf
