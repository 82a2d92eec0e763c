"""A real model server in a process of its own, for the tests that ask one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from model import train
from relevo.packaging import Package, load_package

__all__ = ["REVISION", "ROW", "Server", "free_port", "serving", "trained"]

REVISION = "iris-predictor-00007"
ROW = [5.1, 3.5, 1.4, 0.2]


@dataclass
class Server:
    """A running server and where it listens."""

    process: subprocess.Popen[bytes]
    url: str
    grpc_address: str


def free_port() -> int:
    """A port that the OS says is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(package: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run `python -m relevo.serving` with these options until it is ready; end it afterwards."""
    ports = free_port(), free_port()
    command = [sys.executable, "-m", "relevo.serving", "--package", str(package), "--name", "iris"]
    command += ["--revision", REVISION, "--http-port", str(ports[0]), "--grpc-port", str(ports[1]), *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **(env or {})})
        server = Server(process, f"http://127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
        try:
            if not _ready(server):
                log.seek(0)
                pytest.fail(f"the server did not become ready: {log.read()}")
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _ready(server: Server) -> bool:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(f"{server.url}/v2/health/ready", timeout=5, verify=False).status_code == 200:
                return True
        except httpx.TransportError:
            time.sleep(0.05)
    return False


def trained(folder: Path, *arguments: str) -> Package:
    """Train iris into `folder`."""
    assert train.main(["iris", "--version", "1", "--output", str(folder), *arguments]) == 0
    return load_package(folder)
