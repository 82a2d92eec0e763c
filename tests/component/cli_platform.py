"""The real command line on a platform of its own: what `test_cli*.py` and `test_scenarios.py` call, and packages that are wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
import yaml

from relevo.packaging.manifest import MANIFEST, write_manifest
from relevo.platforms.local.ports import free_ports
from relevo.platforms.local.process import find_marked
from relevo.platforms.local.program import Layout
from relevo.rollout.state import RolloutState
from relevo.store.rollouts import RolloutStore

ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-m", "relevo")
ROW = [5.1, 3.5, 1.4, 0.2]


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str


@dataclass
class Cli:
    """`relevo` with one RELEVO_HOME."""

    home: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    locust_port: int = field(default_factory=lambda: free_ports(1)[0])

    @property
    def env(self) -> dict[str, str]:
        """Narrow and without colour: neither may change a sentence."""
        return {**os.environ, "RELEVO_HOME": str(self.home), "COLUMNS": "80", "NO_COLOR": "1"}

    def run(self, *arguments: object, timeout: float = 120, before: Callable[[], None] | None = None) -> Answer:
        """Run a command to its end; `before` is called in its process first."""
        done = subprocess.run(
            [*PYTHON, *map(str, arguments)],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            preexec_fn=before,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return Answer(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: object) -> Answer:
        """Run a command that must succeed."""
        answer = self.run(*arguments)
        assert answer.code == 0, (arguments, answer)
        return answer

    def refused(self, *arguments: object, says: tuple[str, ...], code: int = 2) -> Answer:
        """Run a command that must fail with this code, and with all of `says` in its message on stderr."""
        answer = self.run(*arguments)
        assert answer.code == code, (arguments, answer)
        for part in says:
            assert part in answer.err, (part, answer.err)
        return answer

    @contextmanager
    def background(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """A command that runs while the body does; killed afterwards if it still does."""
        process = subprocess.Popen(
            [*PYTHON, *map(str, arguments)],
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def state(self) -> RolloutState | None:
        """The last rollout as it is stored."""
        store = RolloutStore(self.home)
        try:
            record = store.latest()
        finally:
            store.close()
        return record.state if record else None

    def uid(self) -> str | None:
        """The last rollout's name."""
        state = self.state()
        return state.uid if state else None

    def served_by(self, model: str = "iris", row: list[float] | None = None) -> str:
        """Send a user's request; the revision that answered it."""
        values = row or ROW
        tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP64", "data": values}
        url = f"http://127.0.0.1:{self.port}/v2/models/{model}/infer"
        answer = httpx.post(url, json={"inputs": [tensor]}, timeout=20, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-relevo-revision"]

    def kill(self, program: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a program of this home only."""
        for process in find_marked(Layout.of(self.home)).get(program, []):
            os.kill(process.pid, number)

    def programs(self) -> set[str]:
        """The names of what runs for this home."""
        return set(find_marked(Layout.of(self.home)))


def cannot_run(reason: str) -> NoReturn:
    """Say why a test cannot run on this machine. In CI that is a failure: there everything must run."""
    if os.environ.get("CI"):
        pytest.fail(f"cannot run: {reason}")
    pytest.skip(reason)


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Wait for `condition` and give what it gave. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.1)
    return found


def copy_package(home: Path, version: str, *, of: str = "1", model: str = "iris") -> Path:
    """A copy of a package under another version; to be spoilt."""
    folder = home / "packages" / model / version
    shutil.copytree(home / "packages" / model / of, folder)
    return folder


def seal(folder: Path) -> None:
    """Write the manifest anew: every digest is right, whatever the files hold."""
    (folder / MANIFEST).unlink()
    write_manifest(folder)


def train(home: Path, *trainings: tuple[str, ...]) -> None:
    """Run `relevo train` for each, two at a time: `("iris", "--version", "1", "--", "--trees", "16")`."""
    environment = {**os.environ, "RELEVO_HOME": str(home)}
    waiting = [[*PYTHON, "train", *one] for one in trainings]
    while waiting:
        now, waiting = waiting[:2], waiting[2:]
        running = [
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for command in now
        ]
        for process in running:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output.decode()


@contextmanager
def platform(home: Path, manifest: str = "k8s/samples/iris.yaml") -> Iterator[Cli]:
    """`relevo up` for the body, then `relevo down`, whatever happens."""
    cli = Cli(home)
    try:
        cli.ok("up", "-f", manifest, "--port", cli.port)
        yield cli
    finally:
        cli.run("down")


def rollout_file(folder: Path, name: str = "rollout.yaml", **changes: Any) -> Path:
    """A Rollout that is decided within seconds; `changes` replace fields of its spec."""
    spec = {
        "target": "iris",
        "storageUri": "oci://dev.local/iris:2",
        "strategy": {"canary": {"weights": [20, 60], "stepSeconds": 1, "stepRequests": 5}},
        "shadow": {"enabled": False},
        "baseline": {"requests": 40},
        "load": {"usersFrom": 4, "usersTo": 8},
        "checks": {
            "errors": {"margin": 10, "objective": 0.2},
            "latency": {"gate": False, "tolerance": 10},
            "accuracy": {"margin": 10, "objective": 0.2},
        },
        # On a busy machine Locust takes its time to start; a hold would be right but is not the subject here.
        "limits": {"evidenceTimeoutSeconds": 60},
        **changes,
    }
    document = {"apiVersion": "relevo.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "iris"}, "spec": spec}
    path = folder / name
    path.write_text(yaml.safe_dump(document))
    return path
