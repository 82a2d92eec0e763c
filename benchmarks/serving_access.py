"""What does it cost to ask who asks? The fast path with and without a key, a token, TLS, and the check alone.

`python -m benchmarks.serving_access [--rounds 5] [--seconds 2]`

The same small model, one row a request, 16 kept-alive connections. In each round all servers are asked, one after the other; a ratio is of
one round, and its median and spread over the rounds are printed. The check alone is timed in this process: `Gate.admit` on the headers
of such a request.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from timeit import Timer
from typing import Any

import httpx
import jwt
import psutil
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.measure import table
from benchmarks.serving_load import Load, send_load
from relevo.access.gate import Gate
from relevo.access.jwks import Jwks, PublicKey
from relevo.access.keys import new_key, render
from relevo.access.settings import Oidc, parse_access
from relevo.access.tokens import Issuer
from relevo.platforms.local.ports import free_ports

__all__ = ["main"]

START_SECONDS = 180.0
BODY = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}]}'
KEYS = 1000
"""In the file: their number must not matter."""


@dataclass(frozen=True, slots=True)
class _Server:
    process: psutil.Popen
    port: int
    headers: tuple[tuple[str, str], ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_access", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="relevo-access-") as name:
        folder = Path(name)
        keys = [new_key(f"key-{i}", now=datetime.now(UTC)) for i in range(KEYS)]
        (folder / "keys.jsonl").write_text("\n".join(render(line) for line, _ in keys) + "\n")
        print(f"load average {os.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.seconds:g} s\n")
        print(table(("the check alone", "microseconds"), _alone(folder, keys[-1][1])), "\n")
        with _servers(folder, keys[-1][1], cores[0]) as servers:
            if len(cores) > 1:
                os.sched_setaffinity(0, {cores[1]})
            rounds = [_round(servers, options.seconds) for _ in range(options.rounds)]
    print(table(("server", "requests/s", "p50 ms", "p99 ms", "beside no access"), _lines(rounds)))
    return 0


def _alone(folder: Path, key: str) -> Iterator[tuple[str, str]]:
    gate = Gate(parse_access("keys: keys.jsonl", "settings", folder), "iris")
    plain = [(b"host", b"127.0.0.1:8080"), (b"content-type", b"application/json"), (b"content-length", b"83")]
    given = [*plain, (b"x-api-key", key.encode())]
    wrong = [*plain, (b"x-api-key", key[:-1].encode() + (b"A" if key[-1] != "A" else b"B"))]
    yield "a good key", _microseconds(lambda: gate.admit(given, None))
    yield "a wrong secret", _microseconds(lambda: gate.admit(wrong, None))
    yield "no key", _microseconds(lambda: gate.admit(plain, None))
    issuer, token = _issuer()
    yield "a token that is known", _microseconds(lambda: issuer.remembered(token))

    async def forgotten() -> str:
        seconds = 0.0
        for _ in range(200):
            issuer._known.clear()
            began = time.perf_counter()
            await issuer.check(token)
            seconds += time.perf_counter() - began
        return f"{seconds / 200 * 1e6:.1f}"

    yield "a token for the first time (RS256, 2048 bits)", asyncio.run(forgotten())


def _issuer() -> tuple[Issuer, str]:
    """An issuer whose answer is here, and a good token of it."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    settings = Oidc(issuer="https://id.example.com", audience="relevo")
    keys = Jwks((PublicKey("1", "RS256", private.public_key()),), "")
    issuer = Issuer(settings, fetch=lambda _: keys)
    claims = {"iss": settings.issuer, "aud": settings.audience, "sub": "ada", "exp": int(time.time()) + 3600}
    token = jwt.encode(claims, private, algorithm="RS256", headers={"kid": "1"})
    asyncio.run(issuer.check(token))
    return issuer, token


def _microseconds(call: Any) -> str:
    timer = Timer(call)
    number, _ = timer.autorange()
    return f"{min(timer.repeat(5, number)) / number * 1e6:.2f}"


@contextmanager
def _servers(folder: Path, key: str, core: int) -> Iterator[dict[str, _Server]]:
    """One without access and one that wants a key, ready."""
    package = folder / "iris"
    train = [sys.executable, "-m", "model.train", "iris", "--version", "1", "--output", str(package), "--trees", "100"]
    subprocess.run(train, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (folder / "access.yaml").write_text(yaml.safe_dump({"keys": "keys.jsonl"}))
    json = ("content-type", "application/json")
    ways = {
        "no access": ((), (json,)),
        "a key": (("--access", str(folder / "access.yaml")), (json, ("x-api-key", key))),
    }
    running: dict[str, _Server] = {}
    try:
        for name, (options, headers) in ways.items():
            (port,) = free_ports(1)
            command = [
                sys.executable,
                "-m",
                "relevo.serving",
                "--package",
                str(package),
                "--http-port",
                str(port),
                *options,
            ]
            process = psutil.Popen(command, stderr=subprocess.DEVNULL)
            process.cpu_affinity([core])
            running[name] = _Server(process, port, headers)
            _wait(running[name])
        yield running
    finally:
        for server in running.values():
            server.process.terminate()
            server.process.wait(60)


def _wait(server: _Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    headers = dict(server.headers)
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            # What KServe answers is answered once it has been imported to the end.
            httpx.get(f"http://127.0.0.1:{server.port}/v2", headers=headers, timeout=START_SECONDS, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("a server did not become ready")


def _round(servers: dict[str, _Server], seconds: float) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name, server in servers.items():
        load = Load(server.port, "/v2/models/iris/infer", BODY, server.headers, seconds=seconds)
        measured = send_load(load)
        found[name] = (measured.per_second, measured.p50_ms, measured.p99_ms)
    return found


def _lines(rounds: Sequence[dict[str, tuple[float, float, float]]]) -> Iterator[tuple[str, ...]]:
    for name in rounds[0]:
        rate, p50, p99 = (median(one[name][i] for one in rounds) for i in range(3))
        ratios = [one[name][0] / one["no access"][0] for one in rounds]
        spread = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        yield name, f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", spread


if __name__ == "__main__":
    sys.exit(main())
