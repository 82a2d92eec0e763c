"""The values of one tensor of a request, before anybody knows what they are for. `tensors` and `columns` are made of these.

Knows nothing of HTTP, gRPC or packages; raises `InvalidRequest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo.serving.refusals import InvalidRequest

__all__ = ["NUMERIC", "Tensor", "flattened", "kind_of", "numbers_of", "shown"]

NUMERIC = {
    "FP16": "f2", "FP32": "f4", "FP64": "f8", "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8",
    "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8",
}  # fmt: skip
"""The V2 datatypes that numbers may come in, and NumPy's names of them."""
_MAX_NESTING = 2


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input as a request gives it, unchecked. Its values are `data`, flat or row by row, or the little-endian bytes `raw`."""

    name: str
    shape: Any
    datatype: str
    data: Any = None
    raw: bytes | None = None


def flattened(data: Any, field: str) -> list[Any]:
    """The values of a tensor that was given flat or row by row."""
    if isinstance(data, np.ndarray):
        return list(data.ravel().tolist())
    if not isinstance(data, list):
        raise InvalidRequest(f"{field}: has no data")
    flat = data
    for _ in range(_MAX_NESTING):
        if not any(isinstance(value, list) for value in flat):
            return flat
        if not all(isinstance(value, list) for value in flat):
            raise InvalidRequest(f"{field}: mixes values and lists")
        flat = [value for inner in flat for value in inner]
    raise InvalidRequest(f"{field}: lists are nested deeper than rows and values")


def numbers_of(values: list[Any], field: str, *, holes: bool = False) -> NDArray[np.float64]:
    """Numbers as float64. With `holes`, null is NaN. JSON's true and "1", which NumPy would take for numbers, are refused."""
    kinds = {type(value) for value in values}
    if holes and type(None) in kinds:
        values = [np.nan if value is None else value for value in values]
        kinds = kinds - {type(None)} | {float}
    if not kinds <= {int, float}:
        for index, value in enumerate(values):
            if type(value) not in (int, float):
                raise InvalidRequest(f"{field}: value {index} is {kind_of(value)}, not a number")
    try:
        return np.array(values, dtype=np.float64)
    except (OverflowError, ValueError):
        raise InvalidRequest(f"{field}: holds a whole number that FP64 cannot") from None


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    names = {str: "a string", bool: "a boolean", type(None): "null", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A value for a message, cut to what a reader takes in."""
    text = "none" if value is None else value if isinstance(value, str) else str(list(value))
    return text if len(text) <= 120 else f"{text[:117]}..."
