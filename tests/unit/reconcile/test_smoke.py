"""The first requests to a candidate, against a small HTTP server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from relevo.reconcile.smoke import SmokeTest

GOOD = json.dumps({"outputs": [{"name": "predict", "data": [1]}]})


class Answers(BaseHTTPRequestHandler):
    """Answers each request with the next of the server's answers, and keeps what was asked."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, None))  # type: ignore[attr-defined]
        self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
        status, text = self.server.answers.pop(0)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked, server.answers = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_row_is_one_v2_request(server: ThreadingHTTPServer) -> None:
    """A row goes to the model's V2 path as one FP64 tensor of one row; all answered means none failed."""
    server.answers += [(200, GOOD)] * 2  # type: ignore[attr-defined]
    smoke = SmokeTest("iris", "x", [[1.0, 2.0], [3.0, 4.0]]).run(f"http://127.0.0.1:{server.server_port}")
    assert (smoke.requests, smoke.failed) == (2, 0)
    path, body = server.asked[1]  # type: ignore[attr-defined]
    assert path == "/v2/models/iris/infer"
    assert body == {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}]}


def test_what_a_server_loads_last_is_waited_for_first(server: ThreadingHTTPServer) -> None:
    """V1 is answered by what our server loads after it is ready; a server that does not know V1 is not held against it."""
    server.answers += [(200, GOOD)]  # type: ignore[attr-defined]
    smoke = SmokeTest("iris", "x", [[1.0, 2.0]]).run(f"http://127.0.0.1:{server.server_port}")
    paths = [path for path, _ in server.asked]  # type: ignore[attr-defined]
    assert paths == ["/v1/models/iris", "/v2/models/iris/infer"]
    assert smoke.failed == 0


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ((500, "boom"), "HTTP 500: boom"),
        ((200, "not json"), "not V2"),
        ((200, "[]"), "not V2"),
        ((200, '{"outputs": []}'), "not V2"),
        ((200, '{"outputs": [{"data": []}]}'), "without a prediction"),
    ],
)
def test_what_is_no_prediction_has_failed(server: ThreadingHTTPServer, answer: tuple[int, str], detail: str) -> None:
    """An error, nonsense, or an answer without a prediction counts as failed, and the last one's reason is kept."""
    server.answers += [(200, GOOD), answer]  # type: ignore[attr-defined]
    smoke = SmokeTest("iris", "x", [[1.0], [2.0]]).run(f"http://127.0.0.1:{server.server_port}")
    assert (smoke.requests, smoke.failed) == (2, 1)
    assert detail in smoke.detail


def test_nobody_there_has_failed(server: ThreadingHTTPServer) -> None:
    """A refused connection is a failed request with a reason, not an error of ours."""
    port = server.server_port
    server.shutdown()
    server.server_close()
    smoke = SmokeTest("iris", "x", [[1.0]]).run(f"http://127.0.0.1:{port}")
    assert (smoke.requests, smoke.failed) == (1, 1)
    assert smoke.detail
