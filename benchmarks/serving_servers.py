"""relevo's server, stock KServe and stock MLServer behind one package, each on one core. Used by `benchmarks.serving`.

KServe and MLServer come from PyPI, in environments of their own below a cache folder, made on first use.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

__all__ = ["STOCK", "Server", "environment", "run_servers"]

STOCK = {
    "kserve": ("kserve==0.21.0", "scikit-learn==1.9.1", "setuptools<81"),
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "scikit-learn==1.9.1", "setuptools<81"),
}
_START_SECONDS = 180.0


def environment(cache: Path, name: str) -> Path:
    """The interpreter of a stock server's environment."""
    python = cache / name / "bin" / "python"
    if not python.exists():
        uv = [sys.executable, "-m", "uv"]
        print(f"installing {', '.join(STOCK[name])} into {python.parent.parent}", file=sys.stderr, flush=True)
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(cache / name)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *STOCK[name]], check=True)
    return python


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    process: psutil.Popen
    port: int
    ready_seconds: float
    """From its start until it said that it is ready."""

    def cpu_seconds(self) -> float:
        """Of the server and its children, so far."""
        total = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            times = process.cpu_times()
            total += times.user + times.system
        return total


@contextmanager
def run_servers(package: Path, folder: Path, pythons: dict[str, Path], core: int) -> Iterator[dict[str, Server]]:
    """relevo and those of `pythons`, ready, by name; each alone on the core while it starts."""
    running: dict[str, Server] = {}
    try:
        for name in ("relevo", *pythons):
            port = _free_port()
            command = _command(name, package, folder, pythons, port)
            with (folder / f"{name}.log").open("w") as log:
                process = psutil.Popen(command, stdout=log, stderr=log)
            running[name] = Server(process, port, 0.0)
            process.cpu_affinity([core])
            running[name] = Server(process, port, _wait_until_ready(name, running[name], folder))
        yield running
    finally:
        for server in running.values():
            for child in [*server.process.children(recursive=True), server.process]:
                child.terminate()
            with contextlib.suppress(psutil.TimeoutExpired):
                server.process.wait(20)
            if server.process.is_running():
                server.process.kill()


def _command(name: str, package: Path, folder: Path, pythons: dict[str, Path], port: int) -> list[str]:
    model = str(package / "model.joblib")
    if name == "relevo":
        return [sys.executable, "-m", "relevo.serving", "--package", str(package), "--http-port", str(port)]
    if name == "kserve":
        return [str(pythons[name]), str(Path(__file__).with_name("serving_stock_kserve.py")), model, str(port)]
    settings = folder / f"mlserver-{package.name}"
    settings.mkdir(exist_ok=True)
    ports = {"http_port": port, "grpc_port": _free_port(), "metrics_port": _free_port()}
    (settings / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", **ports, "parallel_workers": 0, "debug": False})
    )
    implementation = {"name": "model", "implementation": "mlserver_sklearn.SKLearnModel"}
    (settings / "model-settings.json").write_text(json.dumps({**implementation, "parameters": {"uri": model}}))
    return [str(pythons[name].parent / "mlserver"), "start", str(settings)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(name: str, server: Server, folder: Path) -> float:
    began = time.monotonic()
    while time.monotonic() < began + _START_SECONDS and server.process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{server.port}/v2/models/model/ready", timeout=5).status_code == 200:
                took = time.monotonic() - began
                # A request that is not ordinary makes relevo import KServe to the end before anything is measured.
                httpx.get(f"http://127.0.0.1:{server.port}/v2", timeout=_START_SECONDS)
                return took
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"{name} did not become ready: {(folder / f'{name}.log').read_text()[-2000:]}")
