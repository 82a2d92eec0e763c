"""One HTTP connection, and what its client may do with it: `Connection`, under `lane`. uvicorn's protocol with limits of time and memory.

A client that sends its headers or its body too slowly is answered 408, one that leaves its answer unread is cut off: `Watch.sweep`, once a
second, looks at every connection, so that a request pays for three assignments and no timer. Bodies are counted while they come and until
they are answered, over all connections together. While the server drains, every answer tells its client to close the connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relevo.serving import limits
from relevo.serving.asgi import AsgiApp, Receive, Scope, Send, send_json
from relevo.serving.revision import Revision

__all__ = ["BODY", "IDLE", "Connection", "Watch"]

IDLE, _HEADERS, BODY = range(3)
"""What a connection is in the middle of: nothing, a request's headers, its body."""
_PARTS = {_HEADERS: "headers", BODY: "body"}
_ALWAYS = frozenset({"/", "/v2/health/live", "/v2/health/ready", "/metrics"})
"""What is answered however many connections there are."""
_TOO_LARGE = f"body: is larger than {limits.MAX_BODY_BYTES} bytes"
_READ_BYTES = 256 * 1024
"""What comes from a socket at once."""
_LINGER_SECONDS = 2.0
"""How long what a refused client still sends is read."""
_KINDS = {408: "invalid", 400: "invalid", 431: "too_large", 413: "too_large", 503: "overload"}


class Watch:
    """What the connections of one server have in common."""

    def __init__(self, revision: Revision, *, max_connections: int = limits.MAX_CONNECTIONS) -> None:
        self.revision = revision
        self.max_connections = max_connections
        self.now = 0.0
        """What the clock of the connections says, in seconds."""
        self.draining = False
        """Whether clients are told to close their connections."""
        self.held = 0
        """Bytes of bodies that came and are not answered yet."""

    def sweep(self, connections: Iterable[Any], elapsed_seconds: float) -> None:
        """Refuse the slow ones; call it every second or so, with all connections and the time since the last time.

        Time during which this server did not read must be left out: it is not the clients' fault.
        """
        self.now += elapsed_seconds
        for connection in list(connections):
            connection.look(self.now)


class Connection(HttpToolsProtocol):
    """A connection that `Watch` watches."""

    def __init__(self, watch: Watch, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._watch = watch
        self._phase = IDLE
        self._served = 0
        self._own_cycle = False
        self._wire_bytes = 0
        self._body_bytes = 0
        self._held = 0
        self._crowded = False
        self._deaf = False
        self._seen = (IDLE, 0)
        self._seen_at = self._watch.now
        self._unread_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        """uvicorn's, unless there are too many."""
        super().connection_made(transport)
        count = len(self.connections)
        if count > 2 * self._watch.max_connections:
            transport.abort()
        elif count > self._watch.max_connections:
            self._crowded = True
            self.app = _crowded(self.app, self._watch.revision)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what its body held."""
        self._release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, with an end to headers, and to what follows a request that cannot be answered."""
        if self._deaf:
            return
        if self._phase:
            # All that came of a request whose first bytes came before these, less its body: chunks and trailers take room as well.
            self._wire_bytes += len(data)
            if self._wire_bytes - 2 * self._body_bytes > limits.MAX_HEADER_BYTES + (
                _READ_BYTES if self._phase == BODY else 0
            ):
                self.refuse(431, f"headers: are larger than {limits.MAX_HEADER_BYTES} bytes")
                return
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # It was answered as if it had not asked; what it says next is no HTTP any more.
            self._deaf = True
            self._last()
        except httptools.HttpParserError as error:
            reason = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
            self.refuse(400, f"request: is not HTTP/1.1: {reason or error}")

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self.begun()
        super().on_message_begin()

    def begun(self) -> None:
        """Note that a request begins."""
        self._phase = _HEADERS
        self._served += 1
        self._own_cycle = False
        self._wire_bytes = self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers; those after a body in chunks mean nothing here."""
        if self._phase == BODY:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        if self._deaf:
            return
        self._phase = BODY
        for name, value in self.headers:
            if name == b"content-length" and int(value) > limits.MAX_BODY_BYTES:
                self.refuse(413, _TOO_LARGE)
                return
        super().on_headers_complete()
        self._own_cycle = True
        if self._crowded or self._watch.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Part of its body is there."""
        self._body_bytes += len(body)
        if self._deaf or self.cycle.response_complete:
            return
        self._held += len(body)
        self._watch.held += len(body)
        if self._body_bytes > limits.MAX_BODY_BYTES:
            self.refuse(413, _TOO_LARGE)
        elif self._watch.held > limits.MAX_BODIES_BYTES:
            self.refuse(
                503, "overloaded: the requests that came already fill the memory set aside; try again in a second"
            )
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._phase = IDLE
        if not self._deaf:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Its answer is on its way."""
        if self._held and not self.pipeline:
            self._release()
        super().on_response_complete()

    def _release(self) -> None:
        self._watch.held -= self._held
        self._held = 0

    def shutdown(self) -> None:
        """The server ends: go now, or after the request that is under way."""
        if self._phase == IDLE:
            super().shutdown()
        else:
            self._last()

    def _last(self) -> None:
        """Close after what is being answered."""
        if self.cycle is None or self.cycle.response_complete:
            if self._phase == IDLE:
                self.transport.close()
        else:
            self.cycle.keep_alive = False

    def look(self, now: float) -> None:
        """Refuse a client that is too slow, as seen at `now`."""
        state = (self._phase, self._served)
        if state != self._seen:
            self._seen, self._seen_at = state, now
        waited = now - self._seen_at
        if self._unread(now) > limits.READ_SECONDS or (self._deaf and waited > _LINGER_SECONDS):
            self.transport.abort()
        elif self._phase == IDLE:
            # From the first answer on uvicorn's own timer closes a connection that asks nothing.
            if self._served == 0 and waited > limits.FIRST_BYTE_SECONDS:
                self.transport.close()
        elif self.flow.read_paused:
            self._seen_at = now  # it is this server that does not read
        elif not self._deaf and waited > self._allowed():
            self.refuse(408, f"{_PARTS[self._phase]}: did not come within {waited:.0f} seconds")

    def _allowed(self) -> float:
        if self._phase == _HEADERS:
            return limits.HEADER_SECONDS
        return limits.BODY_SECONDS + self._body_bytes / limits.BODY_BYTES_PER_SECOND

    def _unread(self, now: float) -> float:
        """For how long the client has left unread more than a write buffer holds."""
        if not (self.flow.write_paused or (self._deaf and self.transport.get_write_buffer_size())):
            self._unread_since = None
            return 0.0
        if self._unread_since is None:
            self._unread_since = now
        return now - self._unread_since

    def refuse(self, status: int, reason: str) -> None:
        """Answer with an error and close; if an answer is under way, only close."""
        self._deaf = True
        self._seen_at = self._watch.now
        self._release()
        if self.transport.is_closing():
            return
        self._watch.revision.tallies.failed(_KINDS[status])
        cycle = self.cycle
        if self._own_cycle and not cycle.response_complete:
            unanswered = not self.pipeline and not cycle.response_started
            cycle.disconnected = True  # the application learns that there is nobody to answer
            cycle.message_event.set()
        elif cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False  # the request before this one is answered, and nothing after it
            return
        else:
            unanswered = not self._own_cycle
        if not unanswered:
            self.transport.close()
            return
        body = orjson.dumps({"error": reason.encode("utf-8", "replace").decode()})
        fields = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
        fields += [b"%b: %b" % header for header in self.server_state.default_headers]
        fields += [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
        fields += [b"retry-after: 1"] if status == 503 else []
        self.transport.write(b"\r\n".join([*fields, b"", body]))
        # A client that still sends would get a reset instead of the answer: what it sends is read, for a moment, and thrown away.
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _crowded(app: Any, revision: Revision) -> AsgiApp:
    """`app` for one connection too many."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in _ALWAYS:
            await app(scope, receive, send)
            return
        revision.tallies.failed("overload")
        error = {"error": "overloaded: too many connections; try again in a second"}
        await send_json(send, 503, error, [(b"connection", b"close"), (b"retry-after", b"1")])

    return answer
