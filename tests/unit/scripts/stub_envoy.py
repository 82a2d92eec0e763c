"""A stand-in for Envoy's admin interface and for one model server: answers what a test has set, over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Stub:
    """One HTTP server on a free port of 127.0.0.1. `answer(path)` gives status, headers and body."""

    def __init__(self, answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                status, headers, body = answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def routes_dump(service: str, weights: dict[str, int], label: str = "") -> dict[str, Any]:
    """What Envoy's /config_dump?resource=dynamic_route_configs holds."""
    route: dict[str, Any] = {
        "route": {
            "weighted_clusters": {
                "clusters": [{"name": n, "weight": w} if w else {"name": n} for n, w in weights.items()]
            }
        }
    }
    if label:
        route["response_headers_to_add"] = [{"header": {"key": "x-relevo-route", "value": label}}]
    return {"configs": [{"route_config": {"virtual_hosts": [{"name": service, "routes": [route]}]}}]}


def clusters_dump(ports: dict[str, int]) -> dict[str, Any]:
    """What Envoy's /config_dump?resource=dynamic_active_clusters holds."""

    def cluster(name: str, port: int) -> dict[str, Any]:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        return {"cluster": {"name": name, "load_assignment": {"endpoints": endpoints}}}

    return {"configs": [cluster(name, port) for name, port in ports.items()]}


class StubEnvoy(Stub):
    """Envoy's admin interface; set `weights`, `label` and `ports` at any time."""

    def __init__(self, service: str, weights: dict[str, int], ports: dict[str, int]) -> None:
        self.service, self.weights, self.label, self.ports = service, weights, "", ports
        super().__init__(self._answer)

    def _answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        routes = "dynamic_route_configs" in path
        dump = routes_dump(self.service, self.weights, self.label) if routes else clusters_dump(self.ports)
        return 200, {}, json.dumps(dump).encode()


class StubServer(Stub):
    """A model server; set `ready` and `status` at any time."""

    def __init__(self, revision: str, *, ready: bool = True) -> None:
        self.revision, self.ready, self.status = revision, ready, 200
        super().__init__(self._answer)

    def _answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path == "/v2/health/ready":
            return (200 if self.ready else 503), {}, b"{}"
        return self.status, {"x-relevo-revision": self.revision, "x-relevo-assigned": self.revision}, b"{}"
