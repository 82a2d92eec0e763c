"""The two environments of a model, blue and green: their names, and the values files of charts/model read for a platform that has no Helm.

One of them is active, the other idle. A value that cannot be honoured on one machine is refused by its path, as in `manifest`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from relevo import errors

__all__ = ["COLOURS", "TAG_HEADER", "Values", "is_values", "other", "parse_colour", "read_values"]

COLOURS = ("blue", "green")

TAG_HEADER = "knative-serving-tag"
"""Pins a request to a colour, on a cluster and here."""


def other(colour: str) -> str:
    """The colour that is not this one."""
    return COLOURS[1 - COLOURS.index(colour)]


def parse_colour(text: str) -> str:
    """A colour as a user wrote it. Raises `errors.BadInput`."""
    if text not in COLOURS:
        raise errors.BadInput(f"{text}: is no colour", next_step=f"Say {' or '.join(COLOURS)}.")
    return text


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class _Model(_Strict):
    name: Annotated[str, pydantic.Field(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")] = "iris"
    version: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}$")] = "1"
    storage_uri: Annotated[str, pydantic.Field(alias="storageUri")] = ""
    format: Literal["sklearn"] = "sklearn"
    runtime: Literal["relevo"] = "relevo"
    protocol_version: Annotated[Literal["v2"], pydantic.Field(alias="protocolVersion")] = "v2"


class _Scaling(_Strict):
    min_replicas: Annotated[Literal[0, 1], pydantic.Field(alias="minReplicas")] = 1
    max_replicas: Annotated[Literal[1], pydantic.Field(alias="maxReplicas")] = 1
    target_concurrency: Annotated[Literal[0], pydantic.Field(alias="targetConcurrency")] = 0
    container_concurrency: Annotated[Literal[0], pydantic.Field(alias="containerConcurrency")] = 0


class Values(_Strict):
    """What a values file of charts/model may say here. Its `test` is for `helm test` alone."""

    colour: Literal["blue", "green"]
    model: _Model = _Model()
    scaling: _Scaling = _Scaling()
    timeout_seconds: Annotated[int, pydantic.Field(alias="timeoutSeconds", gt=0, le=3600)] = 60
    test: dict[str, Any] = {}

    @property
    def storage_uri(self) -> str:
        """The model, as the chart names it."""
        return self.model.storage_uri or f"oci://dev.local/{self.model.name}:{self.model.version}"


def is_values(document: Any) -> bool:
    """Whether a YAML document is a values file and no manifest."""
    return isinstance(document, dict) and "kind" not in document and "colour" in document


def read_values(document: dict[str, Any]) -> Values:
    """The values of one colour. Raises `pydantic.ValidationError`."""
    return Values.model_validate(document)
