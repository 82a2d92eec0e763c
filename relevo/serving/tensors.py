"""From a request to an array that the model may see, or to a sentence that says why not. `columns` does it for frames and texts.

Knows nothing of HTTP or gRPC: raises `InvalidRequest`, which both protocols answer as the caller's mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo.packaging.metadata import Metadata
from relevo.serving.columns import columns_from_lists, columns_from_tensors
from relevo.serving.limits import LARGEST_MAGNITUDE, MAX_ROWS
from relevo.serving.refusals import InvalidRequest
from relevo.serving.values import NUMERIC, Tensor, flattened, kind_of, numbers_of, shown

__all__ = ["Tensor", "rows_from_lists", "rows_from_tensors"]

Rows = NDArray[np.float64]


def rows_from_tensors(inputs: Sequence[Tensor], about: Metadata) -> Any:
    """The rows of a V2 request: float64 [rows, features], or what `columns` makes of it for a model of columns or texts.

    Of numbers: either the one input that the package names, of shape [rows, features], or one input per feature, of shape [rows] or
    [rows, 1].

    Raises:
        InvalidRequest: names, shape, type or values are not what the package takes.
    """
    if about.input.kind != "tensor":
        return columns_from_tensors(inputs, about)
    names = [item.name for item in inputs]
    expected, features = about.input.name, about.feature_names
    if names == [expected]:
        rows = _tensor(inputs[0], columns=len(features), holes=_takes_holes(about))
        return _checked(rows, f"input {expected!r}", about)
    if sorted(names, key=str) == sorted(features):
        by_name = {item.name: item for item in inputs}
        columns = [_tensor(by_name[name], columns=1, holes=_takes_holes(about)) for name in features]
        if len({len(column) for column in columns}) > 1:
            raise InvalidRequest(f"inputs: not all have the same number of rows: {[len(column) for column in columns]}")
        return _checked(np.concatenate(columns, axis=1), "inputs", about)
    raise InvalidRequest(f"inputs: have the names {shown(names)}, but this model takes one input called {expected!r}")


def rows_from_lists(value: Any, field: str, about: Metadata) -> Any:
    """The rows of a JSON list of rows, float64 [rows, features] for a model of numbers; `field` names it in messages.

    Raises:
        InvalidRequest: it is no list of lists of as many finite numbers as the model has features, or not what `columns` takes.
    """
    if about.input.kind != "tensor":
        return columns_from_lists(value, field, about)
    features = about.feature_names
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{field}: must be a list of at least one row of {len(features)} numbers")
    if len(value) > MAX_ROWS:
        raise InvalidRequest(f"{field}: has {len(value)} rows, at most {MAX_ROWS} are taken at once")
    rows = np.empty((len(value), len(features)))
    for index, row in enumerate(value):
        if not isinstance(row, list) or len(row) != len(features):
            has = f"has {len(row)} values" if isinstance(row, list) else f"is {kind_of(row)}"
            raise InvalidRequest(f"{field}[{index}]: {has}, but must be a list of {len(features)} numbers")
        rows[index] = numbers_of(row, f"{field}[{index}]", holes=_takes_holes(about))
    return _checked(rows, field, about)


def _takes_holes(about: Metadata) -> bool:
    """Whether numbers may be missing from a row."""
    return any(feature.missing != "no" for feature in about.input.features)


def _tensor(item: Tensor, *, columns: int, holes: bool) -> Rows:
    """One input as float64 [rows, columns]."""
    field = f"input {item.name!r}"
    if item.datatype not in NUMERIC:
        raise InvalidRequest(
            f"{field}: datatype {item.datatype!r} is not numeric; this model takes FP64, FP32 or integers"
        )
    shape = _shape(item, columns, field)
    if item.raw is not None:
        return _raw(item, shape, field)
    flat = flattened(item.data, field)
    if len(flat) != shape[0] * shape[1]:
        raise InvalidRequest(
            f"{field}: has {len(flat)} values, but its shape {list(item.shape)} needs {shape[0] * shape[1]}"
        )
    array = numbers_of(flat, field, holes=holes)
    if not item.datatype.startswith("FP") and not (np.isnan(array) | (array == np.floor(array))).all():
        raise InvalidRequest(f"{field}: datatype {item.datatype} but not all values are whole numbers")
    return array.reshape(shape)


def _shape(item: Tensor, columns: int, field: str) -> tuple[int, int]:
    shape = list(item.shape or ())
    if columns == 1 and len(shape) == 1:
        shape = [*shape, 1]
    if len(shape) != 2 or shape[1] != columns or not isinstance(shape[0], int):
        raise InvalidRequest(f"{field}: has shape {shown(item.shape)}, must be [rows, {columns}]")
    rows = shape[0]
    if rows < 1 or rows > MAX_ROWS:
        raise InvalidRequest(f"{field}: has {rows} rows, must be 1 to {MAX_ROWS}")
    return rows, columns


def _raw(item: Tensor, shape: tuple[int, int], field: str) -> Rows:
    """A tensor that came as bytes."""
    dtype = np.dtype(NUMERIC[item.datatype])
    raw = item.raw or b""
    needed = shape[0] * shape[1] * dtype.itemsize
    if len(raw) != needed:
        raise InvalidRequest(
            f"{field}: has {len(raw)} bytes, but shape {list(shape)} of {item.datatype} needs {needed}"
        )
    return np.frombuffer(raw, dtype=dtype.newbyteorder("<")).reshape(shape).astype(np.float64)


def _checked(rows: Rows, field: str, about: Metadata) -> Rows:
    # One comparison finds nan, infinity and the far too large: all of them compare false.
    fine = np.abs(rows) <= LARGEST_MAGNITUDE
    if fine.all():
        return rows
    if _takes_holes(about):
        fine |= np.isnan(rows) & np.array([feature.missing != "no" for feature in about.input.features])
        if fine.all():
            return rows
    features = about.feature_names
    row, column = (int(index) for index in np.argwhere(~fine)[0])
    value = float(rows[row, column])
    why = (
        "is not finite"
        if not np.isfinite(value)
        else f"is beyond {LARGEST_MAGNITUDE:g}, what the model can compute with"
    )
    raise InvalidRequest(f"{field}: row {row}, feature {features[column]!r}: {value!r} {why}")
