"""The fast path: the V2 requests in JSON that most clients send, from bytes to bytes, without KServe's application.

It answers a request only if it understands all of it and nothing about it is wrong or unusual: `understood` says None otherwise, and
`front` hands the same bytes to KServe's application, whose answer is the right one by definition. So the two can differ only on
requests that are answered with a prediction (or with the model's own failure), and tests/component/test_serving_paths.py compares those.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from relevo.serving.limits import LARGEST_MAGNITUDE, MAX_ROWS
from relevo.serving.revision import CLASS_OUTPUT, PROBABILITY_OUTPUT, Revision
from relevo.serving.tensors import NUMERIC

__all__ = ["FastPath", "Understood"]

_FEW = 32
"""Values up to which Python's own `min` and `max` are quicker than NumPy's."""
_OUTPUTS = {CLASS_OUTPUT, PROBABILITY_OUTPUT}
_PREPROCESS, _POSTPROCESS = 0, 2


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]
    parameters: dict[str, Any] | None = None


class _NestedTensor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[list[float]]
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] | None = None


class _Flat(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _Nested(_Flat, forbid_unknown_fields=True):
    inputs: list[_NestedTensor]  # type: ignore[assignment]


@dataclass(slots=True)
class Understood:
    """A valid request: the rows [rows, features] that it brings, the outputs that it wants, and its id."""

    rows: NDArray[np.float64]
    wanted: tuple[str, ...]
    id: str | None
    seconds: float
    """What it took to understand it."""

    @property
    def probabilities(self) -> bool:
        """Whether they are wanted."""
        return PROBABILITY_OUTPUT in self.wanted


class FastPath:
    """Reads requests for one revision, and writes its answers."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision
        self._input = revision.about.input.name
        self._width = len(revision.about.feature_names)
        self._flat = msgspec.json.Decoder(_Flat).decode
        self._nested = msgspec.json.Decoder(_Nested).decode
        encode = self._encode = msgspec.json.Encoder().encode
        self._head = b'{"model_name":%b,"model_version":%b,"id":' % (encode(revision.name), encode(revision.revision))
        self._one = {c: self._class_output(1, encode(c)) for c in revision.about.classes}

    def understood(self, body: bytes) -> Understood | None:
        """The request, or None if KServe's application is to answer it."""
        began = perf_counter()
        # What this path skips (a key's escapes, say) it does not check; in ASCII nothing can be wrong with it.
        request = self._decoded(body) if body.isascii() else None
        if request is None or len(request.inputs) != 1:
            return None
        item = request.inputs[0]
        if item.name != self._input or item.parameters or item.datatype not in NUMERIC:
            return None
        wanted = self._wanted(request)
        rows = self._rows(item)
        if wanted is None or rows is None:
            return None
        return Understood(rows, wanted, request.id, perf_counter() - began)

    def taken(self, request: Understood) -> None:
        """Count that this request is answered here. Call it once, before the model is asked."""
        self._revision.tallies.timed(_PREPROCESS, request.seconds)

    def _decoded(self, body: bytes) -> Any:
        try:
            return self._flat(body)
        except msgspec.ValidationError:
            pass
        except (msgspec.DecodeError, RecursionError):
            return None
        try:
            return self._nested(body)
        except (msgspec.DecodeError, RecursionError):
            return None

    def _wanted(self, request: Any) -> tuple[str, ...] | None:
        if request.outputs:
            names = tuple(output.name for output in request.outputs)
            plain = set(names) <= _OUTPUTS and len(set(names)) == len(names)
            plain = plain and not request.parameters and not any(output.parameters for output in request.outputs)
            return names if plain else None
        if not request.parameters:
            return (CLASS_OUTPUT,)
        asked = request.parameters.get(PROBABILITY_OUTPUT)
        if len(request.parameters) != 1 or not isinstance(asked, bool):
            return None
        return (CLASS_OUTPUT, PROBABILITY_OUTPUT) if asked else (CLASS_OUTPUT,)

    def _rows(self, item: Any) -> NDArray[np.float64] | None:
        width, shape, data = self._width, item.shape, item.data
        if len(shape) != 2 or shape[1] != width or not 0 < shape[0] <= MAX_ROWS:
            return None
        if not data or (
            (nested := isinstance(data[0], list)) and (len(data) != shape[0] or any(len(row) != width for row in data))
        ):
            return None
        if not nested and len(data) != shape[0] * width:
            return None
        if not nested and len(data) <= _FEW:
            # JSON has no NaN, so comparisons can be trusted.
            if max(data) > LARGEST_MAGNITUDE or min(data) < -LARGEST_MAGNITUDE:
                return None
            rows = np.array(data, np.float64).reshape(shape)
        else:
            rows = np.array(data, np.float64).reshape(shape)
            if not (np.abs(rows) <= LARGEST_MAGNITUDE).all():
                return None
        if not item.datatype.startswith("FP") and not (rows == np.floor(rows)).all():
            return None
        return rows

    def answer(self, request: Understood, classes: list[Any], scores: NDArray[np.float64] | None) -> bytes:
        """The answer's body: what KServe's application would send, but for white space."""
        began = perf_counter()
        name = self._new_id() if request.id is None or request.id == "" else self._encode(request.id)
        outputs = []
        for wanted in request.wanted:
            if wanted == PROBABILITY_OUTPUT and scores is not None:
                outputs.append(self._scores_output(scores))
            elif len(classes) == 1:
                outputs.append(self._one[classes[0]])
            else:
                outputs.append(self._class_output(len(classes), self._encode(classes)[1:-1]))
        body = b'%b%b,"parameters":null,"outputs":[%b]}' % (self._head, name, b",".join(outputs))
        self._revision.tallies.timed(_POSTPROCESS, perf_counter() - began)
        return body

    def _class_output(self, rows: int, data: bytes) -> bytes:
        kind = self._revision.class_datatype.encode()
        return b'{"name":"predict","shape":[%d],"datatype":"%b","parameters":null,"data":[%b]}' % (rows, kind, data)

    def _scores_output(self, scores: NDArray[np.float64]) -> bytes:
        data = self._encode(scores.ravel().tolist())
        return b'{"name":"predict_proba","shape":[%d,%d],"datatype":"FP64","parameters":null,"data":%b}' % (
            *scores.shape,
            data,
        )

    @staticmethod
    def _new_id() -> bytes:
        # An id for a log, not a secret: random.getrandbits costs a tenth of uuid.uuid4, which reads from the kernel.
        digits = f"{random.getrandbits(128):032x}"
        return f'"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"'.encode()
