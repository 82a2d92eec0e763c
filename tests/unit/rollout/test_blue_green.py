"""The blue/green strategy in the decision core: rehearsed unseen, switched at once or by weights, watched, and back when it turns bad."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.rollout.commands import Verb
from relevo.rollout.ledger import WATCH, route_label
from relevo.rollout.observation import Arm, Counts
from relevo.rollout.state import Cause, Phase, Verdict
from tests.unit.rollout.test_plan import EVENTS, SHORT, behaviours, live
from tests.unit.rollout.world import CANDIDATE, STABLE, Behaviour, World, make_spec

KEEP_WARM_SECONDS = 20.0
BLUE_GREEN = {"blueGreen": {"keepWarmFor": KEEP_WARM_SECONDS, "stepRequests": 30}}
WEIGHTED = {"blueGreen": {"keepWarmFor": KEEP_WARM_SECONDS, "weights": [10, 50], "stepSeconds": 2}}
HEALTHY = Behaviour()
MARGIN = {"errors": {"margin": 5}}


def world(candidate: Behaviour = HEALTHY, strategy: dict[str, object] = BLUE_GREEN, **fields: object) -> World:
    """A blue/green rollout on paper."""
    return World(make_spec(strategy=strategy, shadow={"requests": 300}, **fields), candidate)


def until_switched(one: World, seconds: float = 300) -> World:
    """Tick until all users are with the candidate, or it has ended."""
    for _ in range(int(seconds / 0.5)):
        if one.routes.weight_percent == 100 or one.state.phase.is_decided:
            break
        one.tick()
        one.pass_time(0.5)
    return one


@pytest.mark.parametrize("strategy", [BLUE_GREEN, WEIGHTED])
def test_healthy_is_rehearsed_switched_watched_and_promoted(strategy: dict[str, object]) -> None:
    """A healthy candidate has all users after its rehearsal, is watched as long as the old colour is warm, and is promoted then."""
    one = until_switched(world(strategy=strategy))
    assert one.routes.weight_percent == 100
    switched_at = one.now
    state = one.run()
    assert (state.phase, state.verdict) == (Phase.PROMOTED, Verdict.PASS)
    assert state.decided_at is not None
    assert (state.decided_at - switched_at).total_seconds() >= KEEP_WARM_SECONDS - 1


@pytest.mark.parametrize("candidate", [Behaviour(errors=0.1), Behaviour(median_ms=25), Behaviour(wrong=0.4)])
def test_bad_in_the_rehearsal_never_meets_a_user(candidate: Behaviour) -> None:
    """What errs, is slow or wrong on the rows of the load is rolled back with its weight at 0 all the time."""
    one = world(candidate)
    state = one.run()
    assert (state.phase, state.verdict) == (Phase.ROLLED_BACK, Verdict.FAIL)
    assert "No user's request reached it" in state.reason
    splits = [d.desired.split for d in one.decisions if d.desired.split is not None]
    assert {split.weight_percent for split in splits} == {0}


def test_no_switch_before_every_gate_has_passed() -> None:
    """All users at once is too much to try out: the switch waits for the proof that a canary gathers on its way."""
    one = until_switched(world())
    at_switch = next(d for d in one.decisions if d.state.phase is Phase.SHIFTING)
    assert at_switch.assessment is not None
    assert at_switch.assessment.passed


@pytest.mark.parametrize("candidate", [Behaviour(errors=0.1), Behaviour(wrong=0.5)])
def test_turned_bad_after_the_switch_is_switched_back(candidate: Behaviour) -> None:
    """A candidate that errs or answers wrongly from the switch on gives its users back within seconds."""
    one = until_switched(world())
    one.candidate = candidate
    switched_at = one.now
    state = one.run()
    assert (state.phase, state.verdict, state.cause) == (Phase.ROLLED_BACK, Verdict.FAIL, Cause.EVIDENCE)
    assert (one.now - switched_at).total_seconds() < KEEP_WARM_SECONDS
    assert one.routes.stable.name == STABLE


def test_slow_for_all_after_the_switch_is_switched_back() -> None:
    """A candidate that becomes slow is slower than the old colour is now, and than it was before."""
    one = until_switched(world())
    one.candidate = Behaviour(median_ms=40)
    state = one.run()
    assert (state.phase, state.verdict) == (Phase.ROLLED_BACK, Verdict.FAIL)
    assert state.reason.startswith("latency")


def test_an_hour_that_is_slower_for_both_is_no_ones_fault() -> None:
    """Where both colours become slow together, the rows that go to both say so, and the users' longer waits alone prove nothing."""
    one = until_switched(world())
    one.candidate, one.stable = Behaviour(median_ms=40), Behaviour(median_ms=40)
    state = one.run()
    assert state.verdict is Verdict.PASS


def only_users_fail(one: World, rate: float) -> None:
    """The rows of the load are answered; of the users' own requests, which Envoy alone sees, a share fails."""
    users = 20
    failed = int(one.random.binomial(users, rate))
    seen = one.plain.get(CANDIDATE, Counts())
    one.plain[CANDIDATE] = replace(seen, requests=seen.requests + users, errors=seen.errors + failed)


def test_bad_on_what_only_users_send_is_switched_back() -> None:
    """Inputs that no load sends reach the candidate after the switch: what Envoy counts of the users is judged too."""
    one = until_switched(world())
    while not one.state.phase.is_decided:
        one.tick()
        one.pass_time(0.5)
        only_users_fail(one, 0.4)
        assert (one.now - one.state.step_since).total_seconds() < KEEP_WARM_SECONDS, "it was not seen in time"
    assert (one.state.phase, one.state.verdict) == (Phase.ROLLING_BACK, Verdict.FAIL)
    assert one.state.reason.startswith("errors")
    assert "since the switch" in one.state.reason


def test_users_failing_as_seldom_as_allowed_is_no_regression() -> None:
    """An error rate below the objective after the switch is not held against the candidate."""
    one = until_switched(world())
    while not one.state.phase.is_decided:
        one.tick()
        one.pass_time(0.5)
        only_users_fail(one, 0.004)
    assert one.state.verdict is Verdict.PASS


def test_both_colours_get_rows_while_it_is_watched() -> None:
    """With all users at the candidate, rows still go to both, so that each colour has counts."""
    one = until_switched(world())
    for _ in range(20):
        one.tick()
        one.pass_time(0.5)
    label = route_label(one.state.uid, WATCH)
    assert one.decisions[-1].desired.shadow_label == label
    for arm in Arm:
        assert one.state.ledger.total("locust", arm, [WATCH]).requests > 500


def test_load_is_at_the_production_rate_from_the_rehearsal_on() -> None:
    """No user is exposed until the candidate has carried the load it will have at once."""
    one = until_switched(world(load={"usersFrom": 2, "usersTo": 30}))
    users = {d.desired.users for d in one.decisions if d.state.phase in (Phase.SHADOWING, Phase.SHIFTING)}
    assert users == {30}


def test_the_limit_of_time_does_not_end_a_long_watch() -> None:
    """A keepWarmFor beyond limits.maxSeconds is a watch that was asked for, and no rollout that cannot be decided."""
    strategy = {"blueGreen": {"keepWarmFor": 200}}
    one = world(strategy=strategy, limits={"maxSeconds": 60, "maxCandidateRequests": 3000})
    state = one.run(seconds=600)
    assert (state.phase, state.verdict) == (Phase.PROMOTED, Verdict.PASS)


def test_a_candidate_that_goes_down_after_the_switch_gives_the_users_back_at_once() -> None:
    """The old colour is warm for that: it has all users while the new one cannot take requests, and for good if it does not come back."""
    one = until_switched(world(limits={"preparationSeconds": 15}))
    one.candidate_ready = False
    decision = one.tick()
    assert decision.desired.split is not None
    assert decision.desired.split.weight_percent == 0
    state = one.run()
    assert (state.phase, state.cause) == (Phase.ROLLED_BACK, Cause.NOT_READY)


@pytest.mark.parametrize("verb", [Verb.PROMOTE_FULL, Verb.ROLLBACK])
def test_orders_end_the_watch(verb: Verb) -> None:
    """promote --full ends the watch with the new colour, rollback is the switch back."""
    one = until_switched(world())
    one.order(verb)
    state = one.run()
    kept = CANDIDATE if verb is Verb.PROMOTE_FULL else STABLE
    assert one.routes.stable.name == kept
    assert state.cause is Cause.ORDERED


histories = st.builds(
    lambda calm, events: ["tick"] * calm + events,
    st.sampled_from([0, 10, 40, 60]),
    st.lists(st.sampled_from(["tick"] * 12 + list(EVENTS)), max_size=25),
)
strategies = st.sampled_from([BLUE_GREEN, WEIGHTED])
quick = settings(max_examples=12, deadline=None, derandomize=True)


@quick
@given(histories, behaviours, strategies)
def test_never_to_an_unready_colour_and_never_both_idle(
    history: list[str], behaviour: Behaviour, strategy: dict[str, object]
) -> None:
    """Whatever happens, users are with one colour or both: the new one only while ready, the old one never put away first."""
    one = World(make_spec(**SHORT, strategy=strategy, checks=MARGIN), behaviour)
    for event in history:
        ready = one.candidate_ready
        EVENTS[event](one)
        for decision in one.decisions[-1:]:
            wish, phase = decision.desired, decision.state.phase
            if wish.split is not None and event in ("tick", "killed before it is made so"):
                assert wish.split.weight_percent == 0 or ready
                assert wish.keep is None, "a colour is put away only when nothing is split any more"
            if wish.keep is Arm.CANDIDATE:
                assert phase is Phase.PROMOTING
            if wish.keep is Arm.STABLE:
                assert phase is Phase.ROLLING_BACK
        one.pass_time(0.5)


@quick
@given(histories, behaviours, strategies)
def test_a_verdict_stands(history: list[str], behaviour: Behaviour, strategy: dict[str, object]) -> None:
    """Once ended, nothing that is seen or ordered changes state, verdict or routes."""
    one = live(World(make_spec(**SHORT, strategy=strategy, checks=MARGIN), behaviour), history)
    one.order(Verb.ROLLBACK)
    one.silent.clear()
    one.candidate_ready = True
    one.run(seconds=200, step=1.0)
    ended = one.state
    assert ended.phase.is_terminal
    live(one, history)
    assert one.state == ended


@quick
@given(st.sets(st.integers(0, 200)), st.sampled_from([(HEALTHY, Verdict.PASS), (Behaviour(errors=0.1), Verdict.FAIL)]))
def test_a_kill_between_store_and_apply_leaves_the_verdict(kills: set[int], case: tuple[Behaviour, Verdict]) -> None:
    """A process that dies after it stored and before it acted, at any ticks, costs time and never the verdict."""
    one = world(case[0], checks=MARGIN)
    for tick in range(900):
        if one.state.phase.is_terminal:
            break
        one.tick(apply=tick not in kills)
        one.pass_time(0.5)
    assert one.state.verdict is case[1]
