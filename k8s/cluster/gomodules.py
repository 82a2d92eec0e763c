"""Go modules: binaries built from `modules/*`, and the folders of published modules, whose manifests and charts are read in place.

`go.mod` and `go.sum` there pin every dependency by digest; Go's own module and build caches do the caching below `cache.keep`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from k8s.cluster.cache import digest, keep
from k8s.cluster.commands import find, run
from k8s.cluster.progress import step
from k8s.cluster.versions import GO_AT_LEAST, KUBERNETES
from relevo.errors import BadInput

__all__ = ["MODULES", "binary", "go", "module_folder"]

MODULES = Path(__file__).parent / "modules"
_FLAGS = "-trimpath -buildvcs=false"
_TAGS = {"prometheus": "remove_all_sd,enable_kubernetes_sd"}
"""Build tags, by module. Prometheus': of its service discoveries only Kubernetes', without the clients of two dozen clouds."""
_NO_GO = "Install Go {} or newer (https://go.dev/dl)."


def go() -> Path:
    """The Go command.

    Raises:
        BadInput: no Go, or one that is too old.
    """
    wanted = ".".join(map(str, GO_AT_LEAST))
    program = find("go", _NO_GO.format(wanted))
    version = run([program, "env", "GOVERSION"]).strip()
    numbers = tuple(int(part) for part in re.findall(r"\d+", version))[:3]
    if numbers < GO_AT_LEAST:
        raise BadInput(f"Go is {version}, and Kubernetes' modules need {wanted}.", next_step=_NO_GO.format(wanted))
    return program


def binary(cache: Path, module: str, name: str, package: str, what: str) -> Path:
    """Build one static binary of a module below `modules/`, or take it from the cache.

    Args:
        cache: the cache's folder.
        module: the folder below `modules/`.
        name: the binary's name.
        package: the package to build.
        what: what to call it in the progress.
    """
    flags = f"-s -w {_version_flags() if module == 'kubernetes' else ''}".strip()
    tags = ["-tags", _TAGS[module]] if module in _TAGS else []
    key = digest(MODULES / module, package, flags, *tags, run([go(), "env", "GOVERSION"]))

    def build(folder: Path) -> None:
        with step(f"Building {what} from Go modules"):
            command: list[str | Path] = [
                go(),
                "build",
                "-mod=readonly",
                *tags,
                "-ldflags",
                flags,
                "-o",
                folder / name,
                package,
            ]
            environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": _FLAGS, "GOWORK": "off"}
            run(command, cwd=MODULES / module, env=environment)

    return keep(cache, name, key, build) / name


def _version_flags() -> str:
    """What `kubectl version` and the node's own checks say: without it, v0.0.0."""
    variable = "k8s.io/component-base/version.git"
    major, minor = KUBERNETES.removeprefix("v").split(".")[:2]
    values = {"Version": KUBERNETES, "Major": major, "Minor": minor, "TreeState": "clean"}
    return " ".join(f"-X {variable}{name}={value}" for name, value in values.items())


def module_folder(module: str, path: str) -> Path:
    """Where Go keeps the source of a published module, in the version that `modules/MODULE` pins. It is downloaded if need be."""
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    listed = run([go(), "mod", "download", "-json", path], cwd=MODULES / module, env=environment)
    return Path(json.loads(listed)["Dir"])
