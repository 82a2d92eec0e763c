"""The fast path: the V2 requests that most clients send, from bytes to bytes, without KServe's application.

It answers a request only if it understands all of it and nothing about it is wrong or unusual: `understood` says None otherwise, and
`front` hands the same bytes to KServe's application, whose answer is the right one by definition. So the two can differ only on
requests that are answered with a prediction (or with the model's own failure), and tests/component/test_serving_paths.py compares those.
`reading` knows what requests look like, `schema` what the model takes and answers.
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
from relevo.serving.reading import flat_numbers, nested_numbers, tensors_of, values
from relevo.serving.refusals import InvalidRequest
from relevo.serving.revision import Revision
from relevo.serving.schema import PROBABILITY_OUTPUT, Wanted
from relevo.serving.tensors import rows_from_tensors
from relevo.serving.values import NUMERIC

__all__ = ["FastPath", "Understood"]

_FEW = 32
"""Values up to which Python's own `min` and `max` are quicker than NumPy's."""
_PREPROCESS, _POSTPROCESS = 0, 2
_NOT_OURS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(slots=True)
class Understood:
    """A valid request: the rows that it brings, the outputs that it wants, and its id."""

    rows: Any
    wanted: tuple[Wanted, ...]
    id: str | None
    seconds: float
    """What it took to understand it."""

    @property
    def probabilities(self) -> bool:
        """Whether they are wanted."""
        return any(one.name == PROBABILITY_OUTPUT for one in self.wanted)


class FastPath:
    """Reads requests for one revision, and writes its answers."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision
        self._about = revision.about
        self._schema = revision.schema
        self._input = revision.about.input.name
        self._numbers = revision.about.input.kind == "tensor"
        self._width = len(revision.about.feature_names)
        encode = self._encode = msgspec.json.Encoder().encode
        self._head = b'{"model_name":%b,"model_version":%b,"id":' % (encode(revision.name), encode(revision.revision))
        self._plain = self._schema.wanted(None, None)
        # What one row of a classifier can be answered with.
        self._one = {c: self._in_json(self._plain[0].name, (1,), encode([c])) for c in revision.about.classes}

    def understood(self, body: bytes, json_length: int = 0) -> Understood | None:
        """The request, or None if KServe's application is to answer it. `json_length` is 0 for a body that is all JSON."""
        began = perf_counter()
        try:
            found = self._in_numbers(body) if self._numbers and json_length == 0 else None
            if found is None:
                found = self._in_values(body, json_length)
            if found is None:
                return None
            request, rows = found
            # One output listed twice is answered twice by KServe.
            if request.outputs and len({output.name for output in request.outputs}) != len(request.outputs):
                return None
            wanted = self._plain
            if request.outputs or request.parameters:
                if request.parameters and not request.parameters.keys() <= {PROBABILITY_OUTPUT, "binary_data_output"}:
                    return None
                wanted = self._schema.wanted(request.listed(), request.parameters)
        except (InvalidRequest, *_NOT_OURS):
            return None
        return Understood(rows, wanted, request.id, perf_counter() - began)

    def taken(self, request: Understood) -> None:
        """Count that this request is answered here. Call it once, before the model is asked."""
        self._revision.tallies.timed(_PREPROCESS, request.seconds)

    def _in_numbers(self, body: bytes) -> tuple[Any, Any] | None:
        """A request with the one tensor of numbers that most models take."""
        # What this path skips (a key's escapes, say) it does not check; in ASCII nothing can be wrong with it.
        if not body.isascii():
            return None
        request: Any
        try:
            request = flat_numbers(body)
        except msgspec.ValidationError:
            try:
                request = nested_numbers(body)
            except msgspec.ValidationError:
                return None
        if len(request.inputs) != 1:
            return None
        item = request.inputs[0]
        if item.name != self._input or item.parameters or item.datatype not in NUMERIC or item.datatype == "FP16":
            return None
        rows = self._rows(item)
        return None if rows is None else (request, rows)

    def _in_values(self, body: bytes, json_length: int) -> tuple[Any, Any] | None:
        """Any other: several inputs, texts, missing values, tensors as bytes."""
        if json_length > len(body):
            return None
        head = body[:json_length] if json_length else body
        if not head.isascii():
            head.decode()
        request = values(head)
        rest = memoryview(body)[json_length:] if json_length else memoryview(b"")
        tensors = tensors_of(request, rest, binary=bool(json_length))
        if not tensors:
            return None
        return request, rows_from_tensors(tensors, self._about)

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

    def answer(
        self, request: Understood, found: list[Any], scores: NDArray[np.float64] | None
    ) -> tuple[bytes, int | None]:
        """The answer's body: what KServe's application would send, but for white space. And where its JSON ends, if bytes follow it."""
        began = perf_counter()
        name = self._new_id() if request.id is None or request.id == "" else self._encode(request.id)
        length = None
        if any(one.binary for one in request.wanted):
            parts = [self._output(one, found, scores) for one in request.wanted]
            head = b'%b%b,"outputs":[%b]}' % (self._head, name, b",".join(part[0] for part in parts))
            body, length = b"".join([head, *(part[1] for part in parts)]), len(head)
        else:
            outputs = b",".join([self._json_output(one, found, scores) for one in request.wanted])
            body = b'%b%b,"parameters":null,"outputs":[%b]}' % (self._head, name, outputs)
        self._revision.tallies.timed(_POSTPROCESS, perf_counter() - began)
        return body, length

    def _json_output(self, wanted: Wanted, found: list[Any], scores: NDArray[np.float64] | None) -> bytes:
        if wanted.name == PROBABILITY_OUTPUT and scores is not None:
            return self._in_json(wanted.name, scores.shape, self._encode(scores.ravel().tolist()))
        if len(found) == 1 and found[0] in self._one:
            return self._one[found[0]]
        width = self._schema.width
        shape = (len(found) // width, width) if width else (len(found),)
        return self._in_json(wanted.name, shape, self._encode(found))

    def _in_json(self, name: str, shape: tuple[int, ...], data: bytes) -> bytes:
        kind = b"FP64" if name == PROBABILITY_OUTPUT else self._schema.predict.datatype.encode()
        form = b'{"name":"%b","shape":%b,"datatype":"%b","parameters":null,"data":%b}'
        return form % (name.encode(), self._encode(shape), kind, data)

    def _output(self, wanted: Wanted, found: list[Any], scores: NDArray[np.float64] | None) -> tuple[bytes, bytes]:
        """One output of an answer that has bytes behind its JSON: KServe leaves out there what is null."""
        if not wanted.binary:
            return self._json_output(wanted, found, scores).replace(b'"parameters":null,', b"", 1), b""
        array, kind = self._schema.array(wanted.name, found, scores)
        if kind == "BYTES":
            texts = [str(value).encode() for value in array.ravel()]
            raw = b"".join([len(text).to_bytes(4, "little") + text for text in texts])
        else:
            raw = array.tobytes()
        form = b'{"name":"%b","shape":%b,"datatype":"%b","parameters":{"binary_data_size":%d}}'
        return form % (wanted.name.encode(), self._encode(array.shape), kind.encode(), len(raw)), raw

    @staticmethod
    def _new_id() -> bytes:
        # An id for a log, not a secret: random.getrandbits costs a tenth of uuid.uuid4, which reads from the kernel.
        digits = f"{random.getrandbits(128):032x}"
        return f'"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"'.encode()
