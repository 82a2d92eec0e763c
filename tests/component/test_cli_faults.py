"""Faults in the middle of a rollout, on the real command line: programs that are killed or stopped, a full disk, `relevo down`.

Every rollout here is of healthy models, so its right verdict is known; a fault may cost time and must not change it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import joblib
import pytest
from cli_platform import ROOT, Cli, cannot_run, copy_package, platform, rollout_file, seal, train, until

from relevo import errors
from relevo.evidence.envoy import EnvoySource
from relevo.platforms.local import deployment as deployments
from relevo.platforms.local.envoy_admin import Admin, LiveSplit
from relevo.platforms.local.program import Layout
from relevo.rollout.observation import Counts, Reading
from relevo.rollout.state import Cause, HoldReason, Phase, Verdict
from relevo.store.rollouts import RolloutStore

pytestmark = pytest.mark.component

BRIEF = {"canary": {"weights": [20, 60], "stepSeconds": 4, "stepRequests": 5}}
"""Long enough for a fault in its first step, and soon decided."""

WATCHED_SECONDS = 3.0
"""So long is looked that nothing happens: several ticks."""


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Iris 1 is served and 2 is packaged."""
    home = tmp_path_factory.mktemp("faults") / "home"
    train(home, ("iris", "--version", "1", "--", "--trees", "5"), ("iris", "--version", "2", "--", "--trees", "6"))
    with platform(home) as cli:
        yield cli


@pytest.fixture(autouse=True)
def ended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test leaves under way is rolled back, so that only its own failure is seen."""
    yield
    if "cli" in request.fixturenames:
        cli = request.getfixturevalue("cli")
        state = cli.state()
        if state is not None and not state.phase.is_terminal:
            cli.run("rollback")


class Told:
    """What a command in the background has told so far, line by line."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self.lines: list[str] = []
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            self.lines.append(line)

    def all(self) -> str:
        """Everything, once the command has ended."""
        self._thread.join(20)
        return "".join(self.lines)

    def says(self, words: str) -> bool:
        return any(words in line for line in self.lines)


def service(cli: Cli) -> deployments.Service:
    """What is up, as the platform's own file says."""
    found = deployments.load(Layout.of(cli.home)).find("iris")
    assert found is not None
    return found


def split(cli: Cli) -> LiveSplit | None:
    """What Envoy really routes by; None while it does not answer."""
    admin = Admin(deployments.load(Layout.of(cli.home)).admin_port)
    with suppress(errors.Transient):
        return admin.split("iris")
    return None


def other(cli: Cli) -> str:
    """The healthy version that is not served now."""
    return "oci://dev.local/iris:" + ("1" if service(cli).stable.storage_uri.endswith(":2") else "2")


def pid(cli: Cli, program: str) -> int | None:
    """Of a program that the supervisor runs now."""
    status = json.loads(Layout.of(cli.home).status.read_text())["programs"].get(program)
    return status["pid"] if status else None


def deploy(cli: Cli, folder: Path, *options: object, **changes: Any) -> tuple[object, ...]:
    """The command line of a rollout to the other version."""
    file = rollout_file(folder, **{"storageUri": other(cli), "strategy": BRIEF, **changes})
    return ("deploy-canary", "-f", file, "--locust-port", cli.locust_port, *options)


def at_first_step(cli: Cli, before: str | None) -> None:
    """Wait until a rollout that is not `before` gives the candidate its first traffic."""

    def there() -> bool:
        state, live = cli.state(), split(cli)
        new = state is not None and state.uid != before and state.phase is Phase.SHIFTING and state.hold is None
        return new and live is not None and 20 in live.weights.values()

    until(there, "the first step", 90)


def test_envoy_killed_in_the_middle_comes_back_with_the_same_split(cli: Cli, tmp_path: Path) -> None:
    """The driver waits for Envoy and goes on: same weights, same label, promoted; `status -w` follows it to the same end."""
    before = cli.uid()
    with cli.background(*deploy(cli, tmp_path)) as driver:
        told = Told(driver.stderr)
        at_first_step(cli, before)
        with cli.background("status", "-w") as watcher:
            was, killed = split(cli), pid(cli, "envoy")
            supervisor = int(Layout.of(cli.home).supervisor_lock.read_text())
            os.kill(supervisor, signal.SIGSTOP)  # so that Envoy is away until the driver has seen it
            try:
                cli.kill("envoy")
                until(lambda: told.says("Envoy does not answer"), "the driver has told it", 60)
            finally:
                os.kill(supervisor, signal.SIGCONT)
            until(lambda: pid(cli, "envoy") not in (None, killed), "a new Envoy", 30)
            assert until(lambda: split(cli), "its routes", 30) == was
            assert was is not None
            assert was.label == f"{cli.uid()}/1"
            assert driver.wait(90) == 0, told.all()
            shown, err = watcher.communicate(timeout=30)
            assert (watcher.returncode, "PROMOTED" in shown) == (0, True), (shown, err)
    state = cli.state()
    assert state is not None
    assert (state.phase, state.verdict, state.cause) == (Phase.PROMOTED, Verdict.PASS, Cause.EVIDENCE)
    assert cli.served_by() == state.candidate


def test_a_monitor_that_stays_dead_ends_the_call_and_not_the_rollout(cli: Cli, tmp_path: Path) -> None:
    """--hold-timeout: exit code 12, still Held, traffic as it was; the next call goes on to the right verdict."""
    limits = {"evidenceTimeoutSeconds": 1}
    before = cli.uid()
    with cli.background(*deploy(cli, tmp_path, "--hold-timeout", 2, limits=limits)) as driver:
        told = Told(driver.stderr)
        at_first_step(cli, before)
        was = split(cli)

        def left() -> bool:
            cli.kill("locust")
            return driver.poll() is not None

        until(left, "the driver has left", 60)
        assert driver.returncode == 12, told.all()
        assert driver.stdout is not None
        assert "Held: no evidence from locust" in driver.stdout.read()
    state = cli.state()
    assert state is not None
    assert state.hold is not None
    assert (state.phase, state.hold.reason, state.verdict) == (Phase.SHIFTING, HoldReason.UNMEASURABLE, None)
    assert split(cli) == was
    answer = cli.run("deploy-canary", "--locust-port", cli.locust_port)
    assert answer.code == 0, answer
    assert "Going on with the rollout" in answer.err
    after = cli.state()
    assert after is not None
    assert (after.uid, after.phase, after.verdict) == (state.uid, Phase.PROMOTED, Verdict.PASS)


def test_a_candidate_stopped_before_it_is_ready_is_rolled_back_at_0_percent(cli: Cli, tmp_path: Path) -> None:
    """Its server hangs as soon as it runs: after preparationSeconds no user has met it and the sentence says how long it had."""
    limits, before, stable = {"preparationSeconds": 5}, cli.uid(), cli.served_by()
    with cli.background(*deploy(cli, tmp_path, limits=limits)) as driver:
        told = Told(driver.stderr)
        candidate = until(lambda: service(cli).candidate, "a candidate", 60)
        until(lambda: pid(cli, candidate.name), "its process", 30)
        cli.kill(candidate.name, signal.SIGSTOP)
        assert driver.wait(90) == 10, told.all()
    state = cli.state()
    assert state is not None
    assert state.uid != before
    assert (state.phase, state.cause) == (Phase.ROLLED_BACK, Cause.NOT_READY)
    assert f"{candidate.name} was not ready within 5 s" in state.reason
    assert "No user's request reached it." in state.reason
    assert {sample["weight_live_percent"] for sample in samples(cli, state.uid)} == {0}
    assert cli.served_by() == stable
    until(lambda: candidate.name not in cli.programs(), "the stopped server is gone", 30)


class Crash:
    """Unpickled, it ends the process with these words."""

    WORDS = "libgomp.so.1: cannot open shared object file"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return sys.exit, (self.WORDS,)


def test_a_crashing_candidate_s_own_last_words_are_the_reason(cli: Cli, tmp_path: Path) -> None:
    """A server that ends with exit code 1 at each start: the verdict repeats what it said; `status -w` ends with the same code."""
    folder = copy_package(cli.home, "crashing", of="2")
    joblib.dump(Crash(), folder / "model.joblib")
    (folder / "model.onnx").unlink()
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "runtime": "sklearn"}))
    seal(folder)
    stable, before = cli.served_by(), cli.uid()
    command = deploy(cli, tmp_path, storageUri="oci://dev.local/iris:crashing", limits={"candidateRestarts": 1})
    with cli.background(*command) as driver:
        told = Told(driver.stderr)
        until(lambda: cli.uid() != before, "a rollout", 60)
        watched = cli.run("status", "-w")
        assert driver.wait(60) == 10, told.all()
        assert driver.stdout is not None
        assert Crash.WORDS in driver.stdout.read()
    assert watched.code == 10, watched
    state = cli.state()
    assert state is not None
    assert state.cause is Cause.NOT_READY
    assert f"{state.candidate} crashed 2 times: ended with exit code 1: {Crash.WORDS}" in state.reason
    assert cli.served_by() == stable


def samples(cli: Cli, uid: str) -> list[dict[str, Any]]:
    """What every tick of a rollout saw."""
    store = RolloutStore(cli.home)
    try:
        return store.samples(uid)
    finally:
        store.close()


def test_down_and_up_in_the_middle_is_told_and_begun_anew_by_retry(cli: Cli, tmp_path: Path) -> None:
    """`relevo down` ends also the rollout's driver; after `relevo up` there is nothing left to go on with, and it says what to do."""
    before = cli.uid()
    with cli.background(*deploy(cli, tmp_path)) as driver:
        told = Told(driver.stderr)
        at_first_step(cli, before)
        down = cli.ok("down")
        assert "has not ended (Shifting)" in down.err
        assert "`relevo retry iris` begins it anew" in down.err
        assert driver.wait(60) == 2, told.all()
    assert "nothing is up" in told.all()
    assert cli.programs() == set()
    assert "Shifting 1/2" in cli.ok("status").out
    manifest = tmp_path / "iris.yaml"
    state = cli.state()
    assert state is not None
    manifest.write_text(Path("k8s/samples/iris.yaml").read_text().replace("oci://dev.local/iris:1", state.stable_uri))
    cli.ok("up", "-f", manifest, "--port", cli.port)
    serves = cli.served_by()
    says = (
        "cannot go on",
        f"compared with {state.stable}",
        f"{serves} serves now",
        "relevo rollback iris",
        "relevo retry",
    )
    cli.refused("deploy-canary", "--locust-port", cli.locust_port, says=says)
    assert cli.run("rollback").code == 10
    assert cli.served_by() == serves
    answer = cli.run("retry", "--locust-port", cli.locust_port)
    assert answer.code == 0, answer
    assert cli.served_by() != serves


def test_load_alone_is_answered(cli: Cli) -> None:
    """`relevo loadtest --seconds 3` succeeds, and Envoy has counted what it sent, without an error."""
    revision = service(cli).stable.name
    before = counted(cli, revision)
    answer = cli.run("loadtest", "--seconds", 3, "--users", 4, "--locust-port", cli.locust_port)
    assert answer.code == 0, answer
    after = counted(cli, revision)
    assert after[0] - before[0] > 10
    assert after[1] == before[1], "no request failed"
    until(lambda: "locust" not in cli.programs(), "the load has ended")


def counted(cli: Cli, revision: str) -> tuple[int, int]:
    """Requests and errors of a revision since Envoy began, by its own statistics."""
    admin = deployments.load(Layout.of(cli.home)).admin_port
    reading = EnvoySource(f"http://127.0.0.1:{admin}").read()
    assert isinstance(reading, Reading)
    counts = reading.revisions.get(revision, Counts())
    return counts.requests, counts.errors


INTERRUPTED_IMPORT = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "relevo.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from relevo.__main__ import run
sys.argv = ["relevo", "status"]
run()
"""


def test_ctrl_c_while_python_imports_is_quiet() -> None:
    """The first moments of a command are its imports: Ctrl-C there is 130 and no traceback."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own for `folder`, of a few megabytes. Skips where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        cannot_run("there is no mount")
    if done.returncode:
        cannot_run(f"no disk may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until there is no room for a byte more."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


def outlasts_a_full_disk(
    cli: Cli, folder: Path, full: Callable[[], object], room: Callable[[], object], meanwhile: Callable[[], object]
) -> None:
    """A rollout that is driven when the disk becomes full and has room again: says so once, decides nothing meanwhile, promoted."""
    before = cli.uid()
    with cli.background(*deploy(cli, folder)) as driver:
        told = Told(driver.stderr)
        at_first_step(cli, before)
        full()
        try:
            until(lambda: told.says("the disk is full; nothing was changed"), "it is told", 30)
            state, was = cli.state(), split(cli)
            assert state is not None
            deadline = time.monotonic() + WATCHED_SECONDS
            while time.monotonic() < deadline:
                now = cli.state()
                assert now is not None
                assert (now.phase, now.step, now.hold, split(cli)) == (state.phase, state.step, state.hold, was)
                cli.served_by()
            meanwhile()
        finally:
            room()
        assert driver.wait(90) == 0, told.all()
    assert told.all().count("the disk is full") == 1
    after = cli.state()
    assert after is not None
    assert (after.uid, after.phase, after.verdict) == (state.uid, Phase.PROMOTED, Verdict.PASS)
    assert cli.served_by() == after.candidate
    assert_whole(cli.home, after.uid)


def assert_whole(home: Path, uid: str) -> None:
    """The database is sound, the audit log has no gap, and no half-written file is left."""
    with sqlite3.connect(home / "relevo.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    store = RolloutStore(home)
    log = store.transitions(uid)
    store.close()
    assert [t.before for t in log[1:]] == [t.after for t in log[:-1]]
    assert log[-1].after == Phase.PROMOTED
    assert [path for path in (home / "local").rglob(".*") if path.is_file()] == []


def test_a_full_disk_stops_decisions_until_there_is_room(cli: Cli, tmp_path: Path) -> None:
    """A real disk without a free byte under everything: state, configuration and logs. Needs the right to mount one."""
    disk = tmp_path / "disk"
    with small_disk(disk):
        home = disk / "home"
        shutil.copytree(cli.home / "packages", home / "packages")
        with platform(home) as small:

            def refused() -> None:
                small.refused("rollback", says=("the disk is full; nothing was changed",), code=1)

            outlasts_a_full_disk(small, tmp_path, lambda: fill(disk), (disk / "ballast").unlink, refused)


NO_ROOM = """
import functools, os, sqlite3
class Connection(sqlite3.Connection):
    def execute(self, sql, *rest):
        if sql.startswith("BEGIN"):  # SQLite itself then refuses to grow the file, as it does when the disk is full
            super().execute(f"PRAGMA max_page_count = {1 if os.path.exists(os.environ['NO_ROOM']) else 1 << 30}")
        return super().execute(sql, *rest)
sqlite3.connect = functools.partial(sqlite3.connect, factory=Connection)
"""


def test_a_state_file_that_cannot_grow_stops_decisions_until_it_can(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without any right: SQLite says in the driver's process that the disk is full."""
    flag = tmp_path / "no-room"
    (tmp_path / "sitecustomize.py").write_text(NO_ROOM)
    monkeypatch.setenv("NO_ROOM", str(flag))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # A small order may still find a place in the file; only what has to grow it is refused.
    outlasts_a_full_disk(cli, tmp_path, flag.touch, flag.unlink, lambda: None)
