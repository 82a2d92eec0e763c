"""Where kubectl, helm, kind and promtool are. Other parts of the project, and its tests, ask here.

First the cache's own, then those on the PATH, and else they are built from Go modules (promtool: taken from Debian's package).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from k8s.cluster.debian import program
from k8s.cluster.gomodules import Program, binary
from k8s.cluster.settings import cache_folder

__all__ = ["HELM", "KIND", "KUBECTL", "TOOLS", "helm", "install", "kind", "kubectl", "promtool", "tool"]


KUBECTL = Program("kubernetes", "kubectl", "k8s.io/kubernetes/cmd/kubectl")
HELM = Program("services", "helm", "helm.sh/helm/v3/cmd/helm")
KIND = Program("kind", "kind", "sigs.k8s.io/kind")


def _promtool(cache: Path) -> Path:
    return program(cache, "prometheus", "usr/bin/promtool")


TOOLS: dict[str, Callable[[Path], Path]] = {
    "kubectl": lambda cache: binary(cache, KUBECTL),
    "helm": lambda cache: binary(cache, HELM),
    "kind": lambda cache: binary(cache, KIND),
    "promtool": _promtool,
}
"""How each is made."""


def install(cache: Path, name: str) -> Path:
    """Make a tool in the version that this project pins, and link it into the cache's `bin`."""
    made = TOOLS[name](cache)
    link = cache / "bin" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(made)
    temporary.replace(link)
    return link


def tool(name: str) -> Path:
    """Where a tool of `TOOLS` is; it is made where it is not."""
    cache = cache_folder()
    own = cache / "bin" / name
    if own.exists():
        return own
    found = shutil.which(name)
    return Path(found) if found else install(cache, name)


def kubectl() -> Path:
    """kubectl."""
    return tool("kubectl")


def helm() -> Path:
    """Helm 3."""
    return tool("helm")


def kind() -> Path:
    """kind."""
    return tool("kind")


def promtool() -> Path:
    """promtool, Prometheus' checker of rules."""
    return tool("promtool")
