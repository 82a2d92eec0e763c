"""A place of its own for rollouts that are watched from outside: a RELEVO_HOME, ports, and packages that are trained once.

`soak`, `kills` and the benchmarks run in one; `watch` and `users` look at it from outside. Everything is done as a user does it, by the
command line, so that what is measured is what users get; only `records` reads the store, as a file, without relevo's own code.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from relevo.platforms.local import ports
from scripts.scenarios import STABLE, TRAINER_ARGUMENTS

__all__ = ["RELEVO", "Arena", "ArenaError", "open_arena", "say", "version_of"]

RELEVO = (sys.executable, "-m", "relevo")
PROJECT = Path(__file__).resolve().parent.parent
SAMPLES = PROJECT / "k8s" / "samples"
VALUES = PROJECT / "charts" / "model"
COMMAND_SECONDS = 180.0


class ArenaError(RuntimeError):
    """Something outside what is measured failed: training, or bringing the platform up."""


def version_of(scenario: str) -> str:
    """The candidate's version in a scenario."""
    return "2" if scenario == "healthy" else f"2-{scenario}"


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Arena:
    """One RELEVO_HOME with its ports, for one model."""

    home: Path
    model: str
    port: int
    locust_port: int
    blue_green: bool = False
    """Whether the model is served by two colours."""

    @property
    def environment(self) -> dict[str, str]:
        """What its commands run in."""
        return {**os.environ, "RELEVO_HOME": str(self.home), "NO_COLOR": "1"}

    @property
    def store(self) -> Path:
        """The file that holds its rollouts."""
        return self.home / "relevo.db"

    @property
    def rows(self) -> Path:
        """The held-out rows of version 1."""
        return self.home / "packages" / self.model / "1" / "heldout.npz"

    @property
    def admin_port(self) -> int:
        """Where Envoy's admin interface is now; another one after each `up`."""
        deployment = json.loads((self.home / "local" / "deployment.json").read_text(encoding="utf-8"))
        return int(deployment["admin_port"])

    def relevo(self, *arguments: str, timeout_seconds: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, output captured."""
        return subprocess.run(
            [*RELEVO, *arguments],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )

    def must(self, *arguments: str) -> str:
        """Run a command that has to work; its standard output.

        Raises:
            ArenaError: it did not, with the end of what it said.
        """
        done = self.relevo(*arguments)
        if done.returncode:
            raise ArenaError(
                f"relevo {' '.join(arguments)} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:].strip()}"
            )
        return done.stdout

    def train(self, scenarios: Sequence[str]) -> None:
        """Train version 1 and the scenarios' candidates; what a kept home has already is used again."""
        self.train_versions({"1": STABLE} | {version_of(name): TRAINER_ARGUMENTS[name] for name in scenarios})

    def train_versions(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Train versions by their trainer's arguments; what a kept home has already is used again."""
        for version, extra in wanted.items():
            if (self.home / "packages" / self.model / version / "manifest.json").exists():
                say(f"{self.model}:{version} is there already in {self.home}")
                continue
            say(f"training {self.model}:{version}")
            self.must("train", self.model, "--version", version, "--", *extra)

    def up(self) -> None:
        """Serve version 1."""
        manifest = VALUES / "values-blue.yaml" if self.blue_green else SAMPLES / f"{self.model}.yaml"
        self.must("up", "-f", str(manifest), "--port", str(self.port))

    def down(self) -> None:
        """End everything that runs here."""
        self.relevo("down")

    def afresh(self) -> None:
        """Serve version 1 whatever has happened: the way out when a rollout did not end as it should have."""
        self.relevo("rollback", self.model)
        self.down()
        self.up()

    def deploy(self, version: str, *, shadow: bool = True, rollout: Path | None = None) -> list[str]:
        """The command line that rolls `version` out; between two colours there is always a shadow stage."""
        verb, suffix = ("deploy-blue-green", "-blue-green") if self.blue_green else ("deploy-canary", "")
        file = rollout or SAMPLES / f"rollout-{self.model}{suffix}.yaml"
        options = ["-f", str(file), "--version", version, "--locust-port", str(self.locust_port)]
        flags = [] if self.blue_green else ["--shadow" if shadow else "--no-shadow"]
        return [*RELEVO, verb, self.model, *options, *flags]

    def start(self, command: Sequence[str], *, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command of `deploy`, its output appended to a log in the home."""
        with (log or self.home / "deploy-canary.log").open("ab") as output:
            return subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )


@contextlib.contextmanager
def open_arena(
    model: str, home: Path | None, port: int | None, locust_port: int | None, *, blue_green: bool = False
) -> Iterator[Arena]:
    """An arena in `home`, which is kept, or in a temporary folder. Whatever happens, nothing runs afterwards."""
    folder = home.absolute() if home is not None else Path(tempfile.mkdtemp(prefix="relevo-arena-"))
    folder.mkdir(parents=True, exist_ok=True)
    free = ports.free_ports(2)
    arena = Arena(folder, model, port or free[0], locust_port or free[1], blue_green)
    # What runs in this very process (the killed monitor of scripts/monitor_fault.py) finds the same home.
    before = os.environ.get("RELEVO_HOME")
    os.environ["RELEVO_HOME"] = str(folder)
    old = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield arena
    finally:
        signal.signal(signal.SIGTERM, old)
        arena.down()
        if before is None:
            del os.environ["RELEVO_HOME"]
        else:
            os.environ["RELEVO_HOME"] = before
        if home is None:
            shutil.rmtree(folder, ignore_errors=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that everything is taken down."""
    raise KeyboardInterrupt
