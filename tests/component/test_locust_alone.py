"""`loadtests/v2.py` as people run it: alone, from the command line."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.component

LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtests/v2.py"


class Handler(BaseHTTPRequestHandler):
    """Predicts class 0 for every row."""

    protocol_version = "HTTP/1.1"
    # One write for head and body: two small ones would wait for each other's acknowledgement.
    wbufsize = -1
    seen: dict[str, int]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen[self.headers["host"]] = self.seen.get(self.headers["host"], 0) + 1
        body = json.dumps({"outputs": [{"name": "predict", "data": [0]}]}).encode()
        self.send_response(200)
        self.send_header("x-relevo-revision", "iris-predictor-00001")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.seen = {}
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "heldout.npz"
    np.savez(path, x=np.ones((6, 4)), y=np.zeros(6, dtype=int))
    return path


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *options]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def test_it_runs_headless_from_any_folder(server: ThreadingHTTPServer, rows: Path, tmp_path: Path) -> None:
    """Without relevo around it, `locust -f loadtests/v2.py` sends its rows for as long as asked, and exits with 0 if all went well."""
    host = f"http://127.0.0.1:{server.server_port}"
    options = (
        "--host",
        host,
        "--rows",
        str(rows),
        "--headless",
        "-u",
        "3",
        "-r",
        "10",
        "-t",
        "2s",
        "--stop-timeout",
        "5",
    )
    argv = command(*options, "--host-header", "iris.default.example.com", "--only-summary")
    run = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 0, run.stderr
    assert list(Handler.seen) == ["iris.default.example.com"]
    shown = next(line for line in run.stderr.splitlines() + run.stdout.splitlines() if line.startswith("POST"))
    assert int(shown.split("V2 infer")[1].split()[0]) == sum(Handler.seen.values()) > 20


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--host", "http://127.0.0.1:1"], "--rows is missing"),
        (["--host", "http://127.0.0.1:1", "--rows", "none.npz"], "none.npz: no such file"),
        (["--rows", "heldout.npz"], "--host is missing"),
        (["--rows", "heldout.npz", "--host", "ftp://x"], "ftp://x"),
        (
            ["--rows", "heldout.npz", "--host", "http://127.0.0.1:1", "--requests-per-user", "0"],
            "--requests-per-user is 0",
        ),
    ],
)
def test_bad_options_end_it_with_a_sentence(rows: Path, options: list[str], reason: str) -> None:
    """Exit code 3 tells a supervisor that starting again is of no use; one line names the option, and there is no traceback."""
    argv = command("--headless", *options)
    run = subprocess.run(argv, cwd=rows.parent, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 3
    assert "Traceback" not in run.stderr
    assert reason in run.stderr.splitlines()[-1]
