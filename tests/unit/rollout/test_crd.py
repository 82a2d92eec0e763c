"""The CRD says what the pydantic model says, in the words of the API server."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import celpy
import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from relevo.errors import BadInput
from relevo.rollout.crd import crd, crd_text, spec_schema
from relevo.rollout.crd_rules import RULES
from relevo.rollout.spec import RolloutSpec, parse_rollout
from tests.unit.rollout.test_spec import WRONG

CHART_FILE = Path(__file__).parents[3] / "charts" / "relevo" / "files" / "rollouts.relevo.dev.yaml"

RIGHT: list[dict[str, Any]] = [
    {},
    {"paused": True},
    {"strategy": {"canary": {"weights": [1, 2, 100]}}},
    {"strategy": {"canary": {"ramp": {"from": 50, "to": 50}}}},
    {"strategy": {"canary": {"ramp": None, "weights": [7]}}},
    {"strategy": {"immediate": {}}},
    {"strategy": {"blueGreen": {}}},
    {"strategy": {"blueGreen": {"weights": [10, 50], "keepWarmFor": 5}}, "load": {"usersFrom": 0}},
    {"strategy": {"immediate": {}}, "sources": ["locust"], "load": {"usersFrom": 0}},
    {"sources": ["envoy"]},
    {"sources": ["envoy"], "checks": {"predictions": None, "accuracy": None}},
    {"sources": ["locust"], "load": {"usersFrom": 5, "usersTo": 5}},
    {"checks": {"errors": None, "latency": None}},
    {"checks": {"errors": {"gate": False}, "latency": None, "predictions": {"gate": False}}},
    {"checks": {"latency": {"quantiles": [0.5]}}, "shadow": {"enabled": False}},
    {"decision": {"weights": {"errors": 1, "latency": 0, "predictions": 0, "accuracy": 0}}},
    {"tickSeconds": 1},
]


@pytest.mark.parametrize("fields", RIGHT)
def test_what_the_model_takes_the_crd_takes(fields: dict[str, Any]) -> None:
    """A spec that `relevo deploy-canary` takes from a file is not refused by the API server."""
    spec = spec_of(fields)
    parse_rollout(document(spec), where="test")
    assert complaints(spec) == []


@pytest.mark.parametrize(("fields", "where", "message"), WRONG)
def test_what_the_model_refuses_the_crd_refuses(fields: dict[str, Any], where: str, message: str) -> None:
    """A spec that the model refuses, for a field or across fields, is refused before anybody stores it."""
    del where, message
    spec = spec_of(fields)
    with pytest.raises(BadInput):
        parse_rollout(document(spec), where="test")
    if not any(math.isnan(n) or math.isinf(n) for n in numbers(spec)):  # no JSON holds these
        assert complaints(spec)


def test_defaults_are_those_of_the_model() -> None:
    """The API server fills in what the model would have assumed, so that a stored Rollout says all that it means."""
    filled = defaulted(spec_of({}), spec_schema())
    assert RolloutSpec.model_validate(filled) == RolloutSpec.model_validate(spec_of({}))
    full = RolloutSpec.model_validate(spec_of({})).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert filled == full


def test_a_check_set_to_null_stays_null() -> None:
    """Null says that a check is not made; the default must not bring it back."""
    filled = defaulted(spec_of({"checks": {"errors": None}}), spec_schema())
    assert filled["checks"]["errors"] is None
    assert filled["checks"]["latency"]["tolerance"] == 0.25


def test_the_schema_is_structural() -> None:
    """No references, no alternatives, a type at every level, and no `additionalProperties: false`, which Kubernetes refuses."""
    for path, node in nodes(crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "root"):
        assert "type" in node, path
        assert not {"$ref", "anyOf", "oneOf", "allOf", "additionalProperties", "title", "const"} & set(node), path
        if node["type"] == "array":
            assert "items" in node, path


def test_every_field_has_a_description() -> None:
    """`kubectl explain rollout.spec` says something about each field."""
    shares = "spec.decision.weights."  # four shares of one thing, which is described
    silent = [path for path, node in nodes(spec_schema(), "spec") if not node.get("description") and "[]" not in path]
    assert [path for path in silent if not path.startswith(shares)] == []


def test_every_validator_across_fields_has_a_rule() -> None:
    """A new validator of the model needs its rule for the API server."""
    with_validators = {model for model in models(RolloutSpec) if model.__pydantic_decorators__.model_validators}
    assert with_validators == set(RULES)


def test_the_charts_file_is_current() -> None:
    """The chart brings the CRD that this code was tested with."""
    assert CHART_FILE.read_text(encoding="utf-8") == crd_text(), (
        f"run: python -m relevo.rollout.crd > {CHART_FILE.relative_to(CHART_FILE.parents[3])}"
    )
    assert yaml.safe_load(crd_text()) == crd()


def spec_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"target": "iris", "storageUri": "oci://dev.local/iris:2", **fields}


def document(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "relevo.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"}, "spec": spec}


def complaints(spec: dict[str, Any]) -> list[str]:
    """What the API server would say: it prunes nulls, fills defaults in, then asks the schema and, if that is content, the rules."""
    schema = spec_schema()
    filled = defaulted(spec, schema)
    found = [e.message for e in jsonschema.Draft202012Validator(as_json_schema(schema)).iter_errors(filled)]
    return found or list(broken_rules(filled, schema))


def as_json_schema(schema: Any) -> Any:
    """OpenAPI 3.0's words in those of JSON Schema. Unknown fields are refused, as kubectl does."""
    if isinstance(schema, list):
        return [as_json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: as_json_schema(value) for key, value in schema.items()}
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if out.get(exclusive) is True:
            out[exclusive] = out.pop(bound)
    if isinstance(out.get("properties"), dict) and out.get("type") == "object":
        out["additionalProperties"] = False
    if out.pop("nullable", False):
        out["type"] = [out["type"], "null"]
    return out


def defaulted(value: Any, schema: Mapping[str, Any]) -> Any:
    """Prune nulls and fill defaults in as the API server does."""
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    out = {}
    for key, inner in value.items():
        node = schema["properties"].get(key, {})
        if inner is None and not node.get("nullable"):
            continue
        out[key] = defaulted(inner, node)
    for key, node in schema["properties"].items():
        if key not in out and "default" in node:
            out[key] = defaulted(node["default"], node)
    return out


def broken_rules(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """The messages of the CEL rules that a value breaks; transition rules aside."""
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not holds(rule["rule"], value, schema):
            yield rule["message"]
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from broken_rules(inner, schema["properties"][key])


def holds(rule: str, value: Any, schema: Mapping[str, Any]) -> bool:
    return bool(program_of(rule).evaluate({"self": typed(value, schema)}))


@cache
def program_of(rule: str) -> celpy.Runner:
    """A rule, compiled. This CEL cannot ask whether a map is null; `typed` leaves nulls out, so that `has` answers for it."""
    environment = celpy.Environment()
    asked = re.sub(r"\S+ != null", "true", rule)
    return environment.program(environment.compile(asked), functions={"isSorted": is_sorted})


def is_sorted(values: celpy.celtypes.ListType) -> celpy.celtypes.BoolType:
    """Kubernetes' own addition to CEL."""
    return celpy.celtypes.BoolType(list(values) == sorted(values))


def typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """A value as CEL sees it: a number is a double by its schema, however it is written."""
    if schema.get("type") == "number" and value is not None:
        return celpy.celtypes.DoubleType(value)
    if isinstance(value, dict):
        inner = {
            celpy.celtypes.StringType(k): typed(v, schema["properties"][k]) for k, v in value.items() if v is not None
        }
        return celpy.celtypes.MapType(inner)
    if isinstance(value, list):
        return celpy.celtypes.ListType([typed(v, schema["items"]) for v in value])
    return celpy.json_to_cel(value)


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from numbers(inner)


def nodes(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, node
    for key, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{key}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models(kind)
