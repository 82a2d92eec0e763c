"""The blue/green platform against colours on paper: who is what, what is written, and that users are never without a ready colour."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo import errors
from relevo.platforms.blue_green.platform import BlueGreenPlatform, is_ours
from relevo.rollout.observation import Arm
from relevo.rollout.platform import ModelRef, Split
from tests.unit.platforms.blue_green.fake_colours import NAMESPACE, FakeColours, _target, uri

GREEN = ModelRef(uri(2))


def platform(world: FakeColours) -> BlueGreenPlatform:
    """One of a process that has just started: it remembers nothing."""
    return BlueGreenPlatform(NAMESPACE, world)


def prepared() -> FakeColours:
    """Blue serves; green is up and named at 0 %."""
    world = FakeColours.up("blue", "green")
    platform(world).prepare("iris", GREEN)
    platform(world).set_weight("iris", Split(0, "u1/0"))
    world.rest()
    return world


def test_a_model_at_rest_has_no_candidate() -> None:
    """Both colours may be installed: without a rollout the idle one is nobody's candidate."""
    seen = platform(FakeColours.up("blue", "green")).observe("iris")
    assert (seen.stable.storage_uri, seen.stable.ready, seen.candidate, seen.weight_percent) == (uri(1), True, None, 0)


def test_the_way_of_a_rollout() -> None:
    """Named at 0 % with a preview address of its own, then all users, and the old colour out of the Route: no revision is made."""
    world = prepared()
    made = world.made
    seen = platform(world).observe("iris")
    assert seen.candidate is not None
    assert (seen.candidate.ready, seen.weight_percent, seen.label) == (True, 0, "u1/0")
    assert seen.candidate.address == "http://green-iris.team.svc.cluster.local"
    platform(world).set_weight("iris", Split(100, "u1/1"))
    seen = platform(world).observe("iris")
    assert seen.label == "", "the gateway does not route by it yet"
    assert seen.candidate is not None
    assert seen.candidate.ready, "a Route on its way is no reason to take users back"
    world.rest()
    seen = platform(world).observe("iris")
    assert (world.users_reach, seen.stable.storage_uri, seen.label) == ({"green": 100}, uri(1), "u1/1")
    platform(world).settle("iris", Arm.CANDIDATE)
    world.rest()
    seen = platform(world).observe("iris")
    assert (seen.stable.storage_uri, seen.candidate, seen.weight_percent) == (uri(2), None, 0)
    assert not world.colours["blue"].pod, "scaled to zero"
    assert world.made == made


def test_switched_back_leaves_no_trace() -> None:
    """After a rollback the Route is as it was before, and the new colour is scaled to zero."""
    world = prepared()
    platform(world).set_weight("iris", Split(100, "u1/1"))
    world.rest()
    platform(world).settle("iris", Arm.STABLE)
    world.rest()
    seen = platform(world).observe("iris")
    assert (world.users_reach, seen.stable.storage_uri, seen.candidate) == ({"blue": 100}, uri(1), None)
    assert not world.colours["green"].pod


def test_a_colour_is_named_when_it_has_a_ready_revision() -> None:
    """Naming it before would have Knative refuse the whole Route; until then it is a candidate that is starting."""
    world = FakeColours.up("blue")
    world.install("green", uri(2))
    platform(world).prepare("iris", GREEN)
    platform(world).set_weight("iris", Split(0, "u1/0"))
    assert world.route is not None
    assert [t["tag"] for t in world.route["spec"]["traffic"]] == ["blue"]
    routes = platform(world).observe("iris")
    assert routes.candidate is not None
    assert not routes.candidate.ready
    assert routes.label == "", "so that the weight is set again until it is named"
    world.rest()
    platform(world).set_weight("iris", Split(0, "u1/0"))
    world.rest()
    seen = platform(world).observe("iris").candidate
    assert seen is not None
    assert seen.ready


def test_no_traffic_to_an_unready_colour() -> None:
    """A weight above 0, and a promotion, are refused while the colour cannot take requests."""
    world = prepared()
    world.colours["green"].ready = False
    for act in (
        lambda: platform(world).set_weight("iris", Split(100, "u1/1")),
        lambda: platform(world).settle("iris", Arm.CANDIDATE),
    ):
        with pytest.raises(errors.Transient, match="green is not ready"):
            act()
    assert world.users_reach == {"blue": 100}


def test_a_switch_back_by_kubectl_is_seen_and_not_undone() -> None:
    """Whoever patches the percents while no operator is there wins: the rollout is held, and says who it was."""
    world = prepared()
    platform(world).set_weight("iris", Split(100, "u1/1"))
    world.rest()
    world.edit([_target("blue", 100), _target("green", 0)])
    world.rest()
    seen = platform(world).observe("iris")
    assert "percent of green was changed from 100 to 0 by kubectl-patch" in seen.edited
    with pytest.raises(errors.Transient, match="does not change it back"):
        platform(world).set_weight("iris", Split(100, "u1/1"))
    platform(world).settle("iris", Arm.STABLE)
    world.rest()
    assert world.users_reach == {"blue": 100}


def test_a_switch_by_kubectl_at_rest_is_the_new_state() -> None:
    """Outside a rollout the percents say whose the users are, whatever the label says."""
    world = FakeColours.up("blue", "green")
    world.edit([_target("blue", 0), _target("green", 100)])
    world.rest()
    assert platform(world).observe("iris").stable.storage_uri == uri(2)


def test_a_write_that_somebody_else_was_faster_than_is_made_again() -> None:
    """A conflict is no failure: the world is read anew."""
    world = prepared()
    once = [1]

    def somebody() -> None:
        if once:
            once.pop()
            world.version += 1

    world.before_patch = somebody
    platform(world).set_weight("iris", Split(100, "u1/1"))
    world.rest()
    assert world.users_reach == {"green": 100}


@pytest.mark.parametrize(
    ("world", "message", "step"),
    [
        (
            FakeColours(),
            "neither iris-blue nor iris-green is installed",
            "helm upgrade --install iris-blue charts/model",
        ),
        (FakeColours(colours=FakeColours.up("green").colours), "there is no Route iris", "--set active=green"),
    ],
)
def test_what_is_missing_is_said_with_its_command(world: FakeColours, message: str, step: str) -> None:
    """No colour at all, or colours without a way to them: each has its message and its next step."""
    with pytest.raises(errors.BadInput) as caught:
        platform(world).observe("iris")
    assert message in caught.value.message
    assert step in caught.value.next_step


@pytest.mark.parametrize("installed", [None, uri(7)])
def test_a_release_of_another_model_is_waited_for(installed: str | None) -> None:
    """The operator installs nothing: it says what is missing, and goes on when somebody has installed it."""
    world = FakeColours.up("blue")
    if installed:
        world.install("green", installed)
    with pytest.raises(errors.Transient, match=r"green (is not installed|has oci)") as caught:
        platform(world).prepare("iris", GREEN)
    assert "relevo deploy-blue-green" in caught.value.next_step
    assert not world.patches


def test_which_models_have_colours() -> None:
    """A Route over colours is ours; a Route of somebody else's, or none, is not."""
    world = FakeColours.up("blue")
    assert is_ours(world, NAMESPACE, "iris")
    world.edit([{"configurationName": "other", "percent": 100, "tag": "blue"}])
    assert not is_ours(world, NAMESPACE, "iris")


MOVES = {
    "prepare": lambda p: p.prepare("iris", GREEN),
    "zero": lambda p: p.set_weight("iris", Split(0, "u1/0")),
    "all": lambda p: p.set_weight("iris", Split(100, "u1/1")),
    "some": lambda p: p.set_weight("iris", Split(30, "u1/1")),
    "promote": lambda p: p.settle("iris", Arm.CANDIDATE),
    "back": lambda p: p.settle("iris", Arm.STABLE),
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([*MOVES, "rest", "knative", "green fails"]), max_size=14))
def test_never_both_idle_and_never_to_an_unready_colour(moves: list[str]) -> None:
    """Whatever is called in whatever order, and however late Knative is: the percents sum to 100, all of them to ready colours."""
    world = FakeColours.up("blue", "green")
    for move in moves:
        if move == "rest":
            world.rest()
        elif move == "knative":
            world.knative()
        elif move == "green fails":
            world.colours["green"].ready = False
        else:
            before = world.colours["green"].ready
            try:
                MOVES[move](platform(world))
            except errors.RelevoError:
                continue
            assert world.route is not None
            asked = {t["tag"]: t["percent"] for t in world.route["spec"]["traffic"]}
            assert sum(asked.values()) == 100
            if move in ("all", "some"):
                assert before
        assert sum(world.users_reach.values()) == 100
