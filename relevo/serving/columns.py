"""From a request to a frame of columns or to texts, for models that take those; `tensors` does it for numbers and knows when to ask here.

Raises `InvalidRequest` like `tensors`. A missing value is `null` in JSON; bytes and gRPC have no null, only NaN in numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from relevo.packaging.metadata import Feature, Metadata
from relevo.serving.limits import LARGEST_MAGNITUDE, MAX_ROWS
from relevo.serving.refusals import InvalidRequest
from relevo.serving.values import NUMERIC, Tensor, flattened, kind_of, numbers_of, shown

__all__ = ["columns_from_lists", "columns_from_tensors"]


def columns_from_tensors(inputs: Sequence[Tensor], about: Metadata) -> Any:
    """The rows of a V2 request: a pandas DataFrame, or texts [rows]. Every input has shape [rows] or [rows, 1].

    Raises:
        InvalidRequest: names, shapes, types or values are not what the package takes.
    """
    features = about.input.features
    names = [item.name for item in inputs]
    if sorted(names, key=str) != sorted(feature.name for feature in features):
        raise InvalidRequest(
            f"inputs: have the names {shown(names)}, but this model takes {shown([f.name for f in features])}"
        )
    by_name = {item.name: item for item in inputs}
    columns = {feature.name: _values(by_name[feature.name], feature) for feature in features}
    return _rows(columns, about)


def columns_from_lists(value: Any, field: str, about: Metadata) -> Any:
    """The same from a JSON list of rows: objects by column, or lists in the order of the columns; of a model of texts, texts."""
    features = about.input.features
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{field}: must be a list of at least one row")
    if len(value) > MAX_ROWS:
        raise InvalidRequest(f"{field}: has {len(value)} rows, at most {MAX_ROWS} are taken at once")
    if about.input.kind == "text":
        return _rows({features[0].name: _typed(value, features[0], field)}, about)
    names = [feature.name for feature in features]
    lists = []
    for index, row in enumerate(value):
        if isinstance(row, dict) and set(row) == set(names):
            lists.append([row[name] for name in names])
        elif isinstance(row, list) and len(row) == len(names):
            lists.append(row)
        else:
            raise InvalidRequest(f"{field}[{index}]: must be an object with {shown(names)}, or a list of their values")
    columns = {f.name: _typed([row[i] for row in lists], f, f"{field}: {f.name}") for i, f in enumerate(features)}
    return _rows(columns, about)


def _rows(columns: dict[str, Any], about: Metadata) -> Any:
    if len({len(column) for column in columns.values()}) > 1:
        raise InvalidRequest(
            f"inputs: not all have the same number of rows: {[len(column) for column in columns.values()]}"
        )
    if about.input.kind == "text":
        return columns[about.input.features[0].name]
    import pandas  # type: ignore[import-untyped]

    return pandas.DataFrame(columns, copy=False)


def _values(item: Tensor, feature: Feature) -> Any:
    """One input as an array [rows]."""
    field = f"input {item.name!r}"
    right = item.datatype in NUMERIC if feature.datatype in ("FP64", "INT64") else item.datatype == feature.datatype
    if not right:
        raise InvalidRequest(f"{field}: has datatype {shown(item.datatype)}, must be {feature.datatype}")
    shape = list(item.shape or ())
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]) or not isinstance(shape[0], int):
        raise InvalidRequest(f"{field}: has shape {shown(item.shape)}, must be [rows] or [rows, 1]")
    rows = shape[0]
    if not 1 <= rows <= MAX_ROWS:
        raise InvalidRequest(f"{field}: has {rows} rows, must be 1 to {MAX_ROWS}")
    if item.raw is not None:
        values = _from_raw(item, rows, field)
    else:
        values = flattened(item.data, field)
        if len(values) != rows:
            raise InvalidRequest(f"{field}: has {len(values)} values, but its shape {shape} needs {rows}")
    return _typed(values, feature, field)


def _typed(values: list[Any], feature: Feature, field: str) -> Any:
    """The values in the type that the model was trained on."""
    match feature.datatype:
        case "BYTES":
            return _texts(values, feature, field)
        case "BOOL":
            return np.array(_all(values, field, bool, "true or false"), np.bool_)
        case _:
            return _numbers(values, feature, field)


def _numbers(values: list[Any], feature: Feature, field: str) -> Any:
    found = numbers_of(values, field, holes=feature.missing != "no")
    bad = np.abs(found) > LARGEST_MAGNITUDE
    if feature.missing == "no":
        bad |= np.isnan(found)
    if bad.any():
        index = int(bad.argmax())
        raise InvalidRequest(
            f"{field}: value {index}: {float(found[index])!r} is not finite or beyond {LARGEST_MAGNITUDE:g}"
        )
    if feature.datatype == "FP64":
        return found
    if not (np.isnan(found) | (found == np.floor(found))).all():
        raise InvalidRequest(f"{field}: not all values are whole numbers")
    try:
        # From the values themselves: float64 does not hold every whole number that int64 does.
        return np.array([int(value) for value in values], np.int64)
    except OverflowError:
        raise InvalidRequest(f"{field}: holds a whole number that INT64 cannot") from None
    except (TypeError, ValueError):  # one is missing, which an integer cannot be
        return found


def _texts(values: list[Any], feature: Feature, field: str) -> Any:
    found = np.empty(len(values), object)
    hole = None if feature.missing == "none" else np.nan
    for index, value in enumerate(values):
        if value is None and feature.missing != "no":
            found[index] = hole
        else:
            found[index] = _text(value, f"{field}: value {index}")
    return found


def _text(value: Any, field: str) -> str:
    try:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str):
            if not value.isascii():
                value.encode()  # JSON can spell lone surrogates, which are no text
            return value
    except UnicodeError:
        raise InvalidRequest(f"{field} is not valid Unicode") from None
    raise InvalidRequest(f"{field} is {kind_of(value)}, not a string")


def _all(values: list[Any], field: str, kind: type, name: str) -> list[Any]:
    for index, value in enumerate(values):
        if type(value) is not kind:
            raise InvalidRequest(f"{field}: value {index} is {kind_of(value)}, not {name}")
    return values


def _from_raw(item: Tensor, rows: int, field: str) -> list[Any]:
    """The values of a tensor that came as bytes; a text is its length in four bytes, then its UTF-8."""
    raw = item.raw or b""
    if item.datatype != "BYTES":
        dtype = np.dtype(NUMERIC.get(item.datatype, "?")).newbyteorder("<")
        if len(raw) != rows * dtype.itemsize:
            raise InvalidRequest(
                f"{field}: has {len(raw)} bytes, but {rows} rows of {item.datatype} need {rows * dtype.itemsize}"
            )
        return list(np.frombuffer(raw, dtype).tolist())
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) < rows:
        length = int.from_bytes(raw[at : at + 4], "little")
        found.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(raw) or len(found) != rows:
        raise InvalidRequest(f"{field}: its {len(raw)} bytes are not {rows} strings with their lengths")
    return found
