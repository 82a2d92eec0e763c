"""From a request to an array that the model may see, or to a sentence that says why not.

Knows nothing of HTTP or gRPC: raises `InvalidRequest`, which both protocols answer as the caller's mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo.packaging.metadata import Metadata
from relevo.serving.limits import LARGEST_MAGNITUDE, MAX_ROWS
from relevo.serving.refusals import InvalidRequest

__all__ = ["NUMERIC", "Tensor", "rows_from_lists", "rows_from_tensors"]

NUMERIC = frozenset({"FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
"""The V2 datatypes that rows may come in."""
_MAX_NESTING = 2

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input as a request gives it, unchecked. Its values are `data`, flat or row by row, or the little-endian bytes `raw`."""

    name: str
    shape: Any
    datatype: str
    data: Any = None
    raw: bytes | None = None


def rows_from_tensors(inputs: Sequence[Tensor], about: Metadata) -> Rows:
    """The rows of a V2 request, float64 [rows, features].

    Either the one input that the package names, of shape [rows, features], or one input per feature, of shape [rows] or [rows, 1].

    Raises:
        InvalidRequest: names, shape, type or values are not what the package takes.
    """
    names = [item.name for item in inputs]
    expected, features = about.input.name, about.feature_names
    if names == [expected]:
        return _checked(_tensor(inputs[0], columns=len(features)), f"input {expected!r}", features)
    if sorted(names) == sorted(features):
        by_name = {item.name: item for item in inputs}
        columns = [_tensor(by_name[name], columns=1) for name in features]
        if len({len(column) for column in columns}) > 1:
            raise InvalidRequest(f"inputs: not all have the same number of rows: {[len(column) for column in columns]}")
        return _checked(np.concatenate(columns, axis=1), "inputs", features)
    raise InvalidRequest(f"inputs: have the names {_shown(names)}, but this model takes one input called {expected!r}")


def rows_from_lists(value: Any, field: str, about: Metadata) -> Rows:
    """The rows of a JSON list of rows, float64 [rows, features]; `field` names it in messages.

    Raises:
        InvalidRequest: it is no list of lists of as many finite numbers as the model has features.
    """
    features = about.feature_names
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{field}: must be a list of at least one row of {len(features)} numbers")
    if len(value) > MAX_ROWS:
        raise InvalidRequest(f"{field}: has {len(value)} rows, at most {MAX_ROWS} are taken at once")
    for index, row in enumerate(value):
        if not isinstance(row, list) or len(row) != len(features):
            has = f"has {len(row)} values" if isinstance(row, list) else f"is {_kind(row)}"
            raise InvalidRequest(f"{field}[{index}]: {has}, but must be a list of {len(features)} numbers")
        _check_numbers(row, f"{field}[{index}]")
    return _checked(_to_float64(value, field), field, features)


def _tensor(item: Tensor, *, columns: int) -> Rows:
    """One input as float64 [rows, columns]."""
    field = f"input {item.name!r}"
    if item.datatype not in NUMERIC:
        raise InvalidRequest(
            f"{field}: datatype {item.datatype!r} is not numeric; this model takes FP64, FP32 or integers"
        )
    shape = _shape(item, columns, field)
    if item.raw is not None:
        return _raw(item, shape, field)
    flat = _flatten(item.data, field)
    if len(flat) != shape[0] * shape[1]:
        raise InvalidRequest(
            f"{field}: has {len(flat)} values, but its shape {list(item.shape)} needs {shape[0] * shape[1]}"
        )
    _check_numbers(flat, field)
    array = _to_float64(flat, field)
    if not item.datatype.startswith("FP") and not (array == np.floor(array)).all():
        raise InvalidRequest(f"{field}: datatype {item.datatype} but not all values are whole numbers")
    return array.reshape(shape)


def _shape(item: Tensor, columns: int, field: str) -> tuple[int, int]:
    shape = list(item.shape or ())
    if columns == 1 and len(shape) == 1:
        shape = [*shape, 1]
    if len(shape) != 2 or shape[1] != columns:
        raise InvalidRequest(f"{field}: has shape {_shown(item.shape)}, must be [rows, {columns}]")
    rows = shape[0]
    if rows < 1 or rows > MAX_ROWS:
        raise InvalidRequest(f"{field}: has {rows} rows, must be 1 to {MAX_ROWS}")
    return rows, columns


def _raw(item: Tensor, shape: tuple[int, int], field: str) -> Rows:
    """A tensor that came as bytes."""
    dtype = np.dtype({"FP": "f", "IN": "i", "UI": "u"}[item.datatype[:2]] + str(_bits(item.datatype) // 8))
    raw = item.raw or b""
    needed = shape[0] * shape[1] * dtype.itemsize
    if len(raw) != needed:
        raise InvalidRequest(
            f"{field}: has {len(raw)} bytes, but shape {list(shape)} of {item.datatype} needs {needed}"
        )
    return np.frombuffer(raw, dtype=dtype.newbyteorder("<")).reshape(shape).astype(np.float64)


def _bits(datatype: str) -> int:
    return int("".join(character for character in datatype if character.isdigit()))


def _flatten(data: Any, field: str) -> list[Any]:
    """The values of a tensor that was given flat or row by row."""
    if isinstance(data, np.ndarray):
        return data.ravel().tolist()
    if not isinstance(data, list):
        raise InvalidRequest(f"{field}: has no data")
    flat = data
    for _ in range(_MAX_NESTING):
        if not any(isinstance(value, list) for value in flat):
            return flat
        if not all(isinstance(value, list) for value in flat):
            raise InvalidRequest(f"{field}: mixes numbers and lists")
        flat = [value for inner in flat for value in inner]
    raise InvalidRequest(f"{field}: lists are nested deeper than rows and values")


def _check_numbers(values: list[Any], field: str) -> None:
    # JSON's true, null and "1" would become 1.0, nan and 1.0 in numpy: what is no number is refused instead.
    if {type(value) for value in values} <= {int, float}:
        return
    for index, value in enumerate(values):
        if type(value) not in (int, float):
            raise InvalidRequest(f"{field}: value {index} is {_kind(value)}, not a number")


def _to_float64(values: list[Any], field: str) -> Rows:
    try:
        return np.array(values, dtype=np.float64)
    except (OverflowError, ValueError):
        raise InvalidRequest(f"{field}: holds a whole number that FP64 cannot") from None


def _checked(rows: Rows, field: str, features: tuple[str, ...]) -> Rows:
    # One comparison finds nan, infinity and the far too large: all of them compare false.
    fine = np.abs(rows) <= LARGEST_MAGNITUDE
    if fine.all():
        return rows
    row, column = (int(index) for index in np.argwhere(~fine)[0])
    value = float(rows[row, column])
    why = (
        "is not finite"
        if not np.isfinite(value)
        else f"is beyond {LARGEST_MAGNITUDE:g}, what the model can compute with"
    )
    raise InvalidRequest(f"{field}: row {row}, feature {features[column]!r}: {value!r} {why}")


def _kind(value: Any) -> str:
    names = {str: "a string", bool: "a boolean", type(None): "null", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    text = str(list(value)) if value is not None else "none"
    return text if len(text) <= 120 else f"{text[:117]}..."
