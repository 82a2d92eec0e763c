"""The short way through uvicorn's protocol: what it answers itself, and what it leaves to uvicorn, byte for byte on a connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn
from uvicorn.server import ServerState

from relevo.serving.connections import Watch
from relevo.serving.lane import lane
from relevo.serving.predictor import Predictor
from relevo.serving.revision import Revision
from tests.unit.serving.about import about

BODY = json.dumps({"id": "7", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}).encode()
PLAIN = (
    b"POST /v2/models/m/infer HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    % len(BODY)
)


class Package:
    """As much of a package as a revision reads before it is loaded."""

    metadata = about(runtime="onnx")


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        """Keep it."""
        self.sent += bytes(data)

    def close(self) -> None:
        """Remember it."""
        self.closed = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""


class Connection:
    """One connection to a revision `m`, whose application behind answers `passed on`."""

    def __init__(self, *, raising: bool = False, slow: bool = False) -> None:
        def classes(rows: Any) -> Any:
            if raising:
                raise ValueError("never seen this")
            return np.ones(len(rows), np.int64)

        self.revision = Revision("m", Package(), "m-1")  # type: ignore[arg-type]
        self.revision._predictor = Predictor(classes, None)
        self.revision._predictor._seconds = (1.0, 0.0) if slow else (0.0, 0.0)
        self.passed_on: list[bytes] = []
        config = uvicorn.Config(self.app, log_config=None, lifespan="off", ws="none", interface="asgi3")
        self.state = ServerState()
        self.state.default_headers = [(b"x-relevo-revision", b"m-1")]
        loop = asyncio.get_running_loop()
        self.protocol = lane(Watch(self.revision))(config=config, server_state=self.state, app_state={}, _loop=loop)
        self.transport = Transport()
        self.protocol.connection_made(self.transport)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """What is behind."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.passed_on.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"passed on"})

    async def settle(self) -> list[tuple[bytes, bytes]]:
        """Let tasks run, then the answers as (status line, body)."""
        while self.state.tasks:
            await asyncio.sleep(0)
        found, rest = [], self.transport.sent.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            assert b"x-relevo-revision: m-1" in head
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            found.append((head.split(b"\r\n")[0], rest[:length]))
            rest = rest[length:]
        return found


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """An event loop."""
    with asyncio.Runner() as running:
        yield running


def ask(runner: asyncio.Runner, *parts: bytes, **options: bool) -> tuple[Connection, list[tuple[bytes, bytes]]]:
    """Send `parts` one after the other over a new connection."""

    async def run() -> tuple[Connection, list[tuple[bytes, bytes]]]:
        connection = Connection(**options)
        for part in parts:
            connection.protocol.data_received(part)
        answers = await connection.settle()
        connection.protocol.connection_lost(ConnectionError())
        connection.protocol._unset_keepalive_if_required()
        return connection, answers

    return runner.run(run())


WHOLE = PLAIN + b"\r\n" + BODY


@pytest.mark.parametrize("cut", [1, 20, len(PLAIN), len(WHOLE) - 5])
def test_an_ordinary_request_is_answered_however_it_arrives(runner: asyncio.Runner, cut: int) -> None:
    """Whole or in pieces, and the next on the same connection too; nothing is passed on, and all is counted once."""
    connection, answers = ask(runner, WHOLE[:cut], WHOLE[cut:], WHOLE + WHOLE)
    assert [status for status, _ in answers] == [b"HTTP/1.1 200 OK"] * 3
    assert json.loads(answers[0][1])["outputs"][0]["data"] == [1]
    assert json.loads(answers[0][1])["id"] == "7"
    assert not connection.passed_on
    assert connection.revision.tallies.row[connection.revision.tallies.index[1]] == 3
    assert not connection.transport.closed


@pytest.mark.parametrize(
    "request_",
    [
        WHOLE.replace(b"/infer", b"/ready"),
        WHOLE.replace(b"application/json", b"text/something"),
        WHOLE.replace(b'"FP64"', b'"FPxx"'),
        WHOLE.replace(b"host: a", b"expect: 100-continue"),
        WHOLE.replace(b"POST", b"PUT"),
    ],
)
def test_what_is_not_ordinary_reaches_the_application_whole(runner: asyncio.Runner, request_: bytes) -> None:
    """The body that was read already is not lost, and an ordinary request afterwards is answered here again."""
    connection, answers = ask(runner, request_)
    assert [body for _, body in answers] == [b"passed on"]
    assert connection.passed_on == [request_.partition(b"\r\n\r\n")[2]]


def test_pipelined_requests_are_answered_in_their_order(runner: asyncio.Runner) -> None:
    """An ordinary request behind one that the application still works on waits for it."""
    other = WHOLE.replace(b"/infer", b"/other")
    connection, answers = ask(runner, WHOLE + other + WHOLE)
    assert [body == b"passed on" for _, body in answers] == [False, True, True]
    assert len(connection.passed_on) == 2


def test_a_slow_model_is_never_asked_from_the_parser(runner: asyncio.Runner) -> None:
    """It is passed on, and not counted before."""
    connection, _ = ask(runner, WHOLE, slow=True)
    assert connection.passed_on == [BODY]
    assert sum(connection.revision.tallies.row) == 0


def test_a_model_that_raises_is_answered_500_and_counted_once(runner: asyncio.Runner) -> None:
    """The reason is told; the connection stays."""
    connection, answers = ask(runner, WHOLE, raising=True)
    assert answers[0][0] == b"HTTP/1.1 500 Internal Server Error"
    assert json.loads(answers[0][1])["error"] == "the model failed on this input: ValueError: never seen this"
    assert not connection.transport.closed


@pytest.mark.parametrize(("old", "new"), [(b"host: a", b"connection: close"), (b"HTTP/1.1", b"HTTP/1.0")])
def test_a_client_that_wants_no_more_is_closed(runner: asyncio.Runner, old: bytes, new: bytes) -> None:
    """The answer says so."""
    connection, answers = ask(runner, WHOLE.replace(old, new))
    assert len(answers) == 1
    assert b"connection: close" in connection.transport.sent
    assert connection.transport.closed
