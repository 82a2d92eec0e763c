"""The values of every chart: each documented, each checked, none unknown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.charts.rendered import refusal
from tests.unit.charts.tools import CHARTS

NAMES = sorted(folder.name for folder in CHARTS.iterdir())


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with named properties, by its path."""
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from schemas(inner, f"{path}.{name}")
    for name, inner in schema.get("definitions", {}).items():
        yield from schemas(inner, f"#{name}")


def leaves(
    values: dict[str, Any], schema: dict[str, Any], definitions: dict[str, Any], path: str = ""
) -> Iterator[str]:
    """The paths of the values that the schema does not divide further. A KeyError names a value without a rule."""
    for name, value in values.items():
        inner = schema["properties"][name]
        if "$ref" in inner:
            inner = definitions[inner["$ref"].rpartition("/")[2]]
        if "properties" in inner and name != "resources":
            yield from leaves(value, inner, definitions, f"{path}{name}.")
        else:
            yield f"{path}{name}"


@pytest.fixture(params=NAMES)
def chart(request: pytest.FixtureRequest) -> Path:
    return CHARTS / request.param


def schema_of(chart: Path) -> dict[str, Any]:
    return json.loads((chart / "values.schema.json").read_text())


def paths_of(chart: Path) -> list[str]:
    """The paths of all values."""
    schema = schema_of(chart)
    return list(leaves(yaml.safe_load((chart / "values.yaml").read_text()), schema, schema["definitions"]))


def test_schema_is_strict_everywhere(chart: Path) -> None:
    """Every object of the schema refuses properties that it does not name."""
    loose = [path for path, schema in schemas(schema_of(chart)) if schema.get("additionalProperties") is not False]
    assert loose == []


def test_every_value_has_a_rule(chart: Path) -> None:
    """The schema names every value, and no value that is not there."""
    assert paths_of(chart)
    assert set(schema_of(chart)["properties"]) - {"global"} == set(yaml.safe_load((chart / "values.yaml").read_text()))


def test_every_value_has_a_sentence(chart: Path) -> None:
    """In values.yaml a comment that begins with -- and ends as a sentence stands before every value."""
    lines = (chart / "values.yaml").read_text().splitlines()
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
    assert [path for path in paths_of(chart) if path.split(".")[-1] not in documented] == []


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
        ("access.keysSecret=Keys", "at '/access/keysSecret'"),
        ("access.oidc.issuer=id.example.com", "at '/access/oidc/issuer'"),
        ("access.oidc.issuer=https://id.example.com", "access.oidc.audience is needed beside access.oidc.issuer"),
        ("access.oidc.audience=x", "access.oidc has no issuer"),
        ("access.tls.clientCertificates=true", "access.tls.clientCertificates needs access.tls.secret"),
        ("access.metrics=secret", "at '/access/metrics'"),
        ("access.metrics=closed", "nothing says who may read them"),
        ("access.keys=x", "additional properties 'keys' not allowed"),
        ("nonsense=1", "additional properties 'nonsense' not allowed"),
    ],
)
def test_bad_value_is_refused_by_name(setting: str, said: str) -> None:
    """A value of the wrong name, type or form is refused before anything is rendered, and the message names it."""
    assert said in refusal("relevo", setting)


@pytest.mark.parametrize(
    ("chart", "setting", "said"),
    [
        ("model", "colour=red", "at '/colour'"),
        ("model", "model.version=2", "got number, want string"),
        ("model", "model.name=Iris", "at '/model/name'"),
        ("model", "model.storageUri=iris:2", "at '/model/storageUri'"),
        ("model", "scaling.minReplicas=3", "scaling.minReplicas (3) is above scaling.maxReplicas (1)"),
        ("model", "access.oidc.issuer=https://id.example.com", "access.oidc.audience is needed"),
        ("model", "access.metrics=closed", "nothing says who may read them"),
        ("model", "access.tls.secret=x", "additional properties 'tls' not allowed"),
        ("model", "test.credentialSecret=A", "at '/test/credentialSecret'"),
        ("model-route", "test.credentialSecret=A", "at '/test/credentialSecret'"),
        ("model", "color=blue", "additional properties 'color' not allowed"),
        ("model-route", "active=red", "at '/active'"),
        ("model-route", "otherPercent=101", "at '/otherPercent'"),
        ("model-route", "colours={green}", "active is blue, which is not among the installed colours (green)"),
        ("model-route", "colours=null", "missing property 'colours'"),
    ],
)
def test_bad_colour_is_refused_by_name(chart: str, setting: str, said: str) -> None:
    """The same for the charts of the colours, also where two values do not go together."""
    assert said in refusal(chart, setting)


def test_notes_have_commands(chart: Path) -> None:
    """The notes tell by commands how to see whether all is well; names in them are the templates' own."""
    notes = (chart / "templates/NOTES.txt").read_text()
    commands = [line.strip() for line in notes.splitlines() if re.match(r"  (kubectl|helm) ", line)]
    assert any(command.startswith("helm test {{ .Release.Name }}") for command in commands)
    assert all("{{" in command or "rollouts.relevo.dev" in command for command in commands)
