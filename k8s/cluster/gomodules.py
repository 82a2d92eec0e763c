"""Go modules: binaries built from `modules/*`, and the folders of published modules, whose manifests and charts are read in place.

`go.mod` and `go.sum` there pin every dependency by digest; Go's own module and build caches do the caching below `cache.keep`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from k8s.cluster.cache import digest, keep, kept
from k8s.cluster.commands import find, run
from k8s.cluster.progress import step
from k8s.cluster.versions import GO_AT_LEAST, KUBERNETES
from relevo.errors import BadInput, Permanent

__all__ = ["MODULES", "Program", "binary", "download", "go", "module_folder"]

MODULES = Path(__file__).parent / "modules"
_FLAGS = "-trimpath -buildvcs=false -gcflags=all=-dwarf=false"
"""For every build alike, or nothing is shared. What debuggers read is left out: that saves a sixth of the compiler's time."""
_TAGS = {"prometheus": "remove_all_sd,enable_kubernetes_sd"}
"""Build tags, by program. Prometheus': of its service discoveries only Kubernetes', without the clients of two dozen clouds."""
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


@dataclass(frozen=True, slots=True)
class Program:
    """One Go program.

    Attributes:
        module: the folder below `modules/`.
        name: the binary's name.
        package: the Go package.
        what: what to call it in the progress; its name, unless given.
    """

    module: str
    name: str
    package: str
    what: str = ""

    @property
    def tags(self) -> list[str]:
        """Go's options for its build tags."""
        return ["-tags", _TAGS[self.name]] if self.name in _TAGS else []

    @property
    def linking(self) -> str:
        """The linker's options."""
        return f"-s -w {_version_flags() if self.module == 'kubernetes' else ''}".strip()

    @property
    def key(self) -> str:
        """The digest of what it is made from."""
        options = (_FLAGS, self.linking, *self.tags)
        return digest(MODULES / self.module, self.package, *options, run([go(), "env", "GOVERSION"]))


def binary(cache: Path, program: Program) -> Path:
    """Build a static binary, or take it from the cache."""

    def build(folder: Path) -> None:
        with step(f"Building {program.what or program.name} from Go modules"):
            output = str(folder / program.name)
            options = ["-mod=readonly", *program.tags, "-ldflags", program.linking, "-o", output]
            _go(program.module, "build", *options, program.package)

    return keep(cache, program.name, program.key, build) / program.name


def download(cache: Path, programs: Iterable[Program]) -> None:
    """Download what those of the programs are made from that the cache does not hold, in their order.

    A build does nothing else while it downloads, so this goes beside the builds before it. What fails here the build itself says.
    """
    for program in programs:
        if not kept(cache, program.name, program.key):
            with suppress(Permanent):
                _go(program.module, "list", "-mod=readonly", "-deps", *program.tags, program.package)


def _go(module: str, *arguments: str) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": _FLAGS, "GOWORK": "off"}
    run([go(), *arguments], cwd=MODULES / module, env=environment)


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
