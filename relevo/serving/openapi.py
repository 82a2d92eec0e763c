"""This server's OpenAPI document, for one revision: `document`. `front` serves it as /openapi.json.

V2's part says what the Open Inference Protocol's own document says, and in addition what this model takes. tests/component/test_openapi.py
holds it against KServe's schema and against the server itself.
"""

from __future__ import annotations

from typing import Any

from relevo.serving import limits
from relevo.serving.revision import Revision

__all__ = ["document"]

Json = dict[str, Any]

_REASONS = {
    "400": "The request is not what the model takes; the reason names the field.",
    "404": "Another model, version or path.",
    "405": "Another method.",
    "408": "The request did not come in time.",
    "413": f"The body is larger than {limits.MAX_BODY_BYTES} bytes.",
    "431": f"The headers are larger than {limits.MAX_HEADER_BYTES} bytes.",
    "500": "The model failed on this input.",
    "503": "Overloaded, or not ready. Of an overload `Retry-After` says when to try again.",
}
_TEXT: Json = {"type": "string"}
_PARAMETERS: Json = {"type": ["object", "null"], "description": "Booleans, numbers and strings by name."}
_SHAPE: Json = {"type": "array", "items": {"type": "integer"}}


def document(revision: Revision) -> Json:
    """OpenAPI 3.1."""
    name, about = revision.name, revision.metadata()
    model = f"/v2/models/{name}"
    paths: Json = {
        "/": {"get": _view("status", "Whether it is alive, for a human.", {"type": "object"})},
        "/v2": {"get": _view("server", "The server's metadata.", _ref("Server"))},
        "/v2/health/live": {"get": _view("live", "Whether the server is alive.", _flag("live"), "503")},
        "/v2/health/ready": {"get": _view("ready", "Whether it takes requests.", _flag("ready"), "503")},
        "/v2/models": {"get": _view("models", "The models: there is one.", _object(models={"type": "array", "items": _TEXT}))},
        "/v1/models": {"get": _view("modelsV1", "The models, by V1.", _object(models={"type": "array", "items": _TEXT}))},
        f"/v1/models/{name}": {"get": _view("modelV1", "Whether the model is ready, by V1.", {"type": "object"}, "503")},
        f"/v1/models/{name}:predict": {"post": _ask("predictV1", "Predict by V1.", "V1Request", "V1Response")},
        "/predict": {"post": _ask("predict", "Predict, as simply as can be.", "SimpleRequest", "SimpleResponse")},
        "/metrics": {"get": {"operationId": "metrics", "summary": "Metrics.", "responses": {"200": {"description": "For Prometheus."}}}},
        "/openapi.json": {"get": _view("openapi", "This document.", {"type": "object"})},
    }  # fmt: skip
    for number, path in enumerate((model, f"{model}/versions/{revision.revision}")):
        suffix = "OfVersion" if number else ""
        paths[path] = {"get": _view(f"model{suffix}", "The model's metadata.", _ref("Model"))}
        paths[f"{path}/ready"] = {
            "get": _view(f"modelReady{suffix}", "Whether the model is ready.", _flag("ready"), "503")
        }
        infer = _ask(f"infer{suffix}", "Infer.", "InferRequest", "InferResponse")
        infer["requestBody"]["content"]["application/octet-stream"] = {
            "schema": {"type": "string", "format": "binary"},
            "description": "JSON, then the bytes of binary tensors; the header inference-header-content-length is the JSON's length.",
        }
        infer["responses"]["200"]["content"]["application/octet-stream"] = {"schema": {}}
        paths[f"{path}/infer"] = {"post": infer}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"relevo model server: {name}", "version": revision.revision},
        "paths": paths,
        "components": {"schemas": _schemas(about)},
        "x-model": about,
    }


def _schemas(about: Json) -> Json:
    takes = ", ".join(f"{item['name']} ({item['datatype']} {item['shape']})" for item in about["inputs"])
    gives = [item["name"] for item in about["outputs"]]
    tensor = {"name": _TEXT, "shape": _SHAPE, "datatype": _TEXT, "parameters": _PARAMETERS}
    data: Json = {"type": "array", "items": {}, "description": "Flat or row by row."}
    described = _object(name=_TEXT, datatype=_TEXT, shape=_SHAPE)
    return {
        "Error": _object(error={"type": "string", "minLength": 1}),
        "Server": _object(name=_TEXT, version=_TEXT, extensions={"type": "array", "items": _TEXT}),
        "Model": _object(
            name=_TEXT, versions={"type": "array", "items": _TEXT}, platform=_TEXT,
            inputs={"type": "array", "items": described}, outputs={"type": "array", "items": described},
        ),
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": ["string", "null"]},
                "parameters": {**_PARAMETERS, "description": "`predict_proba: true` asks for the probabilities as well."},
                "inputs": {
                    "type": "array",
                    "items": {"type": "object", "required": ["name", "shape", "datatype", "data"], "properties": {**tensor, "data": data}},
                    "description": f"This model takes {takes}; of FP64 features in one tensor also one tensor for each, by its name.",
                },
                "outputs": {
                    "type": ["array", "null"],
                    "items": {"type": "object", "required": ["name"], "properties": {"name": _TEXT, "parameters": _PARAMETERS}},
                    "description": f"What to answer, of {gives}.",
                },
            },
        },
        "InferResponse": {
            **_object(
                model_name=_TEXT, model_version=_TEXT, id=_TEXT,
                outputs={
                    "type": "array",
                    "items": {"type": "object", "required": ["name", "shape", "datatype"], "properties": {**tensor, "data": data}},
                },
            ),
        },
        "V1Request": _object(instances={"type": "array", "items": {}}),
        "V1Response": _object(predictions={"type": "array", "items": {}}),
        "SimpleRequest": _object(features={"type": "array", "items": {}, "description": "A row, or rows."}),
        "SimpleResponse": _object(prediction={"description": "A prediction, or one for each row."}),
    }  # fmt: skip


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _flag(name: str) -> Json:
    return _object(**{name: {"type": "boolean"}})


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(*statuses: str) -> Json:
    return {status: _json(_REASONS[status], _ref("Error")) for status in statuses}


def _view(operation: str, summary: str, schema: Json, *errors: str) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": _json("The answer.", schema), **_errors(*errors)},
    }


def _ask(operation: str, summary: str, request: str, answer: str) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}},
        "responses": {"200": _json("The answer.", _ref(answer)), **_errors("400", "408", "413", "431", "500", "503")},
    }
