"""kubectl against one context: apply documents with patience, wait, read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from k8s.cluster.commands import run
from k8s.cluster.manifests import Document
from relevo.errors import Permanent

__all__ = ["Kube"]

_PAUSE_SECONDS = 1.0


class Kube:
    """A cluster, by its kubeconfig context."""

    def __init__(self, kubectl: Path, context: str) -> None:
        self._command = [str(kubectl), "--context", context]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """One call of kubectl.

        Raises:
            Permanent: it failed.
        """
        return run([*self._command, *arguments], stdin=stdin)

    def answers(self) -> bool:
        """Whether the API server is ready."""
        try:
            return self.run("get", "--raw", "/readyz", "--request-timeout=5s").strip() == "ok"
        except Permanent:
            return False

    def apply(self, documents: Iterable[Document], patience_seconds: float = 90) -> None:
        """Server-side apply. What a webhook refuses that does not answer yet is tried again.

        Raises:
            Permanent: it is still refused when patience ends.
        """
        items = list(documents)
        if not items:
            return
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        options = ("--server-side", "--force-conflicts", "--field-manager=relevo-cluster")
        self._patiently(patience_seconds, "apply", *options, "-f", "-", stdin=text)

    def wait_established(self, patience_seconds: float = 60) -> None:
        """Wait until the server serves every CustomResourceDefinition.

        `kubectl wait` fails at once on a definition that has no status yet, so it is called again.

        Raises:
            Permanent: one is not served when patience ends.
        """
        self._patiently(
            patience_seconds,
            "wait",
            "--for=condition=Established",
            f"--timeout={patience_seconds:.0f}s",
            "crd",
            "--all",
        )

    def _patiently(self, seconds: float, *arguments: str, stdin: str | None = None) -> None:
        """Call kubectl until it succeeds.

        Raises:
            Permanent: it still fails when the seconds are over.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.run(*arguments, stdin=stdin)
            except Permanent:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    def wait_available(self, namespaces: Iterable[str], timeout_seconds: int = 240) -> None:
        """Wait until every Deployment of some namespaces is available.

        Raises:
            Permanent: one is not in time; the message says why its pods are not ready.
        """
        for namespace in namespaces:
            try:
                self.run(
                    "-n",
                    namespace,
                    "wait",
                    "--for=condition=Available",
                    "deployment",
                    "--all",
                    f"--timeout={timeout_seconds}s",
                )
            except Permanent as error:
                raise Permanent(f"{error.message}\n{self.complaints(namespace)}") from None

    def available(self, namespaces: Iterable[str]) -> bool:
        """Whether every Deployment of some namespaces is available now, and each namespace has one."""
        for namespace in namespaces:
            items = self.items("deployments", namespace)
            if not items or not all(_is_available(item) for item in items):
                return False
        return True

    def items(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of a kind in a namespace."""
        found: list[dict[str, Any]] = json.loads(self.run("-n", namespace, "get", kind, "-o", "json"))["items"]
        return found

    def complaints(self, namespace: str) -> str:
        """Why pods of a namespace are not ready, a line each."""
        lines = []
        for pod in self.items("pods", namespace):
            status = pod.get("status", {})
            for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
                for state in ("waiting", "terminated"):
                    why = container.get("state", {}).get(state)
                    if why and why.get("reason") != "Completed":
                        told = f"{why.get('reason', '')} {why.get('message', '')}".strip()
                        lines.append(f"  {pod['metadata']['name']}: {container['name']}: {told}")
            lines += [
                f"  {pod['metadata']['name']}: {condition.get('message', '')}"
                for condition in status.get("conditions", [])
                if condition["type"] == "PodScheduled" and condition["status"] != "True"
            ]
        return "\n".join(lines)


def _is_available(deployment: dict[str, Any]) -> bool:
    conditions = deployment.get("status", {}).get("conditions", [])
    observed = deployment.get("status", {}).get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return observed and any(c["type"] == "Available" and c["status"] == "True" for c in conditions)
