"""Closed-loop HTTP load, cheap enough that one core of it saturates one core of any server here. Used by `benchmarks.serving`.

Each connection sends a request, waits for all of the answer, and sends the next: no answer may be anything but 200.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import numpy as np

__all__ = ["Load", "Measured", "send_load"]


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


async def _send(load: Load) -> Measured:
    loop = asyncio.get_running_loop()
    took: list[float] = []
    began = time.perf_counter()
    ended = [loop.create_future() for _ in range(load.connections)]
    for future in ended:
        await loop.create_connection(
            lambda future=future: _Connection(load.request, began + load.seconds, took, future),  # type: ignore[misc]
            "127.0.0.1",
            load.port,
        )
    await asyncio.gather(*ended)
    passed = time.perf_counter() - began
    p50, p99 = np.quantile(np.array(took), [0.5, 0.99], method="inverted_cdf") * 1000
    return Measured(len(took), len(took) / passed, float(p50), float(p99))


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, until: float, took: list[float], ended: asyncio.Future[None]) -> None:
        self._request = request
        self._until = until
        self._took = took
        self._ended = ended
        self._buffer = b""
        self._began = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._next()

    def _next(self) -> None:
        self._began = time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lower = head.lower()
        if not lower.startswith(b"http/1.1 200"):
            self._end(RuntimeError(f"an answer was not 200: {self._buffer[:400]!r}"))
            return
        length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        now = time.perf_counter()
        self._took.append(now - self._began)
        self._buffer = b""
        if now < self._until:
            self._next()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RuntimeError(f"the server closed a connection: {exc}"))

    def _end(self, error: Exception | None) -> None:
        if not self._ended.done():
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)
        if self._transport is not None:
            self._transport.close()
