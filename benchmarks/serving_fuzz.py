"""Wrong requests by the hundred thousand, over REST and gRPC: every one is refused with a reason, and the server stays as it was.

`python -m benchmarks.serving_fuzz [--requests 100000] [--output docs/measured/serving_fuzz.md]`. The same seed sends the same requests. An
answer is wrong if it is a 5xx (or gRPC's INTERNAL, UNKNOWN, UNAVAILABLE), has no reason in it, accepts what is surely wrong, or answers
the request that is hidden behind one whose lengths lie. `fuzz_rest` and `fuzz_calls` make the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc  # type: ignore[import-untyped]
import httpx
import psutil
from grpc import aio

from benchmarks.fuzz_calls import Call, grpc_case
from benchmarks.fuzz_rest import RIGHT, WRONG, Case, Target, rest_case
from benchmarks.measure import table

__all__ = ["Found", "fuzz", "main", "served"]

CONNECTIONS = 16
ANSWER_SECONDS = 120.0
GRPC_SHARE = 0.2
MEMORY_BYTES = 64 * 1024**2
"""What the server may have grown by, from after the first fifth to the end."""
_REFUSED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


@dataclass(slots=True)
class Found:
    """What came back: how many of each kind by status, and what was wrong."""

    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By protocol, kind and status."""
    wrong: list[str] = field(default_factory=list)

    def note(self, protocol: str, kind: str, status: str, trouble: str | None, sent: bytes) -> None:
        """Count an answer."""
        self.answers[protocol, kind, status] += 1
        if trouble is not None:
            self.wrong.append(f"{protocol} {kind}: {trouble}; sent {sent[:300]!r}")


class _Line:
    """A connection that is made anew when it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, case: Case) -> tuple[str, str | None]:
        """Send the case; the status of its answer, and what is wrong with that."""
        used = self._writer is not None
        found = await self._sent(case)
        if found[0] == "closed" and used and not case.cut:
            # A server may close a connection that waits for its next request: a request that met that is sent again.
            found = await self._sent(case)
        return found

    async def _sent(self, case: Case) -> tuple[str, str | None]:
        if self._writer is None or self._writer.is_closing() or (self._reader is not None and self._reader.at_eof()):
            self.close()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        reader, writer = self._reader, self._writer
        assert reader is not None
        answer = asyncio.ensure_future(self._answer(reader, case))
        try:
            writer.write(case.wire)
            part, times = case.more
            for _ in range(times):
                if answer.done():  # a client that goes on would have its connection cut off
                    break
                writer.write(part)
                await writer.drain()
            if case.cut:
                writer.write_eof()
            status, trouble, closing = await answer
            if case.end and not closing:
                trouble = trouble or await self._silence(reader, case)
        except (OSError, asyncio.IncompleteReadError):
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            status, trouble, closing = (
                "closed",
                None if case.cut else "the connection was closed without an answer",
                True,
            )
        if case.end or closing:
            self.close()
        return status, trouble

    async def _answer(self, reader: asyncio.StreamReader, case: Case) -> tuple[str, str | None, bool]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if not head.startswith("http/1.1 "):
            return "none", f"is answered {head[:200]!r}", True
        status = head[9:12]
        if case.method == "HEAD":
            body = b""
        elif "transfer-encoding: chunked" in head:
            body = b"".join([part async for part in _chunks(reader)])
        else:
            body = await reader.readexactly(int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0] or 0))
        return status, _trouble(case, status, head, body), "connection: close" in head

    async def _silence(self, reader: asyncio.StreamReader, case: Case) -> str | None:
        """After a lie nothing may be answered any more."""
        if case.expected != WRONG:
            return None
        more = await reader.read(300)
        return f"after it came {more!r}" if more else None

    def close(self) -> None:
        """Let go of the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


def _trouble(case: Case, status: str, head: str, body: bytes) -> str | None:
    if status[0] not in "24":
        return f"is answered {status}: {body[:300]!r}"
    if case.expected == WRONG and status[0] == "2":
        return f"is accepted: {body[:200]!r}"
    if case.expected == RIGHT and status[0] != "2":
        return f"is refused with {status}: {body[:200]!r}"
    if "x-relevo-revision: " not in head:
        return "the answer does not name the revision"
    if status[0] == "4" and case.method != "HEAD":
        try:
            reason = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            return f"{status} without a reason: {body[:200]!r}"
        if not isinstance(reason, str) or not reason or "Traceback" in reason:
            return f"{status} with the reason {reason!r}"
    return None


async def _call(channel: aio.Channel, call: Call) -> tuple[str, str | None]:
    try:
        await channel.unary_unary(call.method)(call.message, timeout=ANSWER_SECONDS)
    except aio.AioRpcError as error:
        code, reason = error.code(), error.details()
        if code not in _REFUSED or call.expected == RIGHT:
            return code.name, f"ends with {code.name}: {reason}"
        return code.name, None if reason else f"{code.name} without a reason"
    return "OK", "is accepted" if call.expected == WRONG else None


async def fuzz(port: int, grpc_port: int, target: Target, requests: int, seed: int, found: Found) -> None:
    """Send as many requests as asked, over several connections at once."""
    shares = [requests // CONNECTIONS + (number < requests % CONNECTIONS) for number in range(CONNECTIONS)]

    async def one(number: int, share: int) -> None:
        random = Random(f"{seed}.{number}")
        line = _Line(port)
        async with aio.insecure_channel(f"127.0.0.1:{grpc_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            for _ in range(share):
                if random.random() < GRPC_SHARE:
                    call = grpc_case(random, target)
                    found.note("gRPC", call.kind, *await _call(channel, call), call.message)
                else:
                    case = rest_case(random, target)
                    try:
                        async with asyncio.timeout(ANSWER_SECONDS):
                            status, trouble = await line.send(case)
                    except TimeoutError:
                        status, trouble = "none", "is not answered"
                        line.close()
                    found.note("REST", case.kind, status, trouble, case.wire)
        line.close()

    await asyncio.gather(*(one(number, share) for number, share in enumerate(shares)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _small_package(folder: Path) -> None:
    train = [sys.executable, "-m", "model.train", "iris", "--version", "1", "--output", str(folder), "--trees", "32"]
    subprocess.run(train, check=True, capture_output=True)


@contextmanager
def served(
    folder: Path, *options: str, package: Callable[[Path], None] = _small_package
) -> Iterator[tuple[psutil.Popen, int, int, Path]]:
    """A server of an iris model that `package` writes: its process, its two ports, and its log."""
    log, place = folder / "server.log", folder / "iris"
    package(place)
    ports = _free_port(), _free_port()
    command = [
        sys.executable,
        "-m",
        "relevo.serving",
        "--package",
        str(place),
        "--name",
        "iris",
        "--revision",
        "iris-1",
    ]
    with log.open("w") as file:
        process = psutil.Popen(
            [*command, "--http-port", str(ports[0]), "--grpc-port", str(ports[1]), *options], stdout=file, stderr=file
        )
        try:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    # A path that KServe's application answers: it is there as well then.
                    if httpx.get(f"http://127.0.0.1:{ports[0]}/v2", timeout=60, verify=False).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            else:
                raise RuntimeError(f"the server did not become ready: {log.read_text()}")
            yield process, *ports, log
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)


def main(arguments: list[str] | None = None) -> int:
    """Fuzz a server of its own and print the table. 1 if an answer was wrong, or the server died, grew or logged a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_fuzz", description="Wrong requests, REST and gRPC."
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    found, target = Found(), Target("iris", "iris-1")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (process, port, grpc_port, log):
        asyncio.run(fuzz(port, grpc_port, target, options.requests // 5, options.seed, found))
        before = process.memory_info().rss
        asyncio.run(fuzz(port, grpc_port, target, options.requests - options.requests // 5, options.seed + 1, found))
        alive = process.poll() is None
        after = process.memory_info().rss if alive else 0
        tracebacks = log.read_text().count("Traceback")
    took = time.monotonic() - began
    good = alive and not found.wrong and not tracebacks and after - before <= MEMORY_BYTES
    words = "python -m benchmarks.serving_fuzz " + shlex.join(sys.argv[1:] if arguments is None else arguments)
    said = (
        f"{sum(found.answers.values()):,} requests in {took:.0f} s, load average {os.getloadavg()[0]:.1f}: "
        f"{len(found.wrong)} answers were wrong, {tracebacks} tracebacks logged, the server {'lived' if alive else 'died'}; "
        f"its memory was {before / 2**20:.0f} MiB after the first fifth and {after / 2**20:.0f} MiB at the end."
    )
    page = f"# The model server, asked wrongly\n\n`{words.strip()}`\n\n{said}\n\n{_table(found)}\n"
    print(page, flush=True)
    for line in found.wrong[:50]:
        print(line, flush=True)
    if options.output is not None:
        options.output.write_text(page, encoding="utf-8")
    return 0 if good else 1


def _table(found: Found) -> str:
    rows: dict[tuple[str, str], list[str]] = {}
    for (protocol, kind, status), count in sorted(found.answers.items()):
        rows.setdefault((protocol, kind), []).append(f"{status}: {count:,}")
    return table(
        ["protocol", "kind of request", "answers"], [[*key, ", ".join(counts)] for key, counts in rows.items()]
    )


if __name__ == "__main__":
    sys.exit(main())
