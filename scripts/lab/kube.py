"""A cluster by its context: kubectl for what people do, and the API for what is read often."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

from k8s.cluster.tools import tool
from scripts.arena import PROJECT

__all__ = ["GATEWAY", "Lab", "LabError", "Object", "until"]

GATEWAY = (os.environ.get("RELEVO_GATEWAY") or "http://127.0.0.1:8090").partition("://")[2].rstrip("/")
"""HOST:PORT of the gateway: where RELEVO_GATEWAY says, or where `make cluster` puts it."""

COMMAND_SECONDS = 120.0

_NOT_REACHED = ("TLS handshake timeout", "connection refused", "client connection lost", "connection reset by peer")

Object = dict[str, Any]
T = TypeVar("T")


class LabError(RuntimeError):
    """Something outside what is tested did not work, or not in time."""


def _kubectl() -> str:
    cache = (
        os.environ.get("RELEVO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relevo"
    )
    own = Path(cache) / "bin" / "kubectl"
    found = str(own) if own.exists() else shutil.which("kubectl")
    if found is None:
        raise LabError("there is no kubectl, neither on the PATH nor in the cache; `make cluster` puts one there")
    return found


@dataclass(frozen=True)
class Lab:
    """A cluster. `gateway` is HOST:PORT, where users reach it from here."""

    context: str
    gateway: str = GATEWAY
    kubectl_path: str = field(default_factory=_kubectl)

    @property
    def kind_cluster(self) -> str:
        """kind's name of it, into whose node images can be loaded; "" where kind did not make it."""
        return self.context.removeprefix("kind-") if self.context.startswith("kind-") else ""

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = COMMAND_SECONDS) -> str:
        """Run kubectl; its standard output. Tried again where the API server was not reached: a busy machine may be slow to answer.

        Raises:
            LabError: it failed, with what it said.
        """
        for pause in (1, 3, 0):
            done = self.try_kubectl(*arguments, stdin=stdin, timeout_seconds=timeout_seconds)
            if not done.returncode or not any(words in done.stderr for words in _NOT_REACHED):
                break
            time.sleep(pause)
        if done.returncode:
            raise LabError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def try_kubectl(
        self, *arguments: str, stdin: str | None = None, timeout_seconds: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, whatever becomes of it."""
        command = [self.kubectl_path, "--context", self.context, *arguments]
        try:
            return subprocess.run(
                command, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_seconds
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, -1, "", f"not done within {timeout_seconds:g} s")

    def helm(self, *arguments: str, namespace: str, timeout_seconds: float = COMMAND_SECONDS) -> str:
        """Run helm in a namespace, from the project's folder; its standard output.

        Raises:
            LabError: it failed, with what it said.
        """
        where = ["--namespace", namespace, "--kube-context", self.context]
        command = [str(tool("helm")), *arguments, *where]
        done = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=timeout_seconds
        )
        if done.returncode:
            raise LabError(f"{' '.join(command)}: {(done.stderr.strip() or done.stdout.strip())[-2000:]}")
        return done.stdout

    def apply(self, *manifests: Mapping[str, Any], namespace: str) -> None:
        """`kubectl apply` some manifests."""
        self.kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        """One object; None where there is none."""
        text = self.kubectl("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def items(self, kind: str, namespace: str, labels: str = "") -> list[Object]:
        """All objects of a kind in a namespace, with these labels."""
        chosen = ["-l", labels] if labels else []
        found: list[Object] = json.loads(self.kubectl("-n", namespace, "get", kind, *chosen, "-o", "json"))["items"]
        return found

    @cached_property
    def client(self) -> Any:
        """The official client, for what is read often."""
        from kubernetes import config as untyped

        config: Any = untyped
        return config.new_client_from_config(context=self.context)

    def kill_pod(self, namespace: str, name: str) -> None:
        """Delete a pod with force, as its node's death would: at once, and without being asked.

        Raises:
            LabError: the API server refused.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        request = self.client.param_serialize(
            "DELETE",
            path,
            body={"gracePeriodSeconds": 0},
            header_params={"Content-Type": "application/json"},
            auth_settings=["BearerToken"],
        )
        answer = self.client.call_api(*request, _request_timeout=30)
        if answer.status >= 300 and answer.status != 404:
            raise LabError(f"DELETE {path}: HTTP {answer.status}")

    def ask(self, path: str, *, seconds: float = 10.0, **query: str) -> Any:
        """GET a path of the API: the open answer, as urllib3 has it.

        Raises:
            LabError: nothing answers.
        """
        import urllib3

        request = self.client.param_serialize(
            "GET", path, query_params=list(query.items()), auth_settings=["BearerToken"]
        )
        try:
            return self.client.call_api(*request, _request_timeout=seconds).response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise LabError(f"GET {path}: {error}") from error

    def read(self, path: str) -> Object | None:
        """One object by its path of the API; None where there is none."""
        answer = self.ask(path)
        found = json.loads(answer.data)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise LabError(f"GET {path}: {found.get('message', answer.status)}")
        return dict(found)


def until(what: str, look: Callable[[], T | None], *, seconds: float, every_seconds: float = 0.2) -> T:
    """Look again and again until there is something to see.

    Raises:
        LabError: there was nothing in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise LabError(f"not within {seconds:g} s: {what}")
        time.sleep(every_seconds)
