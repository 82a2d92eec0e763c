"""Users of our own: a process that knows nothing of relevo, sends rows through the gateway and writes down what became of each request.

    python -m scripts.lab.users --gateway 127.0.0.1:8080 --host iris-predictor.default.example.com --model iris --rows heldout.npz
        --log answers.jsonl --per-second 20 --most 50000 --seconds 600

It ends at SIGTERM, after so many requests or so many seconds, whichever is first. Requests are due at fixed times, spread over a few
connections; none is ever repeated. One line per answer: [sent at, answered at (both Unix time), status (0: none), revision, problem].
`GatewayUsers` runs it and reads what it wrote.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.users import read_bodies

__all__ = ["GatewayUsers", "Seen", "by_revision", "main"]

TIMEOUT_SECONDS = 30.0
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one request. Times are Unix time; status 0 where no answer came."""

    sent_at: float
    answered_at: float
    status: int
    revision: str
    problem: str

    @property
    def failed(self) -> bool:
        return self.status != 200


class GatewayUsers:
    """The process, while the context is open; afterwards `answers` has all of them."""

    def __init__(
        self,
        gateway: str,
        host: str,
        model: str,
        rows: Path,
        *,
        per_second: float = 10.0,
        connections: int = 2,
        most: int = 100_000,
        seconds: float = 900.0,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="relevo-users-")
        self._log = Path(self._folder.name) / "answers.jsonl"
        self._log.touch()
        self._command = [
            sys.executable,
            "-m",
            "scripts.lab.users",
            "--gateway",
            gateway,
            "--host",
            host,
            "--model",
            model,
        ]
        self._command += ["--rows", str(rows), "--log", str(self._log), "--per-second", f"{per_second:g}"]
        self._command += ["--connections", str(connections), "--most", str(most), "--seconds", f"{seconds:g}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._found: list[Seen] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=PROJECT, stdin=subprocess.DEVNULL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        try:
            if process.poll() is None:
                process.terminate()
            process.wait(TIMEOUT_SECONDS + 5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._found = self._read()
        self._folder.cleanup()

    @property
    def ended(self) -> bool:
        """Whether it sends no more."""
        return self._process is not None and self._process.poll() is not None

    def answers(self) -> list[Seen]:
        """All requests so far that have ended, by when they were sent."""
        return self._read() if self._found is None else self._found

    def count(self) -> int:
        """How many have ended."""
        return len(self.answers())

    def _read(self) -> list[Seen]:
        lines = self._log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        return sorted((Seen(*json.loads(line)) for line in lines), key=lambda one: one.sent_at)


def by_revision(answers: Iterable[Seen]) -> Counter[tuple[str, str]]:
    """How many there are by revision ("" where no model server answered) and by "200", or the problem."""
    return Counter((one.revision, one.problem or str(one.status)) for one in answers)


def main(arguments: list[str] | None = None) -> int:
    """Send until it is time to end."""
    parser = argparse.ArgumentParser(prog="python -m scripts.lab.users", description=__doc__.partition("\n")[0])
    parser.add_argument("--gateway", required=True, help="HOST:PORT")
    parser.add_argument("--host", required=True, help="the Host header")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True, type=Path)
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--per-second", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--most", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=900.0)
    options = parser.parse_args(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    lock = threading.Lock()
    bodies = read_bodies(options.rows)
    due = _schedule(time.monotonic(), 1 / options.per_second, options.most, options.seconds)
    with options.log.open("a", encoding="utf-8", buffering=1) as log:

        def run() -> None:
            client = _Client(options.gateway, options.host, f"/v2/models/{options.model}/infer")
            while not stop.is_set():
                with lock:
                    number, at = next(due, (-1, 0.0))
                if number < 0:
                    break
                if stop.wait(max(at - time.monotonic(), 0.0)):
                    break
                line = json.dumps(client.send(bodies[number % len(bodies)]))
                with lock:
                    log.write(f"{line}\n")
            client.close()

        threads = [threading.Thread(target=run) for _ in range(options.connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return 0


def _schedule(began: float, every: float, most: int, seconds: float) -> Iterator[tuple[int, float]]:
    """When each request is due. One that cannot be sent in time is sent late, and none is left out."""
    for number in range(most):
        at = began + number * every
        if at - began > seconds or time.monotonic() - began > seconds:
            return
        yield number, at


class _Client:
    """One connection, kept alive. What fails is not sent again."""

    def __init__(self, gateway: str, host: str, path: str) -> None:
        address, _, port = gateway.partition(":")
        self._connection = http.client.HTTPConnection(address, int(port or 80), timeout=TIMEOUT_SECONDS)
        self._head = {"Content-Type": "application/json", "Host": host}
        self._path = path

    def send(self, body: bytes) -> tuple[float, float, int, str, str]:
        sent_at = time.time()
        try:
            if self._connection.sock is None:
                self._connection.connect()
            self._connection.request("POST", self._path, body, self._head)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return sent_at, time.time(), 0, "", f"{type(error).__name__} {error}".strip()
        problem = "" if response.status == 200 else f"HTTP {response.status} {text[:120].decode('utf-8', 'replace')}"
        return sent_at, time.time(), response.status, response.getheader("x-relevo-revision", ""), problem

    def close(self) -> None:
        self._connection.close()


if __name__ == "__main__":
    sys.exit(main())
