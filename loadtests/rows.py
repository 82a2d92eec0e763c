"""The rows that are replayed, with their labels: read from a file and made into request bodies once, before any load begins.

Neighbours: `answers` reads what comes back, `v2` sends. The file is a model package's `heldout.npz` (arrays `x` [n, features] and
`y` [n]), or a CSV file with a heading, in which column `y` holds the labels and all others are features.
"""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from relevo.errors import BadInput

__all__ = ["Row", "class_name", "read_rows"]

_AS_WRITTEN = "Give the heldout.npz of a model package, or a CSV file with a heading, a column y and numbers elsewhere."


@dataclass(frozen=True, slots=True)
class Row:
    """One row, ready to send."""

    payload: bytes
    """The end of an HTTP request: its Content-Length header, the empty line, and a V2 body of shape [1, features]."""
    label: str | None
    """The right class, as `class_name` writes it; None where the file has no labels."""


def class_name(value: object) -> str:
    """Write a class label such that equal labels are equal strings: 1, 1.0 and numpy's 1 are all "1"."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def read_rows(path: Path, *, input_name: str, datatype: str = "FP64") -> list[Row]:
    """Read the rows of `path` as V2 requests with one tensor `input_name` of `datatype` (FP32 or FP64).

    Raises `errors.BadInput` for a file that is missing, of another format, without rows, or with other than finite numbers.
    """
    if not path.is_file():
        raise BadInput(f"rows {path}: no such file", next_step=_AS_WRITTEN)
    x, y = _read_csv(path) if path.suffix.lower() == ".csv" else _read_npz(path)
    if x.ndim != 2 or 0 in x.shape:
        raise BadInput(f"rows {path}: x has shape {list(x.shape)}, not [rows, features]", next_step=_AS_WRITTEN)
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise BadInput(f"rows {path}: row {row} holds a number that is not finite", next_step=_AS_WRITTEN)
    if y is not None and y.shape != (len(x),):
        raise BadInput(f"rows {path}: y has shape {list(y.shape)}, not [{len(x)}] as x has rows", next_step=_AS_WRITTEN)
    labels = [None] * len(x) if y is None else [class_name(value) for value in y.tolist()]
    return [
        Row(_payload(values, input_name, datatype), label) for values, label in zip(x.tolist(), labels, strict=True)
    ]


def _payload(values: list[float], input_name: str, datatype: str) -> bytes:
    tensor = {"name": input_name, "shape": [1, len(values)], "datatype": datatype, "data": values}
    body = orjson.dumps({"inputs": [tensor]})
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        # Pickled objects stay off: a file of rows must never run code. Labels that are strings come as fixed-width arrays.
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise BadInput(f"rows {path}: one array instead of an archive with x and y", next_step=_AS_WRITTEN)
        with arrays:
            if "x" not in arrays:
                names = ", ".join(arrays.files) or "nothing"
                raise BadInput(f"rows {path}: has no array x (it has {names})", next_step=_AS_WRITTEN)
            return np.asarray(arrays["x"], dtype=np.float64), arrays.get("y")
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as problem:
        raise BadInput(f"rows {path}: cannot be read ({problem})", next_step=_AS_WRITTEN) from problem


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise BadInput(f"rows {path}: cannot be read ({problem})", next_step=_AS_WRITTEN) from problem
    if len(table) < 2:
        raise BadInput(f"rows {path}: has no rows under its heading", next_step=_AS_WRITTEN)
    heading, lines = [name.strip() for name in table[0]], table[1:]
    at = heading.index("y") if "y" in heading else None
    x: list[list[float]] = []
    for number, line in enumerate(lines, start=2):
        if len(line) != len(heading):
            raise BadInput(f"rows {path}: line {number} has {len(line)} fields, the heading {len(heading)}")
        try:
            x.append([float(field) for column, field in enumerate(line) if column != at])
        except ValueError as problem:
            raise BadInput(f"rows {path}: line {number}: {problem}", next_step=_AS_WRITTEN) from problem
    return np.array(x, dtype=np.float64), None if at is None else np.array([_label(line[at]) for line in lines])


def _label(field: str) -> str:
    """Labels of a CSV file are text; those that are numbers get the same name as the number in an answer."""
    try:
        return class_name(float(field))
    except ValueError:
        return field.strip()
