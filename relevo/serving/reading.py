"""V2 requests over REST as `fast` reads them: the shapes that JSON may have, and the bytes of tensors that follow it.

Whatever is unusual is None here, for KServe's application to judge. Headers come first: `json_length` says whether a request is one for
the fast path at all, and where its JSON ends.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from relevo.serving.values import Tensor

__all__ = ["LENGTH_HEADER", "Request", "flat_numbers", "json_length", "nested_numbers", "tensors_of", "values"]

LENGTH_HEADER = b"inference-header-content-length"
_JSON = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_UNUSUAL = frozenset({b"ce-specversion", b"content-encoding"})
_SIZE = "binary_data_size"

T = TypeVar("T")
Scalar = str | int | float | bool | None


class _Numbers(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]
    parameters: dict[str, Any] | None = None


class _NestedNumbers(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[list[float]]
    parameters: dict[str, Any] | None = None


class _Values(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[Scalar] | None = None
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] | None = None


class Request(msgspec.Struct, Generic[T], forbid_unknown_fields=True):
    """A V2 request whose inputs are of one shape."""

    inputs: list[T]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None

    def listed(self) -> list[tuple[str, dict[str, Any] | None]] | None:
        """The names and parameters of the outputs that it lists."""
        return [(output.name, output.parameters) for output in self.outputs] if self.outputs else None


flat_numbers = msgspec.json.Decoder(Request[_Numbers]).decode
nested_numbers = msgspec.json.Decoder(Request[_NestedNumbers]).decode
values = msgspec.json.Decoder(Request[_Values]).decode
"""Decoders: one tensor of numbers, flat or row by row, and inputs of any values, whose bytes may follow the JSON."""


def tensors_of(request: Request[_Values], raw: memoryview, *, binary: bool) -> list[Tensor] | None:
    """The inputs, with their share of the bytes `raw` that follow the JSON of a `binary` request."""
    tensors, at = [], 0
    for item in request.inputs:
        if item.data is not None:
            if item.parameters or item.datatype == "FP16":
                return None
            tensors.append(Tensor(item.name, item.shape, item.datatype, item.data))
            continue
        parameters = item.parameters or {}
        size = parameters.get(_SIZE)
        if not binary or len(parameters) != 1 or type(size) is not int or size < 0:
            return None
        tensors.append(Tensor(item.name, item.shape, item.datatype, raw=bytes(raw[at : at + size])))
        at += size
    return tensors if at == len(raw) else None


def json_length(headers: list[tuple[bytes, bytes]], largest: int) -> int | None:
    """0 for a body of JSON, the length of the JSON for one that tensors follow; None if the headers say anything out of the ordinary."""
    kind = length = None
    for name, value in headers:
        if name == b"content-type":
            if kind is not None:
                return None
            kind = value
        elif name == LENGTH_HEADER:
            if length is not None or not value.isdigit() or len(value) > 12:
                return None
            length = int(value)
        elif name in _UNUSUAL or (name == b"content-length" and int(value) > largest):
            return None
    if length is None:
        return 0 if kind is not None and kind.lower() in _JSON else None
    return length if length > 0 and kind == b"application/octet-stream" else None
