"""What a revision takes and answers, as V2 names it: one description for REST, gRPC, the metadata and the metrics.

Made from a package's metadata. `Schema.wanted` reads which outputs a request asks for, `Schema.array` gives an output its type and shape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo.packaging.metadata import Metadata
from relevo.serving.refusals import InvalidRequest

__all__ = ["PREDICT_OUTPUT", "PROBABILITY_OUTPUT", "Output", "Schema", "Wanted"]

PREDICT_OUTPUT = "predict"
PROBABILITY_OUTPUT = "predict_proba"
_ANY = "any"
"""What predictions are counted as that have neither classes nor edges."""
_DTYPES: dict[str, Any] = {"INT64": np.int64, "FP64": np.float64, "BYTES": np.object_}


@dataclass(frozen=True, slots=True)
class Output:
    """One output: its shape is [rows, *tail]."""

    name: str
    datatype: str
    tail: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a request asks for, and whether its values are to follow the JSON as bytes."""

    name: str
    binary: bool = False


class Schema:
    """The inputs, outputs and counted labels of one package."""

    def __init__(self, about: Metadata) -> None:
        classes = [*about.classes, *(c for each in about.target_classes for c in each)]
        kind = "FP64" if about.task == "regression" else "BYTES" if isinstance(classes[0], str) else "INT64"
        width = len(about.targets)
        self.width = width
        """Values of `predict` per row where there are several outputs, else 0."""
        self.predict = Output(PREDICT_OUTPUT, kind, (width,) if width else ())
        self.outputs: tuple[Output, ...] = (self.predict,)
        if about.probabilities and about.task == "classification":
            tail = (len(about.classes),) if not width else (width, len(about.target_classes[0]))
            self.outputs += (Output(PROBABILITY_OUTPUT, "FP64", tail),)
        self._names = frozenset(output.name for output in self.outputs)
        self._edges = about.value_edges
        self.labels: tuple[int | str, ...] = about.classes or _between(self._edges)
        """What predictions are counted by: a class, or for a regressor an interval of its values."""
        self.inputs: tuple[dict[str, Any], ...] = _inputs(about)

    def metadata(self) -> dict[str, Any]:
        """The inputs and outputs of V2's metadata."""
        outputs = [{"name": o.name, "datatype": o.datatype, "shape": [-1, *o.tail]} for o in self.outputs]
        return {"inputs": list(self.inputs), "outputs": outputs}

    def wanted(
        self, listed: Sequence[tuple[str, Mapping[str, Any] | None]] | None, parameters: Mapping[str, Any] | None
    ) -> tuple[Wanted, ...]:
        """The outputs to answer: those that the request lists, else `predict`, and the probabilities if its parameter asks for them.

        `listed` has names and parameters; one that is listed twice is there once. Raises InvalidRequest.
        """
        binary = _flag(parameters, "binary_data_output", "parameters")
        if listed:
            found: dict[str, Wanted] = {}
            for name, own in listed:
                if name not in self._names:
                    raise InvalidRequest(f"outputs: {name!r} is not one of {sorted(self._names)}")
                found[name] = Wanted(name, _flag(own, "binary_data", f"outputs: {name}", binary))
            return tuple(found.values())
        plain = Wanted(PREDICT_OUTPUT, binary)
        if not _flag(parameters, PROBABILITY_OUTPUT, "parameters"):
            return (plain,)
        if PROBABILITY_OUTPUT not in self._names:
            raise InvalidRequest(f"parameters: {PROBABILITY_OUTPUT} is true, but this model has no probabilities")
        return (plain, Wanted(PROBABILITY_OUTPUT, binary))

    def listed(self, values: NDArray[Any]) -> list[Any]:
        """What the model predicted, as Python values, flat: ints, floats or strings, whatever NumPy type the model has."""
        if self.predict.datatype == "INT64" and values.dtype.kind not in "iu":
            values = values.astype(np.int64)
        elif self.predict.datatype == "FP64" and values.dtype.kind != "f":
            values = values.astype(np.float64)
        return list((values.ravel() if self.width else values).tolist())

    def counted(self, values: list[Any]) -> list[Any]:
        """The label of each prediction in the metrics."""
        if self.predict.datatype != "FP64" and not self.width:
            return values
        if not self._edges:
            return [_ANY] * (len(values) // max(self.width, 1))
        return [self.labels[bisect_left(self._edges, value)] for value in values]

    def by_row(self, values: list[Any]) -> list[Any]:
        """Flat predictions as one value per row, or one list per row."""
        width = self.width
        return values if not width else [values[i : i + width] for i in range(0, len(values), width)]

    def array(self, name: str, values: list[Any], scores: NDArray[np.float64] | None) -> tuple[NDArray[Any], str]:
        """An output's values in its shape, and its datatype."""
        if name == PROBABILITY_OUTPUT and scores is not None:
            return scores, "FP64"
        found = np.array(values, _DTYPES[self.predict.datatype])
        return (found.reshape(-1, self.width) if self.width else found), self.predict.datatype


def _between(edges: tuple[float, ...]) -> tuple[str, ...]:
    if not edges:
        return (_ANY,)
    return (*(f"<= {edge:.6g}" for edge in edges), f"> {edges[-1]:.6g}")


def _inputs(about: Metadata) -> tuple[dict[str, Any], ...]:
    takes = about.input
    if takes.kind == "frame":
        return tuple({"name": f.name, "datatype": f.datatype, "shape": [-1]} for f in takes.features)
    shape = [-1] if takes.kind == "text" else [-1, len(takes.features)]
    return ({"name": takes.name, "datatype": takes.datatype, "shape": shape},)


def _flag(parameters: Mapping[str, Any] | None, name: str, place: str, default: bool = False) -> bool:
    if not parameters or name not in parameters:
        return default
    value = parameters[name]
    if not isinstance(value, bool):
        raise InvalidRequest(f"{place}: {name} must be true or false")
    return value
