"""What a client may do with a connection: real sockets, and a clock that is told what time it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from relevo.serving import limits
from relevo.serving.connections import Connection, Watch
from relevo.serving.revision import Revision
from relevo.serving.tallies import ERROR_KINDS
from tests.unit.serving.about import about

HEAD = b"POST /echo HTTP/1.1\r\nhost: a\r\n"


class Served:
    """A listening server of `Connection`s, whose application says how long the body was, and what its test sees of it."""

    def __init__(self, **options: int) -> None:
        self.revision = Revision("m", SimpleNamespace(metadata=about()), "m-1")  # type: ignore[arg-type]
        self.watch = Watch(self.revision, **options)
        self.state = ServerState()
        self.state.default_headers = [(b"x-relevo-revision", b"m-1")]
        self.reading = asyncio.Event()
        self.reading.set()
        self.asked: list[bytes] = []
        self.port = 0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Read all of the body as soon as `reading` is set; a path that begins with /big gets 64 MiB."""
        self.asked.append(scope["path"].encode())
        await self.reading.wait()
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length += len(message["body"])
            if not message["more_body"]:
                break
        body = b"x" * 2**26 if scope["path"] == "/big" else b"%d" % length
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    def later(self, seconds: float) -> None:
        """Let the watch look now, and again after this time."""
        self.watch.sweep(self.state.connections, 0.0)
        self.watch.sweep(self.state.connections, seconds)

    def failed(self, kind: str) -> float:
        """How many were counted as ended by `kind`."""
        tallies = self.revision.tallies
        return float(tallies.row[tallies._first_error + ERROR_KINDS.index(kind)])


def run(test: Callable[[Served], Awaitable[None]], **options: int) -> None:
    """Run `test` on a server."""

    async def within() -> None:
        served = Served(**options)
        config = uvicorn.Config(served.app, log_config=None, lifespan="off", ws="none", interface="asgi3")
        loop = asyncio.get_running_loop()
        make = partial(Connection, served.watch, config=config, server_state=served.state, app_state={}, _loop=loop)
        server = await loop.create_server(make, "127.0.0.1", 0)
        served.port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(60):
                await test(served)
        finally:
            server.close()
            for connection in list(served.state.connections):
                connection.transport.abort()
            while served.state.connections or served.state.tasks:
                await asyncio.sleep(0.01)

    asyncio.run(within())


async def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    while not true():
        await asyncio.sleep(0.01)


class Client:
    """One connection, and what came over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, served: Served, *parts: bytes) -> Client:
        """Connect, and send `parts`."""
        client = cls(*await asyncio.open_connection("127.0.0.1", served.port, limit=2**24))
        client.writer.writelines(parts)
        await until(lambda: bool(served.state.connections))
        return client

    async def answer(self) -> tuple[int, Any, bytes]:
        """Status, body (of an error: its reason) and head of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        status = int(head.split()[1])
        return status, body if status == 200 else json.loads(body)["error"], head

    async def ended(self) -> bool:
        """Whether the server says no more."""
        return await self.reader.read() == b""


def test_a_request_that_comes_in_time_is_answered() -> None:
    """However slowly it is looked at, within the limits nothing happens to it; and the connection stays."""

    async def test(served: Served) -> None:
        client = await Client.to(served, HEAD[:10])
        served.later(limits.HEADER_SECONDS - 1)
        client.writer.write(HEAD[10:] + b"content-length: 5\r\n\r\nab")
        await until(lambda: bool(served.asked))
        served.later(limits.BODY_SECONDS - 1)
        client.writer.write(b"cde" + HEAD + b"content-length: 1\r\n\r\nx")
        assert (await client.answer())[:2] == (200, b"5")
        assert (await client.answer())[:2] == (200, b"1")
        served.later(limits.HEADER_SECONDS + 1)
        client.writer.write(HEAD + b"\r\n")
        assert (await client.answer())[:2] == (200, b"0")
        assert served.failed("invalid") == 0

    run(test)


@pytest.mark.parametrize(
    ("sent", "part"),
    [(HEAD, "headers"), (HEAD + b"content-length: 5\r\n\r\nab", "body"), (HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n", "body")],
)  # fmt: skip
def test_a_slow_client_is_answered_408_and_closed(sent: bytes, part: str) -> None:
    """Headers or a body that do not come hold nothing; the answer says which."""

    async def test(served: Served) -> None:
        client = await Client.to(served, sent)
        await until(lambda: any(c._phase for c in served.state.connections))
        served.later(60)
        status, reason, head = await client.answer()
        assert (status, reason.split(":")[0]) == (408, part)
        assert b"x-relevo-revision: m-1" in head
        assert await client.ended()
        assert served.failed("invalid") == 1
        assert served.watch.held == 0

    run(test)


def test_a_large_body_may_take_longer() -> None:
    """The time that a body has grows with what came of it."""

    async def test(served: Served) -> None:
        seconds = limits.BODY_SECONDS + 10
        size = 10 * limits.BODY_BYTES_PER_SECOND + 1000
        client = await Client.to(served, HEAD, b"content-length: %d\r\n\r\n" % (size + 1), b"x" * size)
        await until(lambda: served.watch.held == size)
        served.later(seconds - 1)
        client.writer.write(b"x")
        assert (await client.answer())[:2] == (200, b"%d" % (size + 1))
        assert served.watch.held == 0

    run(test)


def test_a_connection_that_asks_nothing_is_closed() -> None:
    """It is told nothing, as it asked nothing."""

    async def test(served: Served) -> None:
        client = await Client.to(served)
        served.later(limits.FIRST_BYTE_SECONDS + 1)
        assert await client.ended()
        assert served.failed("invalid") == 0

    run(test)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    """An answer that nobody takes does not lie in memory for ever."""

    async def test(served: Served) -> None:
        client = await Client.to(served, b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n")
        client.writer.transport.pause_reading()
        await until(lambda: any(c.flow.write_paused for c in served.state.connections))
        served.later(limits.READ_SECONDS - 1)
        assert served.state.connections
        served.later(limits.READ_SECONDS + 1)
        await until(lambda: not served.state.connections)

    run(test)


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"HELO me\r\n\r\n", 400, "is not HTTP/1.1"),
        (HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, "is not HTTP/1.1"),
        (HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400, "is not HTTP/1.1"),
        (HEAD + b"content-length: -3\r\n\r\n", 400, "is not HTTP/1.1"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400, "is not HTTP/1.1"),
        (HEAD + b"a b: c\r\n\r\n", 400, "is not HTTP/1.1"),
        (b"GET http://[ HTTP/1.1\r\nhost: a\r\n\r\n", 400, "is not HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "is not HTTP/1.1"),
        (HEAD + b"content-length: %d\r\n\r\n" % (limits.MAX_BODY_BYTES + 1), 413, "larger than"),
        (HEAD + b"x: " + b"y" * (2 * limits.MAX_HEADER_BYTES + 2**18), 431, "larger than"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 2**17, 431, "larger than"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_answered_with_the_reason(sent: bytes, status: int, reason: str) -> None:
    """In JSON and with the revision, as all errors; afterwards the connection is closed, and nothing after it is taken for a request."""

    async def test(served: Served) -> None:
        client = await Client.to(served, sent, HEAD, b"content-length: 1\r\n\r\nx")
        found = await client.answer()
        assert found[0] == status
        assert reason in found[1]
        assert b"x-relevo-revision: m-1" in found[2]
        client.writer.write(b"more")
        assert await client.ended()
        assert served.failed("invalid") + served.failed("too_large") == 1

    run(test)


def test_a_body_in_chunks_that_grows_too_large_is_answered_while_it_comes() -> None:
    """The client that still sends reads the answer, instead of a reset."""

    async def test(served: Served) -> None:
        client = await Client.to(served, HEAD, b"transfer-encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%b\r\n" % (2**20, b"x" * 2**20)
        for _ in range(limits.MAX_BODY_BYTES // 2**20 + 8):
            client.writer.write(chunk)
            await client.writer.drain()
        assert (await client.answer())[0] == 413
        assert await client.ended()

    run(test)


def test_bodies_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would go beyond is answered 503 with Retry-After; when the others are answered, there is room again."""
    monkeypatch.setattr(limits, "MAX_BODIES_BYTES", 100_000)

    async def test(served: Served) -> None:
        served.reading.clear()
        whole = HEAD + b"content-length: 60000\r\n\r\n" + b"x" * 60_000
        first = await Client.to(served, whole)
        await until(lambda: served.watch.held == 60_000)
        second = await Client.to(served, whole)
        status, reason, head = await second.answer()
        assert (status, reason.split(":")[0]) == (503, "overloaded")
        assert b"retry-after: 1" in head
        served.reading.set()
        assert (await first.answer())[:2] == (200, b"60000")
        third = await Client.to(served, whole)
        assert (await third.answer())[:2] == (200, b"60000")
        assert served.watch.held == 0
        assert served.failed("overload") == 1

    run(test)


def test_too_many_connections_are_told_to_come_back() -> None:
    """Health is answered all the same; far too many are not answered at all."""

    async def test(served: Served) -> None:
        clients = [await Client.to(served, HEAD + b"\r\n") for _ in range(2)]
        assert [(await client.answer())[0] for client in clients] == [200, 200]
        third = await Client.to(served, HEAD + b"\r\n")
        status, _, head = await third.answer()
        assert status == 503
        assert b"retry-after: 1" in head
        assert await third.ended()
        asks_health = await Client.to(served, b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await asks_health.answer())[0] == 200
        assert await asks_health.ended()
        more = [await Client.to(served) for _ in range(3)]
        assert (await more[2].reader.read(1)) == b""
        assert served.failed("overload") == 1

    run(test, max_connections=2)


def test_while_it_drains_every_answer_says_close() -> None:
    """A client that keeps its connection learns by its next answer that it must not; one in the middle of a request is answered."""

    async def test(served: Served) -> None:
        client = await Client.to(served, HEAD + b"\r\n")
        assert b"connection: close" not in (await client.answer())[2]
        half = await Client.to(served, HEAD[:-5])
        await until(lambda: len(served.state.connections) == 2 and any(c._phase for c in served.state.connections))
        served.watch.draining = True
        client.writer.write(HEAD + b"\r\n")
        assert b"connection: close" in (await client.answer())[2]
        assert await client.ended()
        for connection in list(served.state.connections):
            connection.shutdown()
        half.writer.write(HEAD[-5:] + b"\r\n")
        assert (await half.answer())[0] == 200
        assert await half.ended()

    run(test)
