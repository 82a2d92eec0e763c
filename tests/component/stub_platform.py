"""What the tests of the local platform share: a platform with stub servers, and users who count what they get."""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from relevo.platforms.local.platform import LocalPlatform
from relevo.platforms.local.ports import free_ports
from relevo.platforms.local.process import find_marked
from relevo.platforms.local.program import Layout
from relevo.rollout.platform import ModelRef

STUB = (sys.executable, str(Path(__file__).with_name("stub_server.py")))
INFER = "/v2/models/iris/infer"


def manifest(model: str = "iris:1", name: str = "iris") -> str:
    """An InferenceService of a stub; the model's name says how it behaves."""
    return f"""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: {name}}}
spec: {{predictor: {{model: {{modelFormat: {{name: sklearn}}, storageUri: "oci://dev.local/{model}"}}}}}}
"""


def make(home: Path) -> LocalPlatform:
    """A platform whose packages all exist."""
    return LocalPlatform(home, resolve=lambda _uri, folder: folder, server_command=STUB)


@contextmanager
def running(home: Path, model: str = "iris:1") -> Iterator[LocalPlatform]:
    """A platform that is up; taken down afterwards, whatever happens."""
    platform = make(home)
    try:
        platform.up(manifest(model), proxy_port=free_ports(1)[0], timeout_seconds=90)
        yield platform
    finally:
        platform.down()
        platform.close()


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> float:
    """Wait for `condition`; the seconds it took. Fails after `seconds`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"after {seconds} s still not: {what}"
        time.sleep(0.01)
    return time.monotonic() - started


def with_candidate(platform: LocalPlatform, model: str = "iris:2") -> None:
    """Prepare a candidate and wait until it is ready."""
    platform.prepare("iris", ModelRef(f"oci://dev.local/{model}"))

    def ready() -> bool:
        candidate = platform.observe("iris").candidate
        return candidate is not None and candidate.ready

    until(ready, "candidate ready")


def processes(home: Path) -> dict[str, int]:
    """The pid of each program that runs for this home, by name."""
    return {name: found[0].pid for name, found in find_marked(Layout.of(home)).items()}


@dataclass
class Tally:
    """What the users got: a status code, or the name of an exception, and who answered."""

    outcomes: Counter[str] = field(default_factory=Counter)
    answered_by: Counter[str] = field(default_factory=Counter)
    assigned: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    times: list[tuple[float, str]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests without a 200."""
        return sum(self.outcomes.values()) - self.outcomes["200"]


@contextmanager
def users(url: str, count: int = 4, pause_seconds: float = 0.001) -> Iterator[Tally]:
    """So many users, each with a kept-alive connection, send requests as fast as they are answered until the body ends."""
    tally, stop, lock = Tally(), threading.Event(), threading.Lock()

    def user() -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        while not stop.wait(pause_seconds):
            headers: dict[str, str] = {}
            try:
                connection.request("POST", INFER, b'{"inputs": []}', {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                outcome, headers = str(answer.status), {key.lower(): value for key, value in answer.getheaders()}
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
                connection.close()
            with lock:
                tally.outcomes[outcome] += 1
                tally.times.append((time.monotonic(), outcome))
                tally.answered_by[headers.get("x-relevo-revision", "")] += 1
                tally.assigned[headers.get("x-relevo-assigned", "")] += 1
                tally.labels[headers.get("x-relevo-route", "")] += 1
        connection.close()

    threads = [threading.Thread(target=user, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in threads:
            thread.join(15)
