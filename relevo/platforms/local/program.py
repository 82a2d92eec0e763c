"""A program that is to be kept running, and what became of it: the files through which the platform and the supervisor talk.

    LOCAL/programs/NAME.json   what is wanted (written by the platform, atomically)
    LOCAL/status.json          what is (written by the supervisor, atomically, when something changed)
    LOCAL/logs/NAME.log        what the program printed
    LOCAL/supervisor.lock      held by the one supervisor as long as it lives; contains its pid

`runner` brings one program from what is wanted to what is; `supervisor` holds the runners.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from relevo import errors
from relevo.platforms.local import files

__all__ = ["FAILED_FOR_GOOD", "Layout", "Program", "ProgramStatus", "log_tail", "read_status"]

FAILED_FOR_GOOD = 3
"""The exit code with which a program says that starting it again is of no use."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Program:
    """One process to be kept running. Changing any field of a running program restarts it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's own environment."""
    health_url: str | None = None
    """Ready when GET answers 200; without it, ready when it runs."""
    health_authority: str | None = None
    """The file of the authority of an https:// health URL."""
    stop_order: int = 10
    """When everything is stopped: lower numbers first."""
    stop_grace_seconds: float = 10.0
    """Between SIGTERM and SIGKILL."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise errors.BadInput(
                f"program {self.name!r}: a name has 1 to 100 of a-z, 0-9, '-' and '.', a letter or digit at both ends"
            )
        if not self.argv:
            raise errors.BadInput(f"program {self.name}: argv is empty")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Program:
        """The inverse of `to_json`; raises KeyError or TypeError for anything else."""
        return cls(
            name=str(value["name"]),
            argv=tuple(str(part) for part in value["argv"]),
            env={str(key): str(text) for key, text in value["env"].items()},
            health_url=value["health_url"],
            health_authority=value.get("health_authority"),
            stop_order=int(value["stop_order"]),
            stop_grace_seconds=float(value["stop_grace_seconds"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """What the supervisor last saw of one program."""

    name: str
    pid: int | None = None
    create_time: float | None = None
    """Of the process, in seconds since the epoch: with the pid, its identity."""
    ready: bool = False
    failed: bool = False
    """It will not be started again."""
    restarts: int = 0
    """Unwanted ends so far, each followed by a new start."""
    last_exit_code: int | None = None
    detail: str = "not started yet"
    """Why it is not ready, in words; empty when it is."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of the local platform is. `root` is HOME/local, absolute."""

    root: Path

    @classmethod
    def of(cls, home: Path) -> Layout:
        """The layout under a RELEVO_HOME."""
        return cls(home.resolve() / "local")

    @property
    def programs(self) -> Path:
        """The folder with one file per wanted program."""
        return self.root / "programs"

    @property
    def status(self) -> Path:
        """What the supervisor saw."""
        return self.root / "status.json"

    @property
    def supervisor_lock(self) -> Path:
        """Held while a supervisor lives."""
        return self.root / "supervisor.lock"

    @property
    def deployment(self) -> Path:
        """Which services are up, with which revisions."""
        return self.root / "deployment.json"

    @property
    def deployment_lock(self) -> Path:
        """Held while one process changes the deployment."""
        return self.root / "deployment.lock"

    @property
    def envoy(self) -> Path:
        """The folder with Envoy's configuration."""
        return self.root / "envoy"

    @property
    def access(self) -> Path:
        """The folder of relevo's own credentials, where access is switched on."""
        return self.root / "access"

    def program(self, name: str) -> Path:
        """The file that wants the program `name`."""
        return self.programs / f"{name}.json"

    def log(self, name: str) -> Path:
        """The log of the program `name`."""
        return self.root / "logs" / f"{name}.log"


def read_status(layout: Layout) -> dict[str, ProgramStatus]:
    """What the supervisor last wrote, by program name. Empty where it has written nothing."""
    found = files.read_json(layout.status) or {}
    known = {one.name for one in fields(ProgramStatus)}
    programs: Mapping[str, Mapping[str, Any]] = found.get("programs", {})
    return {
        name: ProgramStatus(**{key: part for key, part in value.items() if key in known})
        for name, value in programs.items()
    }


def log_tail(path: Path, lines: int = 10) -> str:
    """The last non-empty lines of a log, "" where there is none. Reads at most its last 16 KiB."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - 16384))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
