"""Large bodies of V2 requests: decoded in a thread, and refused before that if they hold more values than the model takes.

KServe's application decodes on the event loop, and takes seconds for 16 MiB of wrong JSON: what is large never gets there, so what
`fast` does not understand is refused here, with the reason. Health and other requests are answered meanwhile.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec

from relevo.serving.fast import FastPath, Understood
from relevo.serving.limits import MAX_ROWS
from relevo.serving.reading import tensors_of, values
from relevo.serving.refusals import InvalidRequest
from relevo.serving.revision import Revision
from relevo.serving.tensors import rows_from_tensors

__all__ = ["LARGE_BODY_BYTES", "LargeBodies"]

LARGE_BODY_BYTES = 256 * 1024
"""From here on a body is not decoded on the event loop, which it would hold for a millisecond and more."""
_OTHER_COMMAS = 1000
"""Commas that a request may have between other things than the values of its rows."""


class LargeBodies:
    """Reads the large requests of one revision, one at a time."""

    def __init__(self, revision: Revision, fast: FastPath) -> None:
        self._about = revision.about
        self._fast = fast
        self._most_commas = None
        if self._about.input.kind == "tensor":  # texts may have commas in them
            self._most_commas = MAX_ROWS * (len(self._about.feature_names) + 1) + _OTHER_COMMAS
        # One thread: decoding is what Python does one at a time anyway.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="decode")

    async def understood(self, body: bytes, json_length: int) -> Understood:
        """The request. Raises InvalidRequest, with the reason."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, body, json_length)

    def _read(self, body: bytes, json_length: int) -> Understood:
        head = body[:json_length] if json_length else body
        if self._most_commas is not None and head.count(b",") > self._most_commas:
            raise InvalidRequest(
                f"body: holds more values than {MAX_ROWS} rows of {len(self._about.feature_names)} features"
            )
        found = self._fast.understood(body, json_length)
        if found is None:
            raise InvalidRequest(self._reason(body, head, json_length))
        return found

    def _reason(self, body: bytes, head: bytes, json_length: int) -> str:
        try:
            if json_length > len(body):
                return f"inference-header-content-length: is {json_length}, but the body has {len(body)} bytes"
            request = values(head)
            tensors = tensors_of(request, memoryview(body)[json_length or len(body) :], binary=bool(json_length))
            if tensors is None:
                return (
                    "body: the inputs have neither data nor a binary_data_size that agrees with the bytes that follow"
                )
            rows_from_tensors(tensors, self._about)
        except InvalidRequest as error:
            return str(error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return f"body: is not an inference request: {error}"
        return f"body: a request of more than {LARGE_BODY_BYTES} bytes may have no other fields or parameters than V2's own"
