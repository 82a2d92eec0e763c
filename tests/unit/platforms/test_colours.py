"""The values files of charts/model, read for a platform without Helm."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from relevo.errors import BadInput
from relevo.platforms.colours import COLOURS, other, parse_colour
from relevo.platforms.manifest import parse_manifests, read_manifests

CHART = Path(__file__).parents[3] / "charts" / "model"


@pytest.mark.parametrize("colour", COLOURS)
def test_the_charts_own_values_are_read(colour: str) -> None:
    """The files that Helm installs a colour by say the same here."""
    (service,) = read_manifests(CHART / f"values-{colour}.yaml")
    assert (service.name, service.colour) == ("iris", colour)
    assert service.storage_uri == f"oci://dev.local/iris:{COLOURS.index(colour) + 1}"


def test_what_the_chart_leaves_as_it_is_may_be_said() -> None:
    """The chart's defaults, written out, are no reason to refuse; what needs a cluster is refused by its path."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    honoured = {key: defaults[key] for key in ("colour", "model", "scaling", "timeoutSeconds", "test")}
    (service,) = parse_manifests(yaml.safe_dump(honoured))
    assert service.timeout_seconds == 60
    with pytest.raises(BadInput, match=r"networkPolicy: the local platform cannot honour this") as caught:
        parse_manifests(yaml.safe_dump(defaults))
    assert "resources" in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour: red", "colour: is 'red'"),
        ("{colour: blue, scaling: {maxReplicas: 3}}", "scaling.maxReplicas: is 3"),
        ("{colour: blue, model: {version: 2}}", "model.version: must be a string, not 2"),
        ("{colour: blue, timeoutSeconds: 0}", "timeoutSeconds"),
        ("{colour: blue}\n---\n{colour: blue}", "blue: a second InferenceService named iris"),
    ],
)
def test_wrong_values_are_refused_by_their_path(text: str, message: str) -> None:
    """Each wrong value is named, with what it is."""
    with pytest.raises(BadInput) as caught:
        parse_manifests(text, source="values.yaml")
    assert message in caught.value.message
    assert "values.yaml" in caught.value.message


def test_there_are_two_colours() -> None:
    """Each is the other's other, and nothing else is one."""
    assert [other(other(colour)) for colour in COLOURS] == list(COLOURS)
    with pytest.raises(BadInput, match="red: is no colour") as caught:
        parse_colour("red")
    assert "blue or green" in caught.value.next_step
