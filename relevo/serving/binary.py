"""V2 requests with binary tensors: a JSON header, then the tensors' bytes. Checked before KServe cuts them apart.

KServe checks JSON requests against its schema but takes the header of a binary one as it comes, and trusts the lengths in it. The
format: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/binary_data_extension.md
"""

from __future__ import annotations

from kserve.protocol.rest.v2_datamodels import InferenceRequest, RequestInput
from pydantic import ValidationError

from relevo.serving.refusals import InvalidRequest

__all__ = ["LENGTH_HEADER", "check_binary_request"]

LENGTH_HEADER = "inference-header-content-length"


class _Input(RequestInput):  # type: ignore[misc]
    """An input whose data may follow as bytes."""

    data: list | None = None  # type: ignore[type-arg]  # KServe's own field is an untyped list


class _Header(InferenceRequest):  # type: ignore[misc]
    inputs: list[_Input]


def check_binary_request(body: bytes, headers: dict[str, str]) -> None:
    """Raise InvalidRequest unless the header is a V2 request and all lengths agree with the body's."""
    text = headers.get(LENGTH_HEADER)
    if text is None:
        raise InvalidRequest(
            f"body: JSON needs the header content-type: application/json, binary tensors need the header {LENGTH_HEADER}"
        )
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:12]) <= len(body):
        raise InvalidRequest(
            f"{LENGTH_HEADER}: is {text[:40]!r}, must be a number from 1 to the body's length, {len(body)}"
        )
    length = int(text[:12])
    try:
        header = _Header.model_validate_json(body[:length])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or f"the first {length} bytes of the body"
        raise InvalidRequest(f"{place}: {first['msg']}") from None
    sizes = 0
    for index, item in enumerate(header.inputs):
        if item.data is None:
            sizes += _declared_size(item, f"inputs.{index}")
    if sizes != len(body) - length:
        raise InvalidRequest(
            f"body: {len(body) - length} bytes follow the JSON, but the inputs' binary_data_size add up to {sizes}"
        )


def _declared_size(item: _Input, place: str) -> int:
    size = (item.parameters or {}).get("binary_data_size")
    if size is None:
        raise InvalidRequest(f"{place}: has neither data nor the parameter binary_data_size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidRequest(f"{place}.parameters.binary_data_size: is {size!r}, must be a number of bytes")
    return size
