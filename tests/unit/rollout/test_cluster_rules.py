"""What only happens on a cluster: an edit by hand, a first deployment, a stable model that comes back under another name."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from relevo.rollout.commands import Verb
from relevo.rollout.observation import Observation, RevisionStatus, Routes, Smoke
from relevo.rollout.plan import plan
from relevo.rollout.state import Cause, HoldReason, Phase, RolloutState, Verdict, new_state

from .world import CANDIDATE, START, World, make_spec

EDIT = "spec.predictor.canaryTrafficPercent was changed from 5 to 80 by kubectl-edit"


def shifting() -> World:
    """A world at its first step."""
    world = World(make_spec())
    while world.state.phase is not Phase.SHIFTING:
        world.tick()
        world.pass_time(0.5)
    return world


def test_an_edit_by_hand_holds_with_who_did_what_and_is_over_when_undone() -> None:
    """The message says what was changed and how to go on; without the edit the rollout goes on by itself."""
    world = shifting()
    world.routes = replace(world.routes, edited=EDIT, label="")
    world.tick(apply=False)
    hold = world.state.hold
    assert hold is not None
    assert hold.reason is HoldReason.EDITED_BY_HAND
    assert EDIT in hold.message
    assert "relevo rollback" in hold.message
    world.routes = replace(world.routes, edited="")
    world.tick(apply=False)
    assert world.state.hold is None


def test_a_candidate_that_an_edit_put_away_is_not_rolled_back_for_being_gone() -> None:
    """Somebody's storageUri in its place is no failure of the candidate's, however long it stays."""
    world = shifting()
    other = RevisionStatus("iris-predictor-00003", "oci://x/iris:7", ready=False, detail="x", failed=True)
    for _ in range(400):
        world.routes = replace(world.routes, edited=EDIT, label="", candidate=other)
        world.tick(apply=False)
        world.now += timedelta(seconds=0.5)
    assert world.state.phase is Phase.SHIFTING
    assert world.state.hold is not None
    assert world.state.hold.reason is HoldReason.EDITED_BY_HAND


def test_a_human_rolls_an_edited_rollout_back() -> None:
    """An order is obeyed while the rollout is held."""
    world = shifting()
    world.routes = replace(world.routes, edited=EDIT)
    world.tick(apply=False)
    world.order(Verb.ROLLBACK)
    world.tick(apply=False)
    assert world.state.phase is Phase.ROLLING_BACK


BLANK = RevisionStatus("", "", ready=False, detail="this is the first deployment")


def first(routes: Routes, smoke: Smoke | None, state: RolloutState) -> RolloutState:
    """One tick of a first deployment, with silent sources."""
    return plan(make_spec(), state, Observation(routes, (), (), smoke), START + timedelta(seconds=1)).state


def test_a_first_deployment_goes_up_after_its_smoke_test() -> None:
    """With nothing to compare with, and no evidence, the first revision is promoted when it is ready and answers."""
    coming = RevisionStatus("iris-predictor-00001", "oci://x/iris:2", ready=False, detail="it is starting")
    state = first(Routes(BLANK, coming, 0, ""), None, new_state("u1", BLANK, START))
    state = first(Routes(BLANK, coming, 0, ""), None, state)
    assert (state.phase, state.candidate) == (Phase.PREPARING, "iris-predictor-00001")
    up = replace(coming, ready=True, detail="")
    state = first(Routes(up, None, 0, ""), None, state)
    assert state.phase is Phase.PREPARING
    state = first(Routes(up, None, 0, ""), Smoke(10, 0), state)
    assert (state.phase, state.cause) == (Phase.PROMOTING, Cause.NO_COMPARISON)
    assert first(Routes(up, None, 0, ""), None, state).phase is Phase.PROMOTED


def test_a_first_deployment_that_cannot_start_ends() -> None:
    """There is nothing to give traffic back to, and the rollout still ends, with the reason."""
    broken = RevisionStatus(
        "iris-predictor-00001", "oci://x/iris:2", ready=False, detail="ImagePullBackOff", failed=True
    )
    state = new_state("u1", BLANK, START)
    for _ in range(4):
        state = first(Routes(BLANK, broken, 0, ""), None, state)
    assert (state.phase, state.verdict) == (Phase.ROLLED_BACK, Verdict.FAIL)
    assert "ImagePullBackOff" in state.reason


def test_a_stable_model_under_a_new_name_ends_a_rollback() -> None:
    """Where the model is put back into the spec, the same model has another revision: that is no replacement from outside."""
    world = shifting()
    world.order(Verb.ROLLBACK)
    world.tick(apply=False)
    world.users = 0
    stable = replace(world.routes.stable, name="iris-predictor-00003")
    world.routes = Routes(stable, None, 0, "")
    decision = world.tick(apply=False)
    assert decision.state.phase is Phase.ROLLED_BACK
    message = decision.transitions[-1].message
    assert "serves the same model as" in message
    assert "outside" not in message
    assert CANDIDATE not in message
