"""The values of charts/relevo: each documented, each checked, none unknown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.unit.charts.rendered import refusal
from tests.unit.charts.tools import CHARTS

CHART = CHARTS / "relevo"


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with named properties, by its path."""
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from schemas(inner, f"{path}.{name}")
    for name, inner in schema.get("definitions", {}).items():
        yield from schemas(inner, f"#{name}")


def leaves(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of the values that the schema does not divide further."""
    for name, value in values.items():
        inner = schema["properties"][name]
        if "$ref" in inner:
            inner = ROOT_SCHEMA["definitions"][inner["$ref"].rpartition("/")[2]]
        if "properties" in inner and name not in ("resources", "global"):
            yield from leaves(value, inner, f"{path}{name}.")
        else:
            yield f"{path}{name}"


ROOT_SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_schema_is_strict_everywhere() -> None:
    """Every object of the schema refuses properties that it does not name."""
    loose = [path for path, schema in schemas(ROOT_SCHEMA) if schema.get("additionalProperties") is not False]
    assert loose == []


def test_every_value_has_a_rule() -> None:
    """The schema names every value, and no value that is not there."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(ROOT_SCHEMA["properties"]) - {"global"} == set(values)
    assert list(leaves(values, ROOT_SCHEMA))  # a KeyError would name the value without a rule


def test_every_value_has_a_sentence() -> None:
    """In values.yaml a comment that begins with -- and ends as a sentence stands before every value."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    documented = set()
    for index, line in enumerate(lines):
        if line.strip().startswith("# --"):
            block = [line.strip()]
            for below in lines[index + 1 :]:
                if not below.strip().startswith("#"):
                    documented.add(below.strip().split(":")[0])
                    break
                block.append(below.strip())
            assert block[-1].endswith("."), block
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    undocumented = [path for path in leaves(values, ROOT_SCHEMA) if path.split(".")[-1] not in documented]
    assert undocumented == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("watch.namespace=team-a", "additional properties 'namespace' not allowed"),
        ("watch.namespaces={Team_A}", "at '/watch/namespaces/0'"),
        ("watch.namespaces=team-a", "got string, want array"),
        ("watch.namespaces={a,a}", "items at 0 and 1 are equal"),
        ("operator.replicas=two", "got string, want integer"),
        ("operator.replicas=9", "at '/operator/replicas'"),
        ("operator.image.pullPolicy=Sometimes", "at '/operator/image/pullPolicy'"),
        ("operator.image.tag=a:b", "at '/operator/image/tag'"),
        ("operator.resources.limits.memory=lots", "at '/operator/resources/limits/memory'"),
        ("operator.extraArgs={word}", "at '/operator/extraArgs/0'"),
        ("gateway.statsPort=90000", "at '/gateway/statsPort'"),
        ("gateway.podLabels.app=null", "at '/gateway/podLabels'"),
        ("networkPolicy.apiServerCidrs={10.0.0.1}", "at '/networkPolicy/apiServerCidrs/0'"),
        ("runtime.name=Relevo!", "at '/runtime/name'"),
        ("metrics.serviceMonitor.interval=15", "at '/metrics/serviceMonitor/interval'"),
        ("nonsense=1", "additional properties 'nonsense' not allowed"),
    ],
)
def test_bad_value_is_refused_by_name(setting: str, said: str) -> None:
    """A value of the wrong name, type or form is refused before anything is rendered, and the message names it."""
    assert said in refusal("relevo", setting)


def test_notes_name_only_what_is_rendered() -> None:
    """The commands of the notes ask for the objects by the names that the chart gives them."""
    notes = (CHART / "templates/NOTES.txt").read_text()
    commands = [line.strip() for line in notes.splitlines() if re.match(r"  (kubectl|helm) ", line)]
    assert len(commands) >= 5
    for command in commands:
        assert "deployment/" not in command or 'deployment/{{ include "relevo.operator" . }}' in command
