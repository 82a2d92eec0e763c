"""charts/model/files/ask.py, what `helm test` of a colour and of the Route runs: it must fail when an answer is wrong."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest

from tests.unit.charts.tools import CHARTS

METADATA = {"name": "iris", "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, with no patience."""
    spec = importlib.util.spec_from_file_location("ask", CHARTS / "model/files/ask.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DEADLINE_SECONDS", 0.0)
    return module


class Server:
    """A stub of a model server: what it is to answer, and what it was sent."""

    url: str
    status = 200
    revision = "iris-blue-predictor-00001"

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"model_name": "iris", "outputs": [{"name": "predict", "data": [0]}]}
        self.bodies: list[dict[str, Any]] = []
        self.tags: list[str | None] = []
        self.keys: list[str | None] = []


@pytest.fixture
def server() -> Iterator[Server]:
    stub = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(METADATA)

        def do_POST(self) -> None:
            stub.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            stub.keys.append(self.headers.get("X-API-Key"))
            stub.tags.append(self.headers.get("Knative-Serving-Tag"))
            self._reply(stub.answer)

        def _reply(self, content: dict[str, Any]) -> None:
            self.send_response(stub.status)
            self.send_header("X-Relevo-Revision", stub.revision)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        stub.url = f"http://127.0.0.1:{listener.server_address[1]}"
        yield stub
        listener.shutdown()


def test_right_answer(program: ModuleType, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The row goes out as V2, the expected class of the right revision comes back: exit code 0."""
    assert program.main([server.url, "iris", "[5.1, 3.5]", "0", "--revision", "iris-blue-predictor-"]) == 0
    assert server.bodies == [{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [5.1, 3.5]}]}]
    assert capsys.readouterr().out.startswith("ok: ")


def test_row_of_ones(program: ModuleType, server: Server) -> None:
    """Without a row it sends as many ones as the model takes."""
    assert program.main([server.url, "iris", "[]", ""]) == 0
    assert server.bodies[0]["inputs"][0]["data"] == [1.0, 1.0]


def test_carries_the_key_it_is_given(program: ModuleType, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, where a Secret puts it; without one there is no such header."""
    program.main([server.url, "iris", "[]", ""])
    monkeypatch.setenv("RELEVO_KEY", "relevo_1_2\n")
    program.main([server.url, "iris", "[]", ""])
    assert server.keys == [None, "relevo_1_2"]


def test_pinned_to_a_colour(program: ModuleType, server: Server) -> None:
    """With --tag the request carries Knative's header for it."""
    assert program.main([server.url, "iris", "[]", "", "--tag", "green"]) == 0
    assert server.tags == ["green"]


@pytest.mark.parametrize(
    ("arguments", "change", "said"),
    [
        (["[5.1, 3.5]", "1"], {}, "expected '1'"),
        (["[5.1]", ""], {}, "takes 2 features"),
        (["[]", "", "--revision", "iris-green-predictor-"], {}, "not one of 'iris-green-predictor-'"),
        (["[]", ""], {"status": 503}, "503"),
        (["[]", ""], {"answer": {"model_name": "wine", "outputs": []}}, "model 'wine'"),
        (["[]", ""], {"answer": {"model_name": "iris", "outputs": []}}, "FAILED"),
    ],
)
def test_wrong_answer(
    program: ModuleType,
    server: Server,
    arguments: list[str],
    change: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wrong class, model or revision, a wrong row, or no 2xx: exit code 1, with the reason."""
    for name, value in change.items():
        setattr(server, name, value)
    assert program.main([server.url, "iris", *arguments]) == 1
    assert said in capsys.readouterr().out
