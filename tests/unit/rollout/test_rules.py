"""What each order and each trouble does, one rule a test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relevo.rollout.assessment import SPLIT_LOG_LIMIT, Assessment
from relevo.rollout.commands import Verb
from relevo.rollout.decision import desired
from relevo.rollout.look import Look
from relevo.rollout.observation import Arm, RevisionStatus, Routes
from relevo.rollout.ramp import expand
from relevo.rollout.rules import judge
from relevo.rollout.state import Cause, HoldReason, Phase, Verdict
from tests.unit.rollout.world import Behaviour, World, make_spec

NO_SHADOW = {"shadow": {"enabled": False}}


def at_step(step: int, **fields: object) -> World:
    """A world at this step of its ramp."""
    world = World(make_spec(**{**NO_SHADOW, **fields}))
    while world.state.step < step:
        world.tick()
        world.pass_time(0.5)
    world.tick()
    return world


@pytest.mark.parametrize("verb", [Verb.PROMOTE, Verb.PROMOTE_FULL])
def test_no_order_promotes_a_candidate_that_is_not_ready(verb: Verb) -> None:
    """At the last step, with the candidate down, both promotions are refused and no traffic is wished for it."""
    world = at_step(4)
    assert world.state.step == len(expand(world.spec))
    world.candidate_ready = False
    world.order(verb)
    decision = world.tick()
    assert decision.transitions[0].rule == "refused"
    assert decision.state.phase is Phase.SHIFTING
    assert desired(world.spec, decision.state).split.weight_percent == 0  # type: ignore[union-attr]


def test_promote_full_waits_for_the_smoke_requests() -> None:
    """A candidate that answers none of the smoke requests is not given all traffic, whoever asks."""
    world = World(make_spec())
    world.smoke_fails = True
    world.tick()
    world.order(Verb.PROMOTE_FULL)
    world.tick()
    world.tick()
    assert world.state.phase is not Phase.PROMOTING


def test_promote_skips_neither_readiness_nor_the_baseline() -> None:
    """An order for the next step while preparing does not shift traffic before the stable revision is measured."""
    world = World(make_spec(**NO_SHADOW))
    world.tick()
    world.order(Verb.PROMOTE)
    for _ in range(5):
        world.tick()  # no time passes, so there is no traffic to measure
    assert world.state.phase is Phase.PREPARING


def test_promote_takes_the_next_step_at_once() -> None:
    """The next step does not wait for the step's least seconds and requests."""
    world = at_step(1, strategy={"canary": {"stepSeconds": 1000}})
    world.order(Verb.PROMOTE)
    world.tick()
    assert world.state.step == 2


def test_paused_by_its_spec_it_holds_until_the_spec_says_otherwise() -> None:
    """`spec.paused` holds it where it is, no order lifts that, and it goes on when the field is false again."""
    world = at_step(2)
    world.spec = world.spec.model_copy(update={"paused": True})
    decision = world.tick()
    assert decision.state.hold is not None
    assert decision.state.hold.reason is HoldReason.PAUSED_BY_SPEC
    assert decision.desired.split.weight_percent > 0  # type: ignore[union-attr]
    world.order(Verb.RESUME)
    assert world.tick().transitions[0].rule == "refused"
    world.spec = world.spec.model_copy(update={"paused": False})
    assert world.tick().state.hold is None


def test_a_paused_rollout_gives_an_unready_candidate_no_traffic() -> None:
    """Paused means that weights stay, but never that users' requests go to a revision that is down; the hold stays the human's."""
    world = at_step(2)
    world.order(Verb.PAUSE)
    assert world.tick().desired.split.weight_percent > 0  # type: ignore[union-attr]
    world.candidate_ready = False
    decision = world.tick()
    assert decision.desired.split.weight_percent == 0  # type: ignore[union-attr]
    assert decision.state.hold is not None
    assert decision.state.hold.reason is HoldReason.PAUSED
    world.candidate_ready = True
    assert world.tick().desired.split.weight_percent > 0  # type: ignore[union-attr]


def test_a_proven_regression_rolls_back_a_paused_rollout() -> None:
    """What is proven is proven, also while a human has paused it."""
    world = at_step(2)
    world.order(Verb.PAUSE)
    world.candidate = Behaviour(errors=0.5)
    assert world.run(seconds=30).cause is Cause.EVIDENCE


def test_nothing_is_proven_while_the_split_is_not_the_one_set() -> None:
    """Every bet rests on the shares of the traffic: with a split that does not match, strong evidence is not acted upon."""
    world = at_step(1)
    look = Look(world.spec, expand(world.spec), world.state, world.observe(), world.now, Assessment((), 99.0, 3.0, 3.0))
    mismatch = replace(look.assessment, log_split=SPLIT_LOG_LIMIT)
    assert look.assessment.failed
    assert judge(replace(look, assessment=mismatch)) is None


def test_a_moment_of_unreadiness_late_in_preparing_is_no_failure() -> None:
    """Time to become ready is counted from when it was last ready, not from when the preparation began."""
    world = World(make_spec(limits={"preparationSeconds": 5}, baseline={"requests": 100_000}))
    for _ in range(20):
        world.tick()
        world.pass_time(0.5)
    world.candidate_ready = False
    world.tick()
    assert world.state.phase is Phase.PREPARING


def test_a_promoted_candidate_that_dies_before_it_serves_all_is_rolled_back() -> None:
    """Promoting ends, too: a candidate that stays down before it has all the traffic gives way to the stable revision."""
    world = at_step(2, limits={"preparationSeconds": 5})
    world.order(Verb.PROMOTE_FULL)
    world.tick(apply=False)
    assert world.state.phase is Phase.PROMOTING
    world.candidate_ready = False
    for _ in range(20):
        world.tick(apply=world.state.phase is Phase.ROLLING_BACK)
        world.pass_time(1)
    assert (world.state.phase, world.state.verdict, world.state.cause) == (
        Phase.ROLLED_BACK,
        Verdict.FAIL,
        Cause.NOT_READY,
    )


def test_a_stable_revision_replaced_from_outside_holds_and_a_rollback_still_ends() -> None:
    """With another stable revision there is nothing to compare with; a rollback then ends with that one in place."""
    world = at_step(2)
    world.routes = replace(world.routes, stable=RevisionStatus("iris-predictor-00009", "oci://x/iris:9", ready=True))
    world.tick()
    assert world.state.hold is not None
    assert world.state.hold.reason is HoldReason.STABLE_NOT_READY
    world.order(Verb.ROLLBACK)
    assert world.run(seconds=10).phase is Phase.ROLLED_BACK
    assert "replaced from outside" in world.decisions[-1].transitions[0].message


def test_a_limit_extends_once_and_is_never_a_regression() -> None:
    """Without a decision within the limit it is extended once by half, then given back as inconclusive."""
    world = World(make_spec(limits={"maxSeconds": 20}, decision={"promotionAlpha": 1e-300}))
    state = world.run()
    assert (state.phase, state.verdict, state.cause) == (Phase.ROLLED_BACK, Verdict.INCONCLUSIVE, Cause.LIMIT)
    assert [t.rule for d in world.decisions for t in d.transitions].count("extend") == 1
    assert 30 <= (state.decided_at - state.started_at).total_seconds() <= 33  # type: ignore[operator]


def test_an_immediate_rollout_compares_nothing() -> None:
    """All traffic at once when the candidate is ready and answers; no load, no verdict."""
    world = World(make_spec(strategy={"immediate": {}}))
    state = world.run(seconds=20)
    assert (state.phase, state.verdict, state.cause) == (Phase.PROMOTED, None, Cause.NO_COMPARISON)
    assert world.decisions[-1].desired.keep is None
    assert any(d.desired.keep is Arm.CANDIDATE for d in world.decisions)


def test_an_order_after_the_decision_changes_nothing() -> None:
    """Once decided, orders are noted as refused."""
    world = at_step(1)
    world.order(Verb.ROLLBACK)
    world.tick(apply=False)
    world.order(Verb.PROMOTE_FULL)
    decision = world.tick(apply=False)
    assert decision.transitions[0].rule == "refused"
    assert decision.state.phase is Phase.ROLLING_BACK


def test_a_candidate_refused_by_the_platform_is_rolled_back_at_once() -> None:
    """A revision that will not become ready by waiting is not waited for."""
    world = World(make_spec())
    world.tick()
    world.routes = Routes(
        world.routes.stable,
        RevisionStatus("c", world.spec.storage_uri, ready=False, detail="digest", failed=True),
        0,
        "",
    )
    world.tick()
    assert (world.state.phase, world.state.cause) == (Phase.ROLLING_BACK, Cause.NOT_READY)
    assert "digest" in world.state.reason
