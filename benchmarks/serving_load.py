"""HTTP load, cheap enough that one core of it saturates one core of any server here. Used by `benchmarks.serving`.

`send_load` is a closed loop: each connection sends a request, waits for all of the answer, and sends the next. `send_steadily` is an open
one: requests fall due at random at a given rate whatever becomes of the others, and each is timed from when it was due, so that a server
that stalls is charged for all that waited. No answer may be anything but 200.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Load", "Measured", "send_load", "send_steadily"]


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, over how many connections, for how long."""

    port: int
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    connections: int = 16
    seconds: float = 3.0

    @property
    def request(self) -> bytes:
        """The request on the wire."""
        lines = [f"POST {self.path} HTTP/1.1", f"host: 127.0.0.1:{self.port}", f"content-length: {len(self.body)}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in self.headers), "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Measured:
    """Answers per second, and how long they took, in milliseconds."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


def send_load(load: Load) -> Measured:
    """Send it. Raises RuntimeError on an answer other than 200, or if a connection is lost."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_send(load))


def send_steadily(load: Load, per_second: float) -> Measured:
    """Send it at this rate, over up to `load.connections` at once. Raises RuntimeError as `send_load` does."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_send_steadily(load, per_second))


async def _send(load: Load) -> Measured:
    loop = asyncio.get_running_loop()
    took: list[float] = []
    began = time.perf_counter()
    ended = loop.create_future()
    left = load.connections

    def answered(connection: _Connection, now: float) -> None:
        nonlocal left
        took.append(now - connection.since)
        if now < began + load.seconds:
            connection.send(load.request, now)
        else:
            left -= 1
            if not left:
                _end(ended, None)

    connections = await _connected(load, answered, ended)
    for connection in connections:
        connection.send(load.request, time.perf_counter())
    await ended
    passed = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return _measured(took, passed)


async def _send_steadily(load: Load, per_second: float) -> Measured:
    gaps = np.random.default_rng(0).exponential(1 / per_second, max(1, round(per_second * load.seconds)))
    took: list[float] = []
    ended = asyncio.get_running_loop().create_future()
    idle: deque[_Connection] = deque()

    def answered(connection: _Connection, now: float) -> None:
        took.append(now - connection.since)
        idle.append(connection)

    connections = await _connected(load, answered, ended)
    idle.extend(connections)
    began = time.perf_counter()
    due = (began + np.cumsum(gaps)).tolist()
    sent = 0
    while len(took) < len(due) and not ended.done():
        now = time.perf_counter()
        while sent < len(due) and due[sent] <= now and idle:
            idle.popleft().send(load.request, due[sent])
            sent += 1
        await asyncio.sleep(0)
    if ended.done():
        await ended
    passed = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return _measured(took, passed)


async def _connected(
    load: Load, answered: Callable[[_Connection, float], None], ended: asyncio.Future[None]
) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    connections = [_Connection(answered, ended) for _ in range(load.connections)]
    for connection in connections:
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", load.port)  # type: ignore[misc]
    return connections


def _measured(took: list[float], seconds: float) -> Measured:
    p50, p99 = np.quantile(np.array(took), [0.5, 0.99], method="inverted_cdf") * 1000
    return Measured(len(took), len(took) / seconds, float(p50), float(p99))


def _end(ended: asyncio.Future[None], error: Exception | None) -> None:
    if not ended.done():
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)


class _Connection(asyncio.Protocol):
    """One request at a time. `since` is what its answer is timed from."""

    def __init__(self, answered: Callable[[_Connection, float], None], ended: asyncio.Future[None]) -> None:
        self._answered = answered
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, since: float) -> None:
        self.since = since
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lower = head.lower()
        if not lower.startswith(b"http/1.1 200"):
            _end(self._ended, RuntimeError(f"an answer was not 200: {self._buffer[:400]!r}"))
            return
        if b"\r\ncontent-length: " in lower:
            length = int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
            if len(body) < length:
                return
        elif not body.endswith(b"0\r\n\r\n"):  # in chunks, of which this is the last
            return
        self._buffer = b""
        self._answered(self, time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:  # else it was closed here
            _end(self._ended, RuntimeError(f"the server closed a connection: {exc}"))
