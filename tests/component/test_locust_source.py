"""`LocustSource` with a real Locust process that runs `loadtests/v2.py` against a stub V2 server which knows what it answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from relevo import errors
from relevo.evidence.locust import LocustSource
from relevo.evidence.locust_program import LocustProgram
from relevo.evidence.source import LoadPlan, ShadowTargets
from relevo.rollout.observation import Counts, Reading, Silence

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[2]
STABLE, CANDIDATE = "iris-predictor-00001", "iris-predictor-00002"


class StubServer:
    """A V2 server in a thread. Row i is [i, 0, 0, 0] with label i % 3, and so the server can say what it did with it.

    Of its answers every 5th of the candidate's errs and every 4th of the others is wrong. `seen` has what became of them.
    """

    def __init__(self, *, revision: str = "") -> None:
        self.only = revision
        self.label = "uid-1/2"
        self.seen: Counter[tuple[str, str]] = Counter()
        self.bodies: list[dict[str, object]] = []
        self.hosts: set[str] = set()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(5)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = {
                    line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in head.split("\r\n")[1:] if line
                }
                document = json.loads(await reader.readexactly(int(fields["content-length"])))
                assert head.startswith("POST /v2/models/iris/infer HTTP/1.1")
                self.hosts.add(fields["host"])
                self.bodies[:] = [document]
                writer.write(self._answer(int(document["inputs"][0]["data"][0])))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, row: int) -> bytes:
        total = self.seen.total()
        revision = self.only or (CANDIDATE if total % 10 == 0 else STABLE)
        mine = sum(count for (name, _), count in self.seen.items() if name == revision)
        errs, wrong = revision == CANDIDATE and mine % 5 == 4, mine % 4 == 3
        self.seen[revision, "error" if errs else "wrong" if wrong else "right"] += 1
        status, document = ("500 Internal Server Error", {"error": "no"}) if errs else ("200 OK", None)
        label = (row + wrong) % 3
        document = document or {"outputs": [{"name": "predict", "shape": [1], "datatype": "INT64", "data": [label]}]}
        body = json.dumps(document)
        route = "" if self.only else f"x-relevo-route: {self.label}\r\n"
        # An erring server is known by what the proxy assigned, as when Envoy itself answers 503.
        who = f"x-relevo-assigned: {revision}\r\n" if errs else f"x-relevo-revision: {revision}\r\n"
        return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{route}{who}\r\n{body}".encode()

    def count(self, revision: str) -> tuple[int, int, int]:
        """Requests, errors, wrong answers of a revision."""
        kinds = {kind: self.seen[revision, kind] for kind in ("right", "wrong", "error")}
        return sum(kinds.values()), kinds["error"], kinds["wrong"]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


class LocustProcess:
    def __init__(self, folder: Path, host: str, **changes: object) -> None:
        rows = folder / "heldout.npz"
        x = np.zeros((30, 4))
        x[:, 0] = np.arange(30)
        np.savez(rows, x=x, y=np.arange(30) % 3, feature_names=np.array(["a", "b", "c", "d"]))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {"model": "iris", "rows": rows, "requests_per_user": 50.0, "input_name": "x", **changes}
        self.program = LocustProgram(ROOT / "loadtests/v2.py", host, port, **settings)  # type: ignore[arg-type]
        self.log = folder / "locust.log"
        self.source = LocustSource(self.program.web_url)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.program.argv(),
            env=os.environ | self.program.env(),
            cwd=self.log.parent,
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
        )
        try:
            until(lambda: isinstance(self.source.read(), Reading), "Locust answers", seconds=90)
        except BaseException:
            self.kill()
            raise

    def reading(self) -> Reading:
        reading = self.source.read()
        assert isinstance(reading, Reading), reading
        return reading

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


def until(holds: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    server = StubServer()
    yield server
    server.close()


@pytest.fixture
def locust(stub: StubServer, tmp_path: Path) -> Iterator[LocustProcess]:
    process = LocustProcess(tmp_path, stub.url)
    yield process
    process.kill()


def settle(locust: LocustProcess) -> Reading:
    """Stop the load and wait until every request that was sent has been counted."""
    locust.source.ensure(LoadPlan(0, 100))
    until(lambda: locust.reading().users == 0, "all users stopped")
    return locust.reading()


def test_counts_are_exactly_what_the_server_saw(locust: LocustProcess, stub: StubServer) -> None:
    """Every request is counted once, under the label and the revision of its answer, with its error, class and correctness."""
    locust.source.ensure(LoadPlan(10, 100))
    until(lambda: stub.seen.total() > 600, "600 requests")
    reading = settle(locust)
    assert set(reading.steps) == {("uid-1/2", STABLE), ("uid-1/2", CANDIDATE)}
    for revision in (STABLE, CANDIDATE):
        requests, failed, wrong = stub.count(revision)
        counts = reading.steps["uid-1/2", revision]
        assert (counts.requests, counts.errors, counts.wrong) == (requests, failed, wrong)
        assert counts.labelled == requests - failed == sum(counts.latency) == sum(counts.predictions.values())
        assert set(counts.predictions) <= {"0", "1", "2"}
    assert stub.bodies[0]["inputs"][0] | {"data": []} == {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": []}  # type: ignore[index]
    shown = httpx.get(f"{locust.program.web_url}/stats/requests", trust_env=False).json()
    assert {entry["name"] for entry in shown["stats"]} == {"V2 infer", "Aggregated"}


def test_load_follows_the_plan_up_and_down(locust: LocustProcess, stub: StubServer) -> None:
    """`ensure` brings the users to the planned number from above, from below and from nothing, and repeats cost nothing."""
    before = locust.reading()
    assert (before.users, dict(before.steps)) == (0, {})
    for users in (4, 12, 3, 0, 2):
        locust.source.ensure(LoadPlan(users, 50))
        until(lambda users=users: locust.reading().users == users, f"{users} users")  # type: ignore[misc]
        locust.source.ensure(LoadPlan(users, 50))
    log = locust.log.read_text()
    assert log.count("Ramping to") == 4, log
    assert locust.reading().epoch == before.epoch


def test_a_killed_locust_is_silent_and_comes_back_as_a_new_epoch(locust: LocustProcess, stub: StubServer) -> None:
    """A source that is gone says so in words, takes no orders (transient), and counts from nothing under another epoch."""
    locust.source.ensure(LoadPlan(2, 50))
    until(lambda: stub.seen.total() > 10, "some requests")
    epoch = locust.reading().epoch
    locust.kill()
    silence = locust.source.read()
    assert isinstance(silence, Silence)
    assert silence.reason == f"connection refused at 127.0.0.1:{locust.program.web_port}"
    with pytest.raises(errors.Transient, match="connection refused"):
        locust.source.ensure(LoadPlan(2, 50))
    locust.start()
    again = locust.reading()
    assert again.epoch != epoch
    assert dict(again.steps) == {}
    locust.source.ensure(LoadPlan(2, 50))
    until(lambda: bool(locust.reading().steps), "counts in the new epoch")


def test_a_hung_locust_is_silent_within_the_timeout(locust: LocustProcess) -> None:
    """A source that does not answer costs no more than its time-out, and is heard again as soon as it goes on."""
    os.kill(locust.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        silence = locust.source.read()
        took = time.monotonic() - started
    finally:
        os.kill(locust.process.pid, signal.SIGCONT)
    assert isinstance(silence, Silence)
    assert silence.reason.startswith("no answer within 1 s")
    assert took < 1.5
    until(lambda: isinstance(locust.source.read(), Reading), "Locust answers again")


def test_shadow_sends_the_same_rows_to_both_and_counts_pairs(locust: LocustProcess, stub: StubServer) -> None:
    """In the shadow stage both revisions get as many requests, pairs count where both answered, and users' traffic goes on."""
    stable, candidate = StubServer(revision=STABLE), StubServer(revision=CANDIDATE)
    try:
        targets = ShadowTargets("uid-1/shadow", STABLE, stable.url, CANDIDATE, candidate.url)
        locust.source.ensure(LoadPlan(8, 100, targets))
        until(lambda: candidate.seen.total() > 200, "200 pairs")
        locust.source.ensure(LoadPlan(8, 100, None))
        reading = settle(locust)
        shadow = {revision: reading.steps["uid-1/shadow", revision] for revision in (STABLE, CANDIDATE)}
        for revision, server in ((STABLE, stable), (CANDIDATE, candidate)):
            assert (shadow[revision].requests, shadow[revision].errors, shadow[revision].wrong) == server.count(
                revision
            )
        assert shadow[STABLE].requests == shadow[CANDIDATE].requests
        pairs = reading.pairs["uid-1/shadow"]
        assert pairs.compared == shadow[CANDIDATE].requests - shadow[CANDIDATE].errors
        assert 0 < pairs.disagreed <= shadow[STABLE].wrong + shadow[CANDIDATE].wrong
        proxied = sum((reading.steps["uid-1/2", revision] for revision in (STABLE, CANDIDATE)), Counts()).requests
        assert proxied == stub.seen.total() > 0.5 * pairs.compared
    finally:
        stable.close()
        candidate.close()


def test_requests_that_nobody_answers_are_nobodys(locust: LocustProcess, stub: StubServer) -> None:
    """A request without an answer is an error of no revision: nobody is blamed for what nobody is known to have done."""
    locust.source.ensure(LoadPlan(2, 50))
    until(lambda: stub.seen.total() > 0, "a request")
    settle(locust)
    with httpx.Client(trust_env=False) as client:
        fields = {"user_count": "2", "spawn_rate": "50", "host": "http://127.0.0.1:9"}
        assert client.post(f"{locust.program.web_url}/swarm", data=fields).json()["success"]
    until(lambda: ("", "") in locust.reading().steps, "errors")
    counts = settle(locust).steps["", ""]
    assert counts.requests == counts.errors > 0
    assert sum(counts.latency) == counts.labelled == 0


def test_a_bad_shadow_command_is_refused_with_its_reason(locust: LocustProcess) -> None:
    """What cannot be a shadow stage is a 400 that names the field, and changes nothing."""
    url = f"{locust.program.web_url}/relevo"
    answer = httpx.post(url, content=b'{"shadow": {"label": "a/shadow"}}', trust_env=False)
    assert answer.status_code == 400
    assert "stable_revision" in answer.json()["error"]
    assert httpx.get(url, trust_env=False).json()["shadow"] is None
