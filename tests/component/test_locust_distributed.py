"""`loadtests/v2.py` spread over processes, as it runs on a cluster: a master that is steered, and workers that come and go."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from relevo.errors import Transient
from relevo.evidence.locust import LocustSource
from relevo.evidence.source import LoadPlan, ShadowTargets
from relevo.rollout.observation import Reading, Silence

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[2]
STABLE, CANDIDATE = "iris-predictor-00001", "iris-predictor-00002"


class Handler(BaseHTTPRequestHandler):
    """Predicts class 0 for every row, and says which revision it is as no gateway of Knative would say which split."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write for head and body: two small ones would wait for each other's acknowledgement
    seen = 0
    lock = threading.Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        with Handler.lock:
            Handler.seen += 1
        body = json.dumps({"outputs": [{"name": "predict", "data": [0]}]}).encode()
        self.send_response(200)
        self.send_header("x-relevo-revision", STABLE)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


class Load:
    """Master and workers on this machine."""

    def __init__(self, folder: Path, host: str) -> None:
        np.savez(folder / "heldout.npz", x=np.ones((6, 4)), y=np.zeros(6, dtype=int))
        self.folder, self.host = folder, host
        self.web, self.bind = free_port(), free_port()
        self.source = LocustSource(f"http://127.0.0.1:{self.web}", stamps=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    def master(self) -> subprocess.Popen[bytes]:
        options = [
            "--master",
            "--master-bind-host",
            "127.0.0.1",
            "--master-bind-port",
            self.bind,
            "--enable-rebalancing",
        ]
        return self._start(*options, "--web-host", "127.0.0.1", "--web-port", self.web, "--stop-timeout", "5")

    def worker(self) -> subprocess.Popen[bytes]:
        return self._start("--worker", "--master-host", "127.0.0.1", "--master-port", self.bind)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "loadtests", "--host", self.host, "--rows", str(self.folder / "heldout.npz")]
        argv += ["--requests-per-user", "20", *options]
        with (self.folder / "locust.log").open("ab") as log:
            process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def counted(self, label: str | None = None) -> int:
        """Requests by the master's report; -1 while there is none."""
        reading = self.source.read()
        if isinstance(reading, Silence):
            return -1
        return sum(c.requests for (by, _), c in reading.steps.items() if label in (None, by))

    def wait(self, what: Callable[[], bool], *, plan: LoadPlan | None = None, seconds: float = 90) -> None:
        """Wait for it, making the load be as planned meanwhile, as a reconcile loop does."""
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, (self.folder / "locust.log").read_text()[-4000:]
            if plan is not None:
                with contextlib.suppress(Transient):
                    self.source.ensure(plan)
            time.sleep(0.1)

    def close(self) -> None:
        self.source.close()
        for process in reversed(self.processes):
            process.kill()
            process.wait(10)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    Handler.seen = 0
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    made = Load(tmp_path, f"http://127.0.0.1:{http.server_port}")
    yield made
    made.close()
    http.shutdown()
    http.server_close()


def test_a_master_adds_up_what_its_workers_count(load: Load) -> None:
    """Every request of two workers is in the one report, under the label that was announced when it was sent; none is there twice."""
    load.master(), load.worker(), load.worker()
    load.wait(lambda: load.counted() > 20, plan=LoadPlan(4, 10))
    assert load.counted("") == load.counted()
    load.source.announce("u/0")
    load.wait(lambda: load.counted("u/0") > 40)
    load.source.announce("u/1")
    time.sleep(0.5)  # a message takes milliseconds; from here on, nobody may count under the label before
    before = load.counted("u/0")
    load.wait(lambda: load.counted("u/1") > 60)
    assert load.counted("u/0") == before
    load.wait(lambda: load.counted() == Handler.seen, plan=LoadPlan(0, 10))


def test_the_shadow_stage_is_the_workers(load: Load) -> None:
    """What the master is told, the workers do, also one that joins later."""
    load.master()
    shadow = ShadowTargets("u/shadow", STABLE, load.host, CANDIDATE, load.host)
    load.wait(lambda: isinstance(load.source.read(), Silence) and "worker" in load.source.read().reason)  # type: ignore[union-attr]
    load.worker()
    load.wait(lambda: load.counted("u/shadow") > 20, plan=LoadPlan(2, 10, shadow))
    load.wait(lambda: load.counted() == Handler.seen, plan=LoadPlan(0, 10))


def test_a_lost_worker_is_silence_until_another_is_there(load: Load) -> None:
    """A killed worker is noticed within seconds, and its counts stay; the next one takes up the load without a new order."""
    load.master()
    first = load.worker()
    load.wait(lambda: load.counted() > 20, plan=LoadPlan(2, 10))
    load.source.announce("u/0")
    load.wait(lambda: load.counted("u/0") > 20)
    first.kill()
    began = time.monotonic()
    load.wait(lambda: load.counted() == -1)
    assert time.monotonic() - began < 15
    load.worker()
    seen = Handler.seen
    load.wait(lambda: load.counted("u/0") > seen and Handler.seen > seen + 20, plan=LoadPlan(2, 10))


def test_a_new_master_is_a_new_epoch(load: Load) -> None:
    """Workers of a lost master begin anew by themselves, and carry on with the next one, under no label until it announces one."""
    master, _ = load.master(), load.worker()
    load.wait(lambda: load.counted() > 20, plan=LoadPlan(2, 10))
    before = load.source.read()
    load.source.announce("u/0")
    load.wait(lambda: load.counted("u/0") > 20)
    master.kill()
    master.wait(10)
    assert isinstance(load.source.read(), Silence)
    load.master()
    load.wait(lambda: load.counted("") > 20, plan=LoadPlan(2, 10))
    after = load.source.read()
    assert isinstance(before, Reading)
    assert isinstance(after, Reading)
    assert after.epoch != before.epoch
