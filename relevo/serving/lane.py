"""uvicorn's HTTP protocol with a shorter way for the requests of the fast path: `lane`.

uvicorn makes a task, a cycle and two messages of every request. A plain V2 request to infer that came whole, and that the model answers
at once, is answered here instead, from within the parser's callback, by the same `FastPath`. Everything else is handed to uvicorn as if
this class were not there: its headers, then its body, then its end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from relevo.serving.asgi import CERTIFICATE
from relevo.serving.connections import BODY, IDLE, Connection, Watch
from relevo.serving.fast import FastPath
from relevo.serving.reading import json_length
from relevo.serving.refusals import ModelFailed

if TYPE_CHECKING:
    from relevo.access.gate import Gate

__all__ = ["lane"]

_LARGEST_BODY = 4 * 1024
"""Of what is answered here. A larger one is likely to need a thread, and would then be read twice."""
_JSON = b"content-type: application/json\r\n"
_BINARY = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"


def lane(watch: Watch, *, fast: bool = True, gate: Gate | None = None) -> Callable[..., Connection]:
    """What uvicorn is to make its connections of. Without `fast` it answers nothing itself; with a `gate`, only whom that knows."""
    revision = watch.revision
    model = f"/v2/models/{revision.name}".encode()
    urls = {model + b"/infer", model + b"/versions/%b/infer" % revision.revision.encode()}
    return partial(_Lane, watch, FastPath(revision), frozenset(urls if fast else ()), gate)


class _Lane(Connection):
    def __init__(
        self, watch: Watch, fast: FastPath, urls: frozenset[bytes], gate: Gate | None, *arguments: Any, **named: Any
    ) -> None:
        super().__init__(watch, *arguments, **named)
        self._revision = watch.revision
        self._fast = fast
        self._urls = urls
        self._gate = gate
        self._certificate: str | None = None
        self._taken: list[bytes] | None = None
        self._json_length = 0
        self._stamp: tuple[Any, bytes] = (None, b"")

    def connection_made(self, transport: Any) -> None:
        """Remember whom the client's certificate names."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peercert") if self._gate is not None else None
        if peer:
            from relevo.access.certificates import subject_of

            self._certificate = subject_of(peer)

    def on_message_begin(self) -> None:
        """Only what is needed to judge the request; uvicorn's scope is made in `_hand_over`."""
        self.begun()
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._taken = None

    def on_headers_complete(self) -> None:
        """Take the request, or hand it over."""
        if (
            self.url in self._urls
            and self.parser.get_method() == b"POST"
            and not self.expect_100_continue
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and not self.parser.should_upgrade()
            and not self._crowded
            and not self._deaf
            and (length := json_length(self.headers, _LARGEST_BODY)) is not None
            # Whom the gate does not know at once is asked for, and refused, by `guard`.
            and (self._gate is None or self._gate.admit(self.headers, self._certificate) is not None)
        ):
            self._taken = []
            self._phase = BODY
            self._json_length = length
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let uvicorn begin this request, whose headers have been read."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        if self._certificate is not None:
            self.scope[CERTIFICATE] = self._certificate  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep it, or hand it over."""
        if self._taken is None:
            super().on_body(body)
            return
        self._taken.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > _LARGEST_BODY:  # it came in chunks, so nobody knew
            taken, self._taken = self._taken, None
            self._hand_over()
            super().on_body(b"".join(taken))

    def on_message_complete(self) -> None:
        """Answer what was taken; if it turns out not to be ordinary, hand it over whole."""
        if self._taken is None:
            super().on_message_complete()
            return
        self._phase = IDLE
        body = b"".join(self._taken)
        self._taken = None
        request = self._fast.understood(body, self._json_length)
        if request is None or not self._revision.is_quick(len(request.rows)):
            self._hand_over()
            super().on_body(body)
            super().on_message_complete()
            return
        self._fast.taken(request)
        try:
            classes, scores = self._revision.predict_now(request.rows, probabilities=request.probabilities)
        except ModelFailed as error:
            self._write(b"HTTP/1.1 500 Internal Server Error\r\n", orjson.dumps({"error": str(error)}))
        else:
            answer, ends = self._fast.answer(request, classes, scores)
            self._write(b"HTTP/1.1 200 OK\r\n", answer, _JSON if ends is None else _BINARY % ends)

    def _write(self, status: bytes, body: bytes, kind: bytes = _JSON) -> None:
        source = self.server_state.default_headers  # uvicorn replaces the list when the date changes
        if self._stamp[0] is not source:
            lines = b"".join(b"%b: %b\r\n" % header for header in source)
            self._stamp = (source, lines)
        keep = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive() and not self._watch.draining
        close = b"" if keep else b"connection: close\r\n"
        head = b"%b%b%b%bcontent-length: %d\r\n\r\n" % (status, self._stamp[1], kind, close, len(body))
        self.transport.write(head + body)
        if not keep:
            self.transport.close()
        self.on_response_complete()
