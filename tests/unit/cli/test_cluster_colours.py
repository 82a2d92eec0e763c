"""Blue and green from the command line, on a cluster on paper: which colour is installed how, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relevo.cli.cluster_colours import Colours
from relevo.cli.cluster_records import ClusterJournal
from relevo.errors import BadInput
from relevo.platforms.blue_green.helm import Helm, Release
from relevo.rollout.spec import RolloutSpec
from tests.unit.platforms.blue_green.fake_colours import NAMESPACE, FakeColours, uri
from tests.unit.rollout.world import make_spec


class Releases(Helm):
    """Helm on paper: blue was installed with values of its own."""

    def __init__(self, world: FakeColours) -> None:
        super().__init__(NAMESPACE)
        self._world = world
        self.installed: dict[str, Mapping[str, Any]] = {}

    def release(self, name: str) -> Release | None:
        """Blue's."""
        return Release(name, "deployed", {"colour": "blue", "timeoutSeconds": 9}) if name == "iris-blue" else None

    def install(self, name: str, chart: Path, values: Mapping[str, Any]) -> None:
        """The colour serves what the values say."""
        assert (chart / "Chart.yaml").exists()
        self.installed[name] = values
        self._world.install(values["colour"], values["model"]["storageUri"])


def colours_of(world: FakeColours) -> tuple[Colours, Releases]:
    """What is tested, and its Helm."""
    helm = Releases(world)
    return Colours(world, NAMESPACE, helm), helm


def spec(version: int, **strategy: Any) -> RolloutSpec:
    """A Rollout of this version."""
    return make_spec(storageUri=uri(version), strategy=strategy or {"blueGreen": {}})


def test_the_idle_colour_is_installed_with_the_values_of_the_other() -> None:
    """A colour that is not there yet gets what the active one's release was given, with model and colour replaced."""
    world = FakeColours.up("blue")
    colours, helm = colours_of(world)
    colours.install("iris", colours.of("iris"), uri(2))
    model = {"name": "iris", "version": "2", "storageUri": uri(2)}
    assert helm.installed == {"iris-green": {"colour": "green", "timeoutSeconds": 9, "model": model}}


def test_the_same_model_is_not_installed_again() -> None:
    """A colour that serves it already is left alone: no needless revision."""
    world = FakeColours.up("blue", "green")
    colours, helm = colours_of(world)
    colours.install("iris", colours.of("iris"), uri(2))
    assert helm.installed == {}


def test_a_colour_that_somebody_made_by_hand_is_left_alone() -> None:
    """It is named with what to do, and Helm is not asked."""
    world = FakeColours.up("blue")
    world.install("green", uri(5), release="")
    colours, helm = colours_of(world)
    with pytest.raises(BadInput, match="iris-green was installed by hand, with values of its own") as caught:
        colours.install("iris", colours.of("iris"), uri(2))
    assert "kubectl delete inferenceservice iris-green" in caught.value.next_step
    assert helm.installed == {}


def test_a_strategy_that_does_not_fit_is_refused() -> None:
    """The version that users have, a canary over colours, blueGreen without any: each with its next step."""
    colours, _ = colours_of(FakeColours.up("blue", "green"))
    found = colours.of("iris")
    with pytest.raises(BadInput, match=r"blue serves .* already, so green would be the same"):
        colours.check(spec(1), found)
    with pytest.raises(BadInput, match="is served by two colours"):
        colours.check(spec(2, canary={}), found)
    colours.check(spec(2), found)
    colours.check(spec(2, immediate={}), found)
    none, _ = colours_of(FakeColours())
    assert none.of("iris") == {}
    with pytest.raises(BadInput, match="has no colours"):
        none.check(spec(2), {})


def test_where_a_switch_goes() -> None:
    """To the other colour, or the one that is named; not to one that is not installed, nor to red."""
    colours, _ = colours_of(FakeColours.up("blue", "green"))
    found = colours.of("iris")
    for to in (None, "green"):
        wanted = colours.wanted("iris", found, to)
        assert wanted is not None
        assert wanted.storage_uri == uri(2)
    assert colours.wanted("iris", found, "blue") is None
    with pytest.raises(BadInput, match="red: is no colour"):
        colours.wanted("iris", found, "red")
    alone, _ = colours_of(FakeColours.up("blue"))
    with pytest.raises(BadInput, match="green is not installed") as caught:
        alone.wanted("iris", alone.of("iris"), None)
    assert "deploy-blue-green" in caught.value.next_step


def test_a_model_with_colours_is_known_and_shown_before_its_first_rollout() -> None:
    """Its name is no InferenceService's: what is shown is the active colour; another name is none's."""
    world = FakeColours.up("blue", "green")
    journal = ClusterJournal(world, NAMESPACE)
    assert journal.known("iris") == "iris"
    assert journal.idle("iris") == {
        "revision": world.colours["blue"].revision,
        "storageUri": uri(1),
        "ready": True,
        "detail": "",
    }
    with pytest.raises(BadInput, match="no InferenceService wine"):
        journal.known("wine")
