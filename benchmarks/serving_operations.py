"""The model server over a long run, stopped under load, and overloaded: its memory, failed requests, refusals, and how long health took.

`python -m benchmarks.serving_operations [--seconds 420] [--workers N] [--output docs/measured/serving_operations.md]`.

1. Long run: single rows, 1,000 rows, binary tensors, wrong requests and gRPC calls at once, for most of the time; the memory every second.
2. Stopped under load: keep-alive clients and clients that connect anew for each request, SIGTERM; several times. No request may fail.
3. Overload: a slow model (500 trees by scikit-learn, 5,000 rows a request) asked by 200 clients at once; health is asked meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx
import numpy as np
import psutil

from benchmarks.fuzz_rest import Target, rest_case
from benchmarks.measure import quantiles, table
from benchmarks.serving_fuzz import Found, fuzz, served

__all__ = ["main"]

TARGET = Target("iris", "iris-1")
CLIENTS = 16
GROWTH_BYTES = 32 * 1024**2
"""What the memory may have grown by between the first fifth of the long run and its end."""
_HEADERS = {"content-type": "application/json"}
_OVERLOAD_CLIENTS = 200
_OVERLOAD_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class LongRun:
    """What was answered, and the memory in bytes, once a second."""

    answers: Counter[str]
    memory: list[int]


def _body(rows: int) -> bytes:
    item = {"name": "x", "shape": [rows, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2] * rows}
    return json.dumps({"inputs": [item]}).encode()


def _memory(process: psutil.Popen) -> int:
    found = 0
    for each in [process, *process.children()]:
        try:
            found += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return found


async def _long_run(process: psutil.Popen, port: int, grpc_port: int, seconds: float, found: Found) -> LongRun:
    until = time.monotonic() + seconds
    answers: Counter[str] = Counter()
    memory: list[int] = []
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=120, limits=limits, verify=False
    ) as client:

        async def ask(body: bytes) -> None:
            while time.monotonic() < until:
                answer = await client.post(TARGET.infer, content=body, headers=_HEADERS)
                answers[str(answer.status_code)] += 1

        async def ask_wrongly() -> None:
            seed = 0
            while time.monotonic() < until:
                await fuzz(port, grpc_port, TARGET, 320, seed, found)
                seed += 1

        async def look() -> None:
            while time.monotonic() < until:
                memory.append(_memory(process))
                await asyncio.sleep(1)

        await asyncio.gather(
            *(ask(_body(1)) for _ in range(8)), *(ask(_body(1000)) for _ in range(2)), ask_wrongly(), look()
        )
    return LongRun(answers, memory)


def _stop_under_load(process: psutil.Popen, port: int) -> tuple[int, list[str], float]:
    """How many requests were answered, what failed, and how long it took to end."""
    body, answered, failed = _body(1), [0] * CLIENTS, []
    warm = threading.Semaphore(0)

    def request(connection: http.client.HTTPConnection, method: str, path: str) -> http.client.HTTPResponse:
        connection.request(method, path, body if method == "POST" else None, _HEADERS)
        answer = connection.getresponse()
        answer.read()
        return answer

    def keep(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            answer = request(connection, "POST", TARGET.infer)
            if answer.status != 200:
                failed.append(f"answered {answer.status}")
            answered[number] += 1
            if answered[number] == 100:
                warm.release()
            if answer.getheader("connection") == "close":
                return

    def anew(number: int) -> None:
        while True:
            for method, path in (("GET", "/v2/health/ready"), ("POST", TARGET.infer)):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                status = request(connection, method, path).status
                connection.close()
                if method == "GET" and status == 503:
                    return
                if status != 200:
                    failed.append(f"answered {status}")
            answered[number] += 1
            if answered[number] == 20:
                warm.release()

    def noting(work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
            warm.release()

    clients = [
        threading.Thread(target=noting, args=(anew if number % 4 == 0 else keep, number)) for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for _ in clients:
        warm.acquire(timeout=60)
    began = time.monotonic()
    process.terminate()
    for client in clients:
        client.join()
    code = process.wait(60)
    took = time.monotonic() - began
    if code != 0:
        failed.append(f"exit code {code}")
    return sum(answered), failed, took


async def _overload(port: int) -> tuple[Counter[str], list[float], bool]:
    """Answers by status, the seconds that health took, and whether every refusal said when to come back."""
    answers: Counter[str] = Counter()
    health: list[float] = []
    polite = True
    until = time.monotonic() + _OVERLOAD_SECONDS
    body = _body(5000)
    limits = httpx.Limits(max_connections=_OVERLOAD_CLIENTS)
    base = f"http://127.0.0.1:{port}"
    async with (
        httpx.AsyncClient(base_url=base, timeout=120, limits=limits, verify=False) as client,
        httpx.AsyncClient(base_url=base, timeout=120, verify=False) as prober,
    ):

        async def ask() -> None:
            nonlocal polite
            while time.monotonic() < until:
                answer = await client.post(TARGET.infer, content=body, headers=_HEADERS)
                answers[str(answer.status_code)] += 1
                if answer.status_code == 503:
                    polite = polite and answer.headers.get("retry-after") == "1"
                    await asyncio.sleep(1)

        async def probe() -> None:
            while time.monotonic() < until:
                began = time.monotonic()
                answer = await prober.get("/v2/health/live")
                health.append(time.monotonic() - began)
                answers[f"health {answer.status_code}"] += 1
                await asyncio.sleep(0.05)

        await asyncio.gather(*(ask() for _ in range(_OVERLOAD_CLIENTS)), probe())
    return answers, health, polite


def _slow_package(folder: Path) -> None:
    command = [sys.executable, "-m", "model.train", "iris", "--version", "1", "--output", str(folder), "--trees", "500"]
    subprocess.run([*command, "--runtime", "sklearn"], check=True, capture_output=True)


def main(arguments: list[str] | None = None) -> int:
    """Run all three and print the page. 1 if something failed that must not."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_operations", description="Memory, drain, overload."
    )
    parser.add_argument("--seconds", type=float, default=420.0, help="of the long run")
    parser.add_argument("--stops", type=int, default=10, help="how often it is stopped under load")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    workers = ("--workers", str(options.workers))
    found = Found()
    rest_case(Random(0), TARGET)
    with tempfile.TemporaryDirectory() as name, served(Path(name), *workers) as (process, port, grpc_port, _):
        run = asyncio.run(_long_run(process, port, grpc_port, options.seconds, found))
    stops = []
    for _ in range(options.stops):
        with tempfile.TemporaryDirectory() as name, served(Path(name), *workers) as (process, port, _, _):
            stops.append(_stop_under_load(process, port))
    with (
        tempfile.TemporaryDirectory() as name,
        served(Path(name), *workers, package=_slow_package) as (process, port, _, _),
    ):
        answers, health, polite = asyncio.run(_overload(port))
        most = _memory(process)
    early = max(run.memory[: max(len(run.memory) // 5, 1)])
    late = max(run.memory[-max(len(run.memory) // 5, 1) :])
    failed = [reason for _, reasons, _ in stops for reason in reasons]
    said = [
        ["long run", "right requests, by status", _counted(run.answers)],
        ["", "wrong requests, REST and gRPC; wrongly answered", f"{sum(found.answers.values()):,}; {len(found.wrong)}"],
        ["", "memory, highest of the first and of the last fifth", f"{early / 2**20:.0f} MiB, {late / 2**20:.0f} MiB"],
        ["", "memory, median by tenth of the run", ", ".join(f"{part / 2**20:.0f}" for part in _tenths(run.memory)) + " MiB"],
        ["stopped under load", "stops; requests; failed", f"{options.stops}; {sum(n for n, _, _ in stops):,}; {len(failed)}"],
        ["", "from SIGTERM to the end", "p50 {:.2f} s, max {:.2f} s".format(*(quantiles(took for _, _, took in stops)[i] for i in (0, 2)))],
        ["overload", "answers, by status", _counted(answers)],
        ["", "health meanwhile", "p50 {:.0f} ms, p95 {:.0f} ms, max {:.0f} ms".format(*(1000 * value for value in quantiles(health)))],
        ["", "memory at its end", f"{most / 2**20:.0f} MiB"],
    ]  # fmt: skip
    words = "python -m benchmarks.serving_operations " + shlex.join(sys.argv[1:] if arguments is None else arguments)
    page = (
        f"# The model server in operation\n\n`{words.strip()}`, load average {os.getloadavg()[0]:.1f} at the end.\n\n"
        f"{table(['part', 'what', 'seen'], said)}\n"
    )
    print(page, flush=True)
    for line in [*failed[:20], *found.wrong[:20]]:
        print(line, flush=True)
    if options.output is not None:
        options.output.write_text(page, encoding="utf-8")
    good = not failed and not found.wrong and polite and late - early <= GROWTH_BYTES
    good = good and set(run.answers) == {"200"} and set(answers) <= {"200", "503", "health 200"}
    return 0 if good else 1


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(counts.items()))


def _tenths(values: list[int]) -> list[float]:
    return [float(np.median(part)) for part in np.array_split(np.array(values), min(10, len(values)))]


if __name__ == "__main__":
    sys.exit(main())
