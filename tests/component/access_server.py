"""A real model server with access switched on, for `test_access*.py`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import yaml
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services

from model import train
from relevo.access.authority import Authority
from relevo.access.keys import new_key, render
from relevo.platforms.local.ports import free_ports

INFER = "/v2/models/iris/infer"
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
CALL = pb.ModelInferRequest(
    model_name="iris",
    inputs=[
        pb.ModelInferRequest.InferInputTensor(
            name="x",
            shape=[1, 4],
            datatype="FP64",
            contents=pb.InferTensorContents(fp64_contents=[5.1, 3.5, 1.4, 0.2]),
        )
    ],
)


@dataclass
class Server:
    """A running server, where it listens and what it wrote."""

    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int
    log_path: Path
    scheme: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.http_port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def infer(self, headers: Mapping[str, str] | None = None, **named: Any) -> httpx.Response:
        """One V2 request on a connection of its own."""
        return httpx.post(self.url + INFER, json=BODY, headers=headers, timeout=60, trust_env=False, **named)

    def call(
        self, metadata: Mapping[str, str] | None = None, credentials: grpc.ChannelCredentials | None = None
    ) -> Any:
        """The same by gRPC; raises grpc.RpcError."""
        address = f"127.0.0.1:{self.grpc_port}"
        secure = credentials is not None
        with grpc.secure_channel(address, credentials) if secure else grpc.insecure_channel(address) as channel:
            stub = services.GRPCInferenceServiceStub(channel)
            return stub.ModelInfer(CALL, metadata=list((metadata or {}).items()), timeout=60)

    def errors(self, **named: Any) -> dict[str, float]:
        """relevo_request_errors_total by kind."""
        text = httpx.get(f"{self.url}/metrics", timeout=60, trust_env=False, **named).text
        lines = [line for line in text.splitlines() if line.startswith("relevo_request_errors_total")]
        return {line.split('kind="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Wait for `condition` and give what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.05)
    return found


def train_iris(folder: Path) -> Path:
    """A small package."""
    assert train.main(["iris", "--version", "1", "--output", str(folder), "--trees", "8"]) == 0
    return folder


def command(package: Path, settings: dict[str, Any] | Path, http_port: int, grpc_port: int | None = None) -> list[str]:
    """How the server is started."""
    access = str(settings) if isinstance(settings, Path) else json.dumps(settings)
    parts = [sys.executable, "-m", "relevo.serving", "--package", str(package), "--name", "iris", "--access", access]
    parts += ["--http-port", str(http_port)]
    return [*parts, *(["--grpc-port", str(grpc_port)] if grpc_port else [])]


@contextmanager
def serving(package: Path, folder: Path, settings: dict[str, Any], *options: str) -> Iterator[Server]:
    """The server with these access settings, in a file in `folder`, for the body."""
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / "access.yaml"
    file.write_text(yaml.safe_dump(settings))
    http_port, grpc_port = free_ports(2)
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen([*command(package, file, http_port, grpc_port), *options], stderr=log)
    server = Server(process, http_port, grpc_port, log_path, "https" if "tls" in settings else "http")
    try:
        until(lambda: "ready after" in server.log or process.poll() is not None, "the server is ready", 180)
        assert process.poll() is None, server.log
        until(lambda: _answers(server), "the server answers", 60)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(server: Server) -> bool:
    try:
        httpx.get(f"{server.url}/v2/health/live", verify=False, timeout=10, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def refused_start(package: Path, settings: dict[str, Any] | Path) -> str:
    """What a server says that must refuse its settings; it ends with the exit code for bad input."""
    done = subprocess.run(
        command(package, settings, free_ports(1)[0]), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def write_keys(path: Path, *names: str, **changes: Any) -> dict[str, str]:
    """A file of new keys with these names; the keys by name."""
    made = {name: new_key(name, now=datetime.now(UTC), **changes) for name in names}
    with path.open("a") as file:
        file.writelines(render(line) + "\n" for line, _ in made.values())
    return {name: key for name, (_, key) in made.items()}


def write_pair(folder: Path, authority: Authority, name: str, **changes: Any) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, in files called after `name`, renewed by a rename each."""
    issued = authority.issue(name, ["127.0.0.1", "localhost"], **changes)
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    for path, content in zip(paths, (issued.certificate, issued.key), strict=True):
        new = path.with_suffix(".new")
        new.touch(0o600)
        new.write_bytes(content)
        new.replace(path)
    return paths


EXPIRED = {"since": timedelta(days=-2), "valid_for": timedelta(days=1)}
