"""Users of our own, independent of the load generator and of relevo: a keep-alive client on http.client that never repeats a request.

`Users` sends a modest steady stream in a thread and counts what fails (`kills`); `benchmarks.shift_traffic` has its own, at full speed.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "Client", "Tally", "Users", "bodies_of", "read_bodies"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request. Status 0 where no answer came."""

    status: int
    revision: str = ""
    """Who answered, by its own word; empty where no model server did."""
    assigned: str = ""
    """Whom Envoy chose."""
    label: str = ""
    problem: str = ""


def read_bodies(rows: Path, input_name: str = "x") -> list[bytes]:
    """Each held-out row as the body of a V2 request."""
    with np.load(rows, allow_pickle=False) as file:
        return bodies_of(file["x"], input_name)


def bodies_of(x: NDArray[np.float64], input_name: str = "x") -> list[bytes]:
    """Each row of `x` [rows, features] as the body of a V2 request."""
    return [
        json.dumps({"inputs": [{"name": input_name, "shape": [1, len(r)], "datatype": "FP64", "data": r}]}).encode()
        for r in x.tolist()
    ]


class Client:
    """One connection to one address. A request that fails is not sent again, also not on a connection that was closed meanwhile."""

    def __init__(self, port: int, model: str, *, timeout_seconds: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
        self._path = f"/v2/models/{model}/infer"

    def send(self, body: bytes) -> Answer:
        """Send one request and read its answer. Never raises."""
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(0, problem=f"{type(error).__name__} {error}".strip())
        head = response.getheader
        return Answer(
            response.status,
            head("x-relevo-revision", ""),
            head("x-relevo-assigned", ""),
            head("x-relevo-route", ""),
            "" if response.status == 200 else f"HTTP {response.status}",
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass(slots=True)
class Tally:
    """What became of the requests so far."""

    requests: int = 0
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By the revision that answered ("" where no model server did) and the problem."""
    answered_by: Counter[str] = field(default_factory=Counter)

    def failures_of(self, revision: str) -> int:
        """Failed requests that this revision answered itself."""
        return sum(n for (who, _), n in self.failed.items() if who == revision)

    @property
    def failures(self) -> int:
        """All failed requests."""
        return sum(self.failed.values())


class Users:
    """A thread that sends about `per_second` requests through the proxy while the context is open."""

    def __init__(self, port: int, model: str, bodies: list[bytes], *, per_second: float = 20.0) -> None:
        self._client = Client(port, model)
        self._bodies = bodies
        self._pause_seconds = 1 / per_second
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def take(self) -> Tally:
        """What has become of the requests since the last call."""
        with self._lock:
            tally, self._tally = self._tally, Tally()
        return tally

    def _run(self) -> None:
        for body in itertools.cycle(self._bodies):
            began = time.monotonic()
            answer = self._client.send(body)
            with self._lock:
                self._tally.requests += 1
                self._tally.answered_by[answer.revision] += 1
                if answer.status != 200:
                    self._tally.failed[answer.revision, answer.problem] += 1
            if self._stop.wait(max(self._pause_seconds - (time.monotonic() - began), 0.0)):
                return
