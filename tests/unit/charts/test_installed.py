"""charts/relevo/files/installed.py, what `helm test` runs: it must fail when something is wrong."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import pytest

from tests.unit.charts.tools import CHARTS


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, with little patience."""
    spec = importlib.util.spec_from_file_location("installed", CHARTS / "relevo/files/installed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DEADLINE_SECONDS", 0.0)
    monkeypatch.setattr(module, "api", lambda path: {"items": [path]})
    return module


@pytest.fixture
def operator() -> Iterator[tuple[str, dict[str, tuple[int, str]]]]:
    """A stub of the operator: its URL and its answers by path."""
    answers = {"/healthz": (200, "ok"), "/metrics": (200, "# HELP x\nrelevo_rollouts 1\n")}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", answers
        server.shutdown()


def test_all_is_well(installed: ModuleType, operator, capsys: pytest.CaptureFixture[str]) -> None:
    """With the API served and the operator well it ends with 0, a sentence for each question."""
    assert installed.main([operator[0], "team-a", "team-b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:3] for line in lines] == ["ok:", "ok:", "ok:"]
    assert "namespace team-a" in lines[0]


def test_definition_is_missing(
    installed: ModuleType, operator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the API it ends with 1, but still says how the operator is."""

    def refuse(path: str) -> dict[str, object]:
        raise OSError("404 page not found")

    monkeypatch.setattr(installed, "api", refuse)
    assert installed.main([operator[0]]) == 1
    output = capsys.readouterr().out
    assert "FAILED: rollouts" in output
    assert "ok: the operator" in output


@pytest.mark.parametrize(
    "broken", [{"/healthz": (500, "lease lost")}, {"/metrics": (200, "# nothing\n")}, {"/metrics": (503, "starting")}]
)
def test_operator_is_unwell(
    installed: ModuleType, operator, broken: dict[str, tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator that is unwell or measures nothing makes the test fail, with the reason."""
    url, answers = operator
    answers.update(broken)
    assert installed.main([url]) == 1
    assert "FAILED: well" in capsys.readouterr().out


def test_operator_does_not_answer(installed: ModuleType) -> None:
    """No answer at all is a failure as well."""
    assert installed.main(["http://127.0.0.1:1"]) == 1
