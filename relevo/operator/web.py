"""The operator's own small web server: /metrics for Prometheus, /healthz and /readyz for the kubelet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry

__all__ = ["Web"]


class Web:
    """Serves on a port until it is closed. `healthy` and `ready` answer with what is wrong, or with nothing."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, healthy: Callable[[], str], ready: Callable[[], str]
    ) -> None:
        def answer(path: str) -> tuple[int, str, bytes]:
            if path == "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
            checks = {"/healthz": healthy, "/readyz": ready}
            if path not in checks:
                return 404, "text/plain", b"there is /metrics, /healthz and /readyz\n"
            problem = checks[path]()
            return (503 if problem else 200), "text/plain", f"{problem or 'ok'}\n".encode()

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                status, kind, body = answer(self.path.partition("?")[0])
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """A probe every few seconds is no news."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
