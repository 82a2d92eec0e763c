"""A real model server that is loaded, held up, killed and stopped: what its users see, and what it says of itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import numpy as np
import psutil
import pytest
from gated_model import GATE, Gated
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from model_server import ROW, Server, serving, trained

from relevo.packaging import Package, TrainingResult, save_package
from relevo.packaging.metadata import DataInfo
from relevo.serving.revision import MAX_WAITING

pytestmark = pytest.mark.component

JSON = {"content-type": "application/json"}
INFER = "/v2/models/iris/infer"
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]})
CALL = pb.ModelInferRequest(
    model_name="iris",
    inputs=[
        pb.ModelInferRequest.InferInputTensor(
            name="x", shape=[1, 4], datatype="FP64", contents=pb.InferTensorContents(fp64_contents=ROW)
        )
    ],
)
PATIENCE_SECONDS = 120


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A quick model."""
    return trained(tmp_path_factory.mktemp("iris") / "1", "--trees", "4")


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a package whose model can be held up."""
    rows = np.arange(32.0).reshape(8, 4)
    result = TrainingResult(
        estimator=Gated(),
        feature_names=("a", "b", "c", "d"),
        data=DataInfo(name="iris", digest="0" * 64, train_rows=8, validation_rows=0, test_rows=8),
        x_train=rows,
        x_test=rows,
        y_test=np.zeros(8, np.int64),
        metrics={"test": {"accuracy": 1.0}, "baseline": {"accuracy": 1.0}},
        parameters={},
        runtime="sklearn",
    )
    return save_package(tmp_path_factory.mktemp("gated") / "1", result, name="iris", version="1").folder


class Gate:
    """Holds the model up while it is closed."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def close(self) -> None:
        """Let no prediction end."""
        self._file.touch()

    def open(self) -> None:
        """Let them end."""
        self._file.unlink(missing_ok=True)


@contextmanager
def held_up(package: Path, file: Path, *options: str) -> Iterator[tuple[Server, Gate]]:
    """A server of the model that waits, and its gate."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    gate = Gate(file)
    with serving(package, *options, env={GATE: str(file), "PYTHONPATH": path}) as running:
        try:
            yield running, gate
        finally:
            gate.open()


def ask(server: Server) -> httpx.Response:
    """One request to infer."""
    return httpx.post(server.url + INFER, content=BODY, headers=JSON, timeout=PATIENCE_SECONDS, verify=False)


def metrics(server: Server) -> dict[str, float]:
    """All series, by name and labels."""
    text = httpx.get(f"{server.url}/metrics", timeout=PATIENCE_SECONDS, verify=False).text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    assert len({name for name, _, _ in lines}) == len(lines), "a series is there twice"
    return {name: float(value) for name, _, value in lines}


def test_while_the_model_computes_health_is_answered_and_what_was_accepted_is_finished(
    gated: Path, tmp_path: Path
) -> None:
    """REST and gRPC say that the server is well; told to end, it ends only once the prediction is answered."""
    with held_up(gated, tmp_path / "gate") as (server, gate), ThreadPoolExecutor(2) as threads:
        gate.close()
        rest = threads.submit(ask, server)
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = threads.submit(services.GRPCInferenceServiceStub(channel).ModelInfer, CALL, PATIENCE_SECONDS)
            health = channel.unary_unary("/grpc.health.v1.Health/Check")
            for _ in range(20):
                assert (
                    httpx.get(f"{server.url}/v2/health/live", timeout=PATIENCE_SECONDS, verify=False).status_code == 200
                )
                assert (
                    httpx.get(f"{server.url}/v2/health/ready", timeout=PATIENCE_SECONDS, verify=False).status_code
                    == 200
                )
                assert health(b"", timeout=PATIENCE_SECONDS) == b"\x08\x01"
            assert not rest.done()
            assert not call.done()
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=PATIENCE_SECONDS)
            assert next(watch) == b"\x08\x01"
            server.process.send_signal(signal.SIGTERM)
            assert list(watch) == [b"\x08\x02"]
            gate.open()
            assert rest.result().status_code == 200
            assert call.result().outputs[0].contents.int64_contents == [0]
        assert server.process.wait(PATIENCE_SECONDS) == 0


def test_more_than_the_model_can_take_is_refused_and_the_queue_does_not_grow(gated: Path, tmp_path: Path) -> None:
    """503 with Retry-After, RESOURCE_EXHAUSTED; what had its place in the queue is answered, and then all is as before."""
    beyond = 6
    with held_up(gated, tmp_path / "gate") as (server, gate), ThreadPoolExecutor(MAX_WAITING + beyond) as threads:
        gate.close()
        asked = [threads.submit(ask, server) for _ in range(MAX_WAITING + beyond)]
        until(lambda: sum(future.done() for future in asked) >= beyond, "refusals")
        refused = [future.result() for future in asked if future.done()]
        assert [answer.status_code for answer in refused] == [503] * beyond
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        with grpc.insecure_channel(server.grpc_address) as channel, pytest.raises(grpc.RpcError) as call:
            services.GRPCInferenceServiceStub(channel).ModelInfer(CALL, timeout=PATIENCE_SECONDS)
        assert call.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert httpx.get(f"{server.url}/v2/health/live", timeout=PATIENCE_SECONDS, verify=False).status_code == 200
        gate.open()
        assert sorted(future.result().status_code for future in asked) == [200] * MAX_WAITING + [503] * beyond
        assert ask(server).status_code == 200
        (overload,) = [value for name, value in metrics(server).items() if 'kind="overload"' in name]
        assert overload == beyond + 1


def test_a_model_that_is_stuck_ends_liveness_and_of_several_workers_is_replaced(gated: Path, tmp_path: Path) -> None:
    """One server can only say so; a server with workers kills the one, and another takes its place."""
    with held_up(gated, tmp_path / "gate", "--stuck-seconds", "1") as (server, gate), ThreadPoolExecutor(1) as threads:
        gate.close()
        asked = threads.submit(ask, server)

        def live() -> int:
            return httpx.get(f"{server.url}/v2/health/live", timeout=PATIENCE_SECONDS, verify=False).status_code

        until(lambda: live() == 503, "a stuck model is noticed")
        gate.open()
        assert asked.result().status_code == 200
        until(lambda: live() == 200, "it is well again")
    with held_up(gated, tmp_path / "gate", "--stuck-seconds", "2", "--workers", "2") as (server, gate):
        parent = psutil.Process(server.process.pid)
        until(lambda: len(parent.children()) == 2, "two workers")
        before = {child.pid for child in parent.children()}
        gate.close()
        with pytest.raises(httpx.TransportError):
            ask(server)
        gate.open()
        until(lambda: {c.pid for c in parent.children()} != before and len(parent.children()) == 2, "a new worker")
        assert ask(server).status_code == 200


def test_workers_count_together_and_one_that_dies_is_replaced(package: Package) -> None:
    """One series per revision; no counter goes back when a worker dies; gRPC is served by them as well; SIGTERM ends all of them."""
    with serving(package.folder, "--workers", "2") as server:
        parent = psutil.Process(server.process.pid)
        stop = threading.Event()
        answered = [0, 0]

        def send(number: int) -> None:
            while not stop.is_set():
                try:
                    with httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS, verify=False) as client:
                        for _ in range(20):
                            answered[number] += client.post(INFER, content=BODY, headers=JSON).status_code == 200
                except httpx.TransportError:
                    continue  # its worker was killed

        senders = [threading.Thread(target=send, args=(number,)) for number in range(2)]
        for sender in senders:
            sender.start()
        try:
            seen = metrics(server)
            for kill in range(2):
                until(lambda: len(parent.children()) == 2 and min(answered) > 50 * (kill + 1), "two busy workers")  # noqa: B023
                parent.children()[0].kill()
                for _ in range(20):
                    now = metrics(server)
                    counters = {name for name in now if re.search(r"_(total|count|sum|bucket)(\{|$)", name)}
                    assert {name: now[name] for name in counters if now[name] < seen.get(name, 0.0)} == {}
                    seen = now
        finally:
            stop.set()
            for sender in senders:
                sender.join()
        until(lambda: len(parent.children()) == 2, "two workers again")
        restarts = [name for name in metrics(server) if name.startswith("relevo_worker_restarts_total")]
        until(lambda: metrics(server)[restarts[0]] == 2, "the new workers are counted")
        (predicted,) = [value for name, value in metrics(server).items() if 'predicted="0"' in name]
        # An answer that was counted may have died with its worker on the way.
        assert sum(answered) <= predicted <= sum(answered) + 4
        with grpc.insecure_channel(server.grpc_address) as channel:
            answer = services.GRPCInferenceServiceStub(channel).ModelInfer(CALL, timeout=PATIENCE_SECONDS)
            assert answer.outputs[0].contents.int64_contents == [0]
        workers = parent.children()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_SECONDS) == 0
        assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


def test_workers_end_when_their_parent_is_killed(package: Package) -> None:
    """Nobody would replace or end them any more."""
    with serving(package.folder, "--workers", "2") as server:
        parent = psutil.Process(server.process.pid)
        until(lambda: len(parent.children()) == 2, "two workers")
        workers = parent.children()
        server.process.kill()
        _, alive = psutil.wait_procs(workers, PATIENCE_SECONDS)
        assert not alive


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_no_request_fails_when_the_server_is_stopped_under_load(package: Package, options: tuple[str, ...]) -> None:
    """Clients that keep their connection are told to close it; those that look at the readiness see it end before the port does."""
    with serving(package.folder, *options, "--drain-seconds", "10") as server:
        port = int(server.url.rpartition(":")[2])
        statuses: list[int] = []
        failures: list[str] = []
        enough = threading.Semaphore(0)

        def request(connection: http.client.HTTPConnection, method: str, path: str) -> http.client.HTTPResponse:
            connection.request(method, path, BODY if method == "POST" else None, JSON)
            answer = connection.getresponse()
            answer.read()
            return answer

        def keep() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
            for number in range(10**9):
                answer = request(connection, "POST", INFER)
                statuses.append(answer.status)
                if number == 20:
                    enough.release()
                if answer.getheader("connection") == "close":
                    return

        def anew() -> None:
            for number in range(10**9):
                status = []
                for method, path in (("GET", "/v2/health/ready"), ("POST", INFER)):
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
                    status.append(request(connection, method, path).status)
                    connection.close()
                    if status == [503]:
                        return
                statuses.append(status[1])
                if number == 20:
                    enough.release()

        def noting(work: Callable[[], None]) -> None:
            try:
                work()
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))

        clients = [threading.Thread(target=noting, args=(work,)) for work in [*[keep] * 6, anew, anew]]
        for client in clients:
            client.start()
        for _ in clients:
            assert enough.acquire(timeout=PATIENCE_SECONDS)
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join()
        assert server.process.wait(PATIENCE_SECONDS) == 0
        assert failures == []
        assert set(statuses) == {200}
