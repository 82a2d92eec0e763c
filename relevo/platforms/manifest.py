"""The `InferenceService` YAML (serving.kserve.io/v1beta1) that the cluster takes, read for a platform that is no cluster.

Also the values files of charts/model, each of which says the same of one colour (`colours`). A field that cannot be honoured is refused by
its full path rather than ignored: a manifest that is accepted here means the same there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from relevo import errors
from relevo.platforms.colours import is_values, read_values

__all__ = ["RUNTIME", "InferenceService", "parse_manifests", "read_manifests"]

RUNTIME: Literal["relevo"] = "relevo"
"""The ServingRuntime whose model server this package contains."""

_MAX_NAME = 47
"""Knative adds "-predictor-00001" (16 characters) to the name, and 63 is the limit."""
_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_OURS = {"RELEVO_HOME", "RELEVO_PROGRAM", "PYTHONPATH", "PYTHONUNBUFFERED"}


@dataclass(frozen=True, slots=True)
class InferenceService:
    """What one document asks for."""

    name: str
    namespace: str
    storage_uri: str
    env: Mapping[str, str]
    timeout_seconds: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    colour: str = ""
    """Which of a model's two environments this is; "" where it has no colours."""


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


def _dns_name(limit: int) -> Any:
    def check(value: str) -> str:
        if len(value) > limit or not _LABEL.fullmatch(value):
            raise ValueError(
                f"{value!r} is not a name Kubernetes takes here: 1 to {limit} of a-z, 0-9 and '-', "
                "the first a letter, the last a letter or digit"
            )
        return value

    return pydantic.AfterValidator(check)


class _Metadata(_Strict):
    name: Annotated[str, _dns_name(_MAX_NAME)]
    namespace: Annotated[str, _dns_name(63)] = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Format(_Strict):
    name: Literal["sklearn"]


class _Variable(_Strict):
    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: str = ""

    @pydantic.field_validator("name")
    @classmethod
    def _not_ours(cls, value: str) -> str:
        if value in _OURS:
            raise ValueError(f"{value} is set by the platform itself")
        return value


class _Model(_Strict):
    model_format: _Format = pydantic.Field(alias="modelFormat")
    storage_uri: Annotated[str, pydantic.Field(alias="storageUri", min_length=1)]
    protocol_version: Annotated[Literal["v2"], pydantic.Field(alias="protocolVersion")] = "v2"
    runtime: Literal["relevo"] = RUNTIME
    env: list[_Variable] = []


class _Predictor(_Strict):
    model: _Model
    min_replicas: Annotated[Literal[1], pydantic.Field(alias="minReplicas")] = 1
    max_replicas: Annotated[Literal[1], pydantic.Field(alias="maxReplicas")] = 1
    timeout: Annotated[int, pydantic.Field(gt=0, le=3600)] = 60


class _Spec(_Strict):
    predictor: _Predictor


class _Document(_Strict):
    api_version: Annotated[Literal["serving.kserve.io/v1beta1"], pydantic.Field(alias="apiVersion")]
    kind: Literal["InferenceService"]
    metadata: _Metadata
    spec: _Spec


def read_manifests(path: Path) -> tuple[InferenceService, ...]:
    """The InferenceServices in a file, in its order.

    Raises:
        errors.BadInput: no such file, broken YAML, or anything in it that cannot be honoured.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise errors.BadInput(
            f"{path}: cannot be read: {error.strerror}", next_step="Give the path of an InferenceService manifest."
        ) from error
    except UnicodeDecodeError as error:
        raise errors.BadInput(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    return parse_manifests(text, source=str(path))


def parse_manifests(text: str, *, source: str = "manifest") -> tuple[InferenceService, ...]:
    """The InferenceServices in a text of one or more YAML documents; `source` names the text in messages.

    Raises:
        errors.BadInput: broken YAML, or anything in it that cannot be honoured; the message names document and field.
    """
    services: list[InferenceService] = []
    for number, document in _documents(text, source):
        where = f"{source}, document {number}"
        service = _service(document, where)
        if (service.name, service.colour) in {(one.name, one.colour) for one in services}:
            raise errors.BadInput(
                f"{where}: {service.colour or 'metadata.name'}: a second InferenceService named {service.name}",
                next_step="Give it another name.",
            )
        services.append(service)
    if not services:
        raise errors.BadInput(f"{source}: contains no document", next_step="Give an InferenceService manifest.")
    return tuple(services)


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a key that is given twice is an error, not a surprise."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _documents(text: str, source: str) -> Iterator[tuple[int, Any]]:
    number = 1
    try:
        for document in yaml.load_all(text, Loader=_Loader):
            if document is not None:
                yield number, document
            number += 1
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise errors.BadInput(f"{source}, document {number}{line}: is not YAML: {problem}") from error
    except RecursionError as error:
        raise errors.BadInput(f"{source}, document {number}: is nested too deeply") from error


def _service(document: Any, where: str) -> InferenceService:
    if not isinstance(document, dict):
        raise errors.BadInput(f"{where}: is a {type(document).__name__}, not an InferenceService")
    if is_values(document):
        return _colour(document, where)
    kind = document.get("kind")
    if kind != "InferenceService":
        raise errors.BadInput(
            f"{where}: kind: is {kind!r}, not InferenceService",
            next_step="The local platform takes InferenceServices only.",
        )
    try:
        read = _Document.model_validate(document)
    except pydantic.ValidationError as error:
        raise _refused(error, where, "the manifest") from error
    model = read.spec.predictor.model
    return InferenceService(
        name=read.metadata.name,
        namespace=read.metadata.namespace,
        storage_uri=model.storage_uri,
        env={one.name: one.value for one in model.env},
        timeout_seconds=float(read.spec.predictor.timeout),
        labels=read.metadata.labels,
        annotations=read.metadata.annotations,
    )


def _colour(document: dict[str, Any], where: str) -> InferenceService:
    try:
        values = read_values(document)
    except pydantic.ValidationError as error:
        raise _refused(error, where, "the values file") from error
    name, timeout_seconds = values.model.name, float(values.timeout_seconds)
    return InferenceService(name, "default", values.storage_uri, {}, timeout_seconds, {}, {}, values.colour)


def _refused(error: pydantic.ValidationError, where: str, what: str) -> errors.BadInput:
    complaints = [_complaint(one["type"], one["loc"], one["msg"], one["input"]) for one in error.errors()]
    fields = "these fields" if len(complaints) > 1 else "this field"
    return errors.BadInput("\n".join(f"{where}: {line}" for line in complaints), next_step=f"Mend {fields} in {what}.")


def _complaint(kind: str, location: tuple[int | str, ...], message: str, given: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if path == "spec.predictor.canaryTrafficPercent":
        return f"{path}: relevo sets the weights itself; remove it and use `relevo deploy-canary`"
    match kind:
        case "extra_forbidden":
            return f"{path}: the local platform cannot honour this; remove it or use a cluster"
        case "missing":
            return f"{path}: is missing"
        case "string_type":
            return f"{path}: must be a string, not {given!r} (quote it)"
        case "literal_error":
            return f"{path}: is {given!r}; the local platform takes {message.removeprefix('Input should be ')} only"
        case "value_error":
            return f"{path}: {message.removeprefix('Value error, ')}"
        case _:
            return f"{path}: {message[:1].lower()}{message[1:]}, not {given!r}"
