"""Properties of the decision core over arbitrary histories: `plan` in a world that fails, restarts, is ordered about and killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.rollout.commands import Verb
from relevo.rollout.decision import Decision
from relevo.rollout.observation import Observation
from relevo.rollout.plan import LONGEST_TICK, plan
from relevo.rollout.state import HoldReason, Phase, Verdict, dump_state, load_state
from tests.unit.rollout.world import CANDIDATE, STABLE, Behaviour, World, make_spec

HEALTHY, FAILING, SLOW = Behaviour(), Behaviour(errors=0.1), Behaviour(median_ms=25)
SHORT = {
    "limits": {"maxSeconds": 40, "preparationSeconds": 10},
    "baseline": {"requests": 50},
    "shadow": {"requests": 50},
}

EVENTS: dict[str, Callable[[World], object]] = {
    "tick": lambda w: w.tick(),
    "killed before it is made so": lambda w: w.tick(apply=False),
    "two ticks at once": lambda w: (w.tick(), w.tick()),
    "locust falls silent": lambda w: w.silent.add("locust"),
    "envoy falls silent": lambda w: w.silent.add("envoy"),
    "all speak": lambda w: w.silent.clear(),
    "locust restarts": lambda w: w.restart("locust"),
    "envoy restarts": lambda w: w.restart("envoy"),
    "candidate goes down": lambda w: setattr(w, "candidate_ready", False),
    "candidate comes back": lambda w: setattr(w, "candidate_ready", True),
    "clock goes back": lambda w: setattr(w, "now", w.now - timedelta(hours=1)),
    "a night passes": lambda w: setattr(w, "now", w.now + timedelta(hours=8)),
    **{f"order {verb}": (lambda w, verb=verb: w.order(verb)) for verb in Verb},
}

# Histories begin anywhere between the first tick and the verdict.
histories = st.builds(
    lambda calm, events: ["tick"] * calm + events,
    st.sampled_from([0, 6, 14, 24]),
    st.lists(st.sampled_from(["tick"] * 12 + list(EVENTS)), max_size=25),
)
behaviours = st.sampled_from([HEALTHY, FAILING, SLOW])
thorough = settings(max_examples=15, deadline=None, derandomize=True)


def live(world: World, history: list[str]) -> World:
    """Let a history happen; time passes after each of its events."""
    for event in history:
        EVENTS[event](world)
        world.pass_time(0.5)
    return world


@thorough
@given(histories, behaviours)
def test_weight_only_goes_to_a_ready_candidate_of_this_rollout(history: list[str], behaviour: Behaviour) -> None:
    """A weight is from 0 to 100; above 0 it is wished only while Shifting, for this rollout's candidate, while it is ready."""
    world = World(make_spec(**SHORT), behaviour)
    for event in history:
        seen_ready = world.candidate_ready
        EVENTS[event](world)
        for decision in world.decisions[-1:]:
            split = decision.desired.split
            if split is None or event not in ("tick", "killed before it is made so", "two ticks at once"):
                continue
            assert 0 <= split.weight_percent <= 100
            if split.weight_percent:
                assert decision.state.phase is Phase.SHIFTING
                assert seen_ready
                assert decision.state.candidate == CANDIDATE
        world.pass_time(0.5)


@thorough
@given(histories, behaviours)
def test_a_decision_is_never_undone(history: list[str], behaviour: Behaviour) -> None:
    """After RollingBack the candidate is wished no traffic; a terminal phase and its verdict never change, whatever is seen or ordered."""
    world = live(World(make_spec(**SHORT), behaviour), history)
    world.order(Verb.ROLLBACK)
    live(world, [*history, "all speak", "candidate comes back"])
    rolling_back = False
    ended: Decision | None = None
    for decision in world.decisions:
        rolling_back = rolling_back or decision.state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        if rolling_back:
            assert decision.state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
            assert decision.desired.split is None or decision.desired.split.weight_percent == 0
        if ended is not None:
            assert decision.state == ended.state
            assert not decision.transitions
        if decision.state.phase.is_terminal:
            ended = decision


@thorough
@given(histories, behaviours)
def test_every_path_ends(history: list[str], behaviour: Behaviour) -> None:
    """Whatever happened, once sources answer, the candidate is up and nobody has paused it, the rollout ends within its limits."""
    world = live(World(make_spec(**SHORT), behaviour), history)
    world.silent.clear()
    world.candidate_ready = True
    world.order(Verb.RESUME)
    state = world.run(seconds=400, step=1.0)
    assert state.phase.is_terminal or (state.hold is not None and state.hold.reason is HoldReason.SPLIT_MISMATCH)


@thorough
@given(histories, behaviours)
def test_equal_observations_give_equal_decisions(history: list[str], behaviour: Behaviour) -> None:
    """Replaying what was seen, from states that went through JSON, gives the same states, wishes and transitions."""
    world = World(make_spec(**SHORT), behaviour)
    for event in history:
        before, seen, now = world.state, world.observe(), world.now
        first = plan(world.spec, before, seen, now)
        again = plan(world.spec, load_state(dump_state(before)), seen, now)
        assert again == first
        EVENTS[event](world)
        world.pass_time(0.5)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.sets(st.integers(0, 60)),
    st.sampled_from([(HEALTHY, Verdict.PASS), (FAILING, Verdict.FAIL), (SLOW, Verdict.FAIL)]),
)
def test_a_kill_between_store_and_apply_leaves_the_verdict(kills: set[int], case: tuple[Behaviour, Verdict]) -> None:
    """A process that dies after it stored and before it acted, at any ticks, costs time and never the verdict."""
    behaviour, verdict = case
    world = World(make_spec(), behaviour)
    tick = 0
    while not world.state.phase.is_terminal and tick < 600:
        world.tick(apply=tick not in kills)
        world.pass_time(0.5)
        tick += 1
    assert world.state.verdict is verdict


@thorough
@given(
    st.lists(
        st.sampled_from(["tick", "tick", "locust falls silent", "envoy falls silent", "all speak", "locust restarts"]),
        max_size=40,
    )
)
def test_missing_evidence_is_never_bad_evidence(history: list[str]) -> None:
    """Silences and restarts of the sources alone, with a candidate that never does wrong, never yield the verdict fail."""
    perfect = Behaviour(errors=0.0, wrong=0.0)
    world = World(make_spec(**SHORT), perfect, perfect, disagreement=0.0)
    state = live(world, history).run(seconds=60)
    assert state.verdict is not Verdict.FAIL


@pytest.mark.parametrize(
    ("behaviour", "phase", "verdict"),
    [
        (HEALTHY, Phase.PROMOTED, Verdict.PASS),
        (FAILING, Phase.ROLLED_BACK, Verdict.FAIL),
        (SLOW, Phase.ROLLED_BACK, Verdict.FAIL),
    ],
)
@pytest.mark.parametrize("shadow", [True, False])
def test_plain_rollouts_end_as_they_should(behaviour: Behaviour, phase: Phase, verdict: Verdict, shadow: bool) -> None:
    """A healthy candidate is promoted and a bad one rolled back, with the shadow stage and without."""
    state = World(make_spec(shadow={"enabled": shadow}), behaviour).run()
    assert (state.phase, state.verdict) == (phase, verdict)


def test_a_silent_source_holds_and_its_return_releases() -> None:
    """A source silent beyond its time holds the rollout at its weight; when it speaks again the rollout goes on to its verdict."""
    world = World(make_spec(shadow={"enabled": False}))
    while world.state.step < 2:
        world.tick()
        world.pass_time(0.5)
    world.silent.add("envoy")
    step = world.state.step
    for _ in range(30):
        world.tick()
        world.pass_time(0.5)
    assert world.state.hold is not None
    assert world.state.hold.reason is HoldReason.UNMEASURABLE
    assert world.state.step == step
    assert world.routes.weight_percent > 0
    world.silent.clear()
    assert world.run().verdict is Verdict.PASS


def test_one_missed_reading_decides_nothing() -> None:
    """While a source is silent, even before that holds the rollout, no step is taken: nothing is decided on half of the evidence."""
    world = World(make_spec(shadow={"enabled": False}, limits={"evidenceTimeoutSeconds": 1000}))
    while world.state.step < 1:
        world.tick()
        world.pass_time(0.5)
    world.silent.add("envoy")
    for _ in range(40):
        world.tick()
        world.pass_time(0.5)
    assert world.state.step == 1


def test_time_without_a_driver_counts_for_nothing() -> None:
    """Interrupted and continued the next day, the rollout has neither used up its limit nor the candidate its time to become ready."""
    world = World(make_spec(limits={"preparationSeconds": 20, "maxSeconds": 60}))
    world.candidate_ready = False
    for _ in range(4):
        world.tick()
        world.pass_time(1)
    world.now += timedelta(days=1)
    world.tick()
    assert world.state.phase is Phase.PREPARING
    world.candidate_ready = True
    state = world.run(step=1.0)
    assert (state.verdict, state.extended) == (Verdict.PASS, False)


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    """After the clock went back by a day the steps and limits go on from where they were."""
    world = World(make_spec())
    for _ in range(20):
        world.tick()
        world.pass_time(0.5)
    world.now -= timedelta(days=1)
    assert world.run(seconds=120).verdict is Verdict.PASS


def test_looks_closer_than_the_longest_tick_are_time_that_passed() -> None:
    """Only a gap beyond LONGEST_TICK is left out of the limits; slow ticks are not."""
    world = World(make_spec(limits={"preparationSeconds": 100}))
    world.candidate_ready = False
    world.tick()
    world.tick()
    world.now += LONGEST_TICK
    world.tick()
    assert world.state.phase is Phase.ROLLING_BACK


def test_the_candidate_is_not_another_revision() -> None:
    """A candidate replaced under the rollout's feet is not its candidate: it gets no traffic, and the rollout ends as not ready."""
    world = World(make_spec(shadow={"enabled": False}, limits={"preparationSeconds": 10}))
    while world.state.step < 2:
        world.tick()
        world.pass_time(0.5)
    assert world.routes.candidate is not None
    world.routes = replace(world.routes, candidate=replace(world.routes.candidate, name="iris-predictor-00003"))
    decision = world.tick()
    assert decision.desired.split is not None
    assert decision.desired.split.weight_percent == 0
    assert "iris-predictor-00003 is in its place" in decision.transitions[0].message
    assert world.run().phase is Phase.ROLLED_BACK
    assert world.routes.stable.name == STABLE


def test_a_flood_of_orders_does_not_keep_the_evidence_from_being_judged() -> None:
    """Orders that move nothing are noted, and the same tick still judges and goes on."""
    world = World(make_spec(), FAILING)
    while not world.state.phase.is_decided and len(world.decisions) < 100:
        world.order(Verb.RESUME)
        world.tick()
        world.pass_time(0.5)
    assert world.state.verdict is Verdict.FAIL


def test_a_terminal_state_looks_at_nothing() -> None:
    """In a terminal phase no observation is even read."""
    world = World(make_spec(), FAILING)
    state = world.run()
    decision = plan(world.spec, state, Observation(world.routes), world.now)
    assert decision.state is state
    assert decision.desired.split is None
