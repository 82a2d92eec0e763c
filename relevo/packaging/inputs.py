"""What a model takes, told from the rows it was trained on: numbers, a frame of named columns, or texts; and such rows in a file.

`save` uses it to describe and to write, `package` to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo import errors
from relevo.packaging.metadata import Datatype, Feature, Histogram, Input

__all__ = ["from_arrays", "input_of", "to_arrays"]

_HISTOGRAM_BINS = 10


def input_of(x_train: Any, feature_names: tuple[str, ...]) -> Input:
    """The input of a model that was trained on `x_train`: a pandas DataFrame, texts [rows], or numbers [rows, features].

    Raises:
        errors.BadInput: a column holds neither numbers nor truth values nor texts, or there are not as many names as columns.
    """
    if hasattr(x_train, "columns"):
        if feature_names != tuple(x_train.columns):
            raise errors.BadInput(
                f"feature_names: are {list(feature_names)}, but the frame has the columns {list(x_train.columns)}"
            )
        return Input(kind="frame", features=tuple(_column(name, x_train[name]) for name in feature_names))
    x = np.asarray(x_train)
    if x.ndim == 1 and x.dtype.kind in "OU":
        if len(feature_names) != 1:
            raise errors.BadInput(f"feature_names: has {len(feature_names)} names; a model of texts takes one")
        return Input(
            kind="text",
            name=feature_names[0],
            datatype="BYTES",
            features=(Feature(name=feature_names[0], datatype="BYTES"),),
        )
    names_and_columns = zip(feature_names, x.astype(np.float64).T, strict=True)
    return Input(features=tuple(_numbers(name, column) for name, column in names_and_columns))


def _column(name: str, series: Any) -> Feature:
    kind = series.dtype.kind
    if kind in "fiub":
        datatype: Datatype = {"f": "FP64", "b": "BOOL"}.get(kind, "INT64")  # type: ignore[assignment]
        return (
            Feature(name=name, datatype=datatype)
            if datatype == "BOOL"
            else _numbers(name, series.to_numpy(dtype=np.float64), datatype)
        )
    gone = series.isna().to_numpy()
    values = series.to_numpy(dtype=object)
    odd = next((value for value in values[~gone] if not isinstance(value, str)), None)
    if odd is not None:
        raise errors.BadInput(
            f"column {name!r}: holds {odd!r}, of type {type(odd).__name__}",
            next_step="Columns hold numbers, truth values, or texts; convert it before training.",
        )
    nones = any(value is None for value in values[gone])
    return Feature(name=name, datatype="BYTES", missing=("none" if nones else "nan") if gone.any() else "no")


def _numbers(name: str, column: NDArray[np.float64], datatype: Datatype = "FP64") -> Feature:
    present = column[np.isfinite(column)]
    if len(present) == 0:
        return Feature(name=name, datatype=datatype, missing="nan")
    counts, edges = np.histogram(present, bins=_HISTOGRAM_BINS)
    return Feature(
        name=name,
        datatype=datatype,
        missing="nan" if np.isnan(column).any() else "no",
        minimum=float(present.min()),
        maximum=float(present.max()),
        reference=Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist())),
    )


def to_arrays(x: Any, about: Input) -> dict[str, NDArray[Any]]:
    """Rows as arrays for one .npz file, without pickles. A frame becomes one array per column, and one that says what is missing."""
    if about.kind == "tensor":
        return {"x": np.asarray(x, dtype=np.float64)}
    if about.kind == "text":
        return {"x": np.asarray(x, dtype=np.str_)}
    arrays: dict[str, NDArray[Any]] = {}
    for index, feature in enumerate(about.features):
        column = x[feature.name]
        if feature.datatype == "BYTES":
            gone = column.isna().to_numpy()
            arrays[f"missing_{index}"] = gone
            arrays[f"column_{index}"] = np.where(gone, "", column.to_numpy(dtype=object)).astype(np.str_)
        else:
            arrays[f"column_{index}"] = column.to_numpy()
    return arrays


def from_arrays(arrays: Mapping[str, Any], about: Input) -> Any:
    """What `to_arrays` wrote."""
    if about.kind != "frame":
        return arrays["x"]
    import pandas  # type: ignore[import-untyped]

    columns = {}
    for index, feature in enumerate(about.features):
        column = arrays[f"column_{index}"]
        if feature.datatype == "BYTES":
            column = column.astype(object)
            column[arrays[f"missing_{index}"]] = None if feature.missing == "none" else np.nan
        columns[feature.name] = column
    return pandas.DataFrame(columns)
