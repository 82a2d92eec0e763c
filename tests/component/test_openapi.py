"""The OpenAPI document that a real server serves: held against the protocol's, and against the server by requests made from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from kserve.protocol.rest.v2_datamodels import InferenceRequest, InferenceResponse
from model_server import REVISION, ROW, Server, serving, trained
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from relevo.packaging import load_package
from relevo.serving.application import build
from relevo.serving.openapi import document
from relevo.serving.revision import Revision

pytestmark = pytest.mark.component

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
RIGHT: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}
PROTOCOL = {
    ("get", "/v2"): ["name", "version", "extensions"],
    ("get", "/v2/health/live"): [],
    ("get", "/v2/health/ready"): [],
    ("get", "/v2/models/iris"): ["name", "platform"],
    ("get", "/v2/models/iris/ready"): [],
    ("get", f"/v2/models/iris/versions/{REVISION}"): ["name", "platform"],
    ("get", f"/v2/models/iris/versions/{REVISION}/ready"): [],
    ("post", "/v2/models/iris/infer"): ["model_name", "outputs"],
    ("post", f"/v2/models/iris/versions/{REVISION}/infer"): ["model_name", "outputs"],
}
"""What the Open Inference Protocol's own document asks of a server: the paths, and what their answers must have."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model."""
    return trained(tmp_path_factory.mktemp("iris") / "1", "--trees", "4").folder


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[Server]:
    """It, served."""
    with serving(package) as running:
        yield running


@pytest.fixture(scope="module")
def said(server: Server) -> dict[str, Any]:
    """The document that the server serves."""
    found = httpx.get(f"{server.url}/openapi.json", timeout=60, verify=False)
    assert found.status_code == 200
    return found.json()  # type: ignore[no-any-return]


def resolved(said: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of the document, or the one that it refers to, as one that stands alone."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return {**(said["components"]["schemas"][name] if name else schema), "components": said["components"]}


def test_it_has_all_that_the_protocol_has(said: dict[str, Any]) -> None:
    """Every path of the Open Inference Protocol, with what its answers must have; errors are objects with a reason."""
    for (method, path), required in PROTOCOL.items():
        operation = said["paths"][path][method]
        schema = resolved(said, operation["responses"]["200"]["content"]["application/json"]["schema"])
        assert set(required) <= set(schema["required"]), path
        for status, answer in operation["responses"].items():
            if status != "200":
                assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}


REQUESTS: list[dict[str, Any]] = [
    RIGHT,
    {**RIGHT, "id": "7"},
    {**RIGHT, "outputs": [{"name": "predict"}]},
    {**RIGHT, "parameters": {"a": 1}},
    {},
    {"inputs": 3},
    {"inputs": [3]},
    {"inputs": [{"name": "x"}]},
    {**RIGHT, "id": 7},
    {**RIGHT, "outputs": [{}]},
    {**RIGHT, "outputs": 3},
    {**RIGHT, "parameters": []},
    {"inputs": [{**RIGHT["inputs"][0], "shape": ["a"]}]},
    {"inputs": [{**RIGHT["inputs"][0], "name": 3}]},
    {"inputs": [{**RIGHT["inputs"][0], "data": 3}]},
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_it_takes_for_a_request_what_kserve_does(said: dict[str, Any], request_: dict[str, Any]) -> None:
    """KServe's model of a V2 request is the oracle."""
    ours = jsonschema.Draft202012Validator(resolved(said, {"$ref": "InferRequest"})).is_valid(request_)
    try:
        InferenceRequest.model_validate(request_, strict=True)
        theirs = True
    except ValueError:
        theirs = False
    assert ours == theirs


def test_answers_are_what_it_says_and_what_kserve_expects(server: Server, said: dict[str, Any]) -> None:
    """A prediction, and each view, fit their schemas; KServe's model of an answer takes it too."""
    answer = httpx.post(f"{server.url}/v2/models/iris/infer", json=RIGHT, timeout=60, verify=False).json()
    jsonschema.validate(answer, resolved(said, {"$ref": "InferResponse"}))
    InferenceResponse.model_validate(answer)
    for path, operations in said["paths"].items():
        content = operations.get("get", {"responses": {"200": {}}})["responses"]["200"].get("content")
        if content is not None:
            found = httpx.get(server.url + path, timeout=60, verify=False)
            assert found.status_code == 200, path
            jsonschema.validate(found.json(), resolved(said, content["application/json"]["schema"]))


def test_it_names_every_path_that_the_application_has(package: Path) -> None:
    """What KServe's application registers and this server offers is in the document."""
    revision = Revision("iris", load_package(package), REVISION)
    revision.load()
    known = {
        path.replace("iris", "{model_name}").replace(REVISION, "{model_version}")
        for path in document(revision)["paths"]
    }
    offered = {route.path for route in build(revision).routes if hasattr(route, "methods")}  # type: ignore[attr-defined]
    refused = {path for path in offered if any(word in path for word in ("repository", "explain", "load"))}
    assert offered - refused <= known


def test_requests_made_from_it_are_answered_as_it_says(server: Server, said: dict[str, Any]) -> None:
    """schemathesis makes requests from the document: no 5xx, no status, type or shape that it does not name."""
    schema = schemathesis.openapi.from_dict(said)
    schema.config.update(base_url=server.url)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == len(said["paths"])
    asked = 0
    for operation in operations:

        @settings(
            max_examples=40,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(checks=CHECKS, timeout=60)

        ask()
    assert asked > 150
