"""Rollouts steered from the real command line: orders, second callers, Ctrl-C, an Envoy that dies, a candidate that never starts.

One platform for all, and each test leaves it with no rollout under way.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
import yaml
from cli_platform import Cli, copy_package, platform, rollout_file, seal, train, until

from relevo.rollout.state import Cause, HoldReason, Phase

pytestmark = pytest.mark.component

LONG = {"canary": {"weights": [10, 20, 60], "stepSeconds": 600, "stepRequests": 5}}
"""A rollout that stays where it is until somebody orders something."""


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Iris 1 is served and 2 is packaged."""
    home = tmp_path_factory.mktemp("cli") / "home"
    train(home, ("iris", "--version", "1", "--", "--trees", "5"), ("iris", "--version", "2", "--", "--trees", "6"))
    copy_package(home, "2b", of="2")
    with platform(home) as cli:
        yield cli


@pytest.fixture(autouse=True)
def ended(cli: Cli) -> Iterator[None]:
    """Whatever a test leaves under way is rolled back, so that only its own failure is seen."""
    yield
    state = cli.state()
    if state is not None and not state.phase.is_terminal:
        cli.run("rollback")


def at_step(cli: Cli, step: int) -> None:
    """Wait until the rollout has reached a step."""

    def there() -> bool:
        state = cli.state()
        return state is not None and state.phase is Phase.SHIFTING and state.step >= step and state.hold is None

    until(there, f"step {step}", 120)


def deploy(cli: Cli, file: Path) -> tuple[object, ...]:
    """The command line of a rollout."""
    return ("deploy-canary", "-f", file, "--locust-port", cli.locust_port)


def test_a_running_rollout_obeys_orders_and_nobody_else_disturbs_it(cli: Cli, tmp_path: Path) -> None:
    """While one process drives: others are refused, orders are carried out by it, Ctrl-C leaves it for whoever goes on."""
    file = rollout_file(tmp_path, strategy=LONG)
    stable = cli.served_by()
    with cli.background(*deploy(cli, file)) as driver:
        at_step(cli, 1)
        uid = cli.uid()
        cli.refused(*deploy(cli, file)[:-2], "--locust-port", 1, says=("drives this rollout already", "relevo status"))
        cli.refused("deploy-canary", "--version", "2b", says=("iris:2 has not ended", "relevo rollback iris"))
        cli.refused("undo", says=("a rollout is under way", "relevo rollback iris"))
        cli.refused("retry", says=("no rolled back rollout", "Shifting"))
        cli.refused("loadtest", says=("a rollout sends its own load", str(cli.locust_port)))
        cli.refused("resume", says=("resume: it is not paused",))

        assert "paused it" in cli.ok("pause").err
        shown = json.loads(cli.ok("status", "-o", "json").out)
        assert (shown["phase"], shown["beneath"], shown["uid"]) == ("Held", "Shifting", uid)
        assert str(driver.pid) in shown["driver"]
        assert yaml.safe_load(cli.ok("status", "-o", "yaml").out)["steps"] == [10, 20, 60]
        assert "resumed it" in cli.ok("resume").err
        assert "next step now" in cli.ok("promote").err
        at_step(cli, 2)

        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate(timeout=60)
        assert driver.returncode == 130, err
        assert "Interrupted in Shifting. Traffic stays at 20 %" in err
        assert "relevo deploy-canary iris" in err
        assert "relevo rollback iris" in err
        assert "Traceback" not in err
    status = cli.ok("status")
    assert "Shifting 2/3" in status.out
    assert "No process drives this rollout; `relevo deploy-canary iris` goes on with it." in status.err

    ended = cli.run("rollback", "-o", "json")  # nobody drives it: the command itself carries it out
    assert ended.code == 10, ended
    assert json.loads(ended.out)["cause"] == Cause.ORDERED
    assert cli.served_by() == stable
    cli.refused("rollback", says=("has ended (RolledBack)",))
    until(lambda: cli.programs() - {"supervisor"} == {"envoy", stable, "locust"}, "the candidate has ended")


def test_envoy_killed_and_ctrl_c_in_the_middle_change_no_verdict(cli: Cli, tmp_path: Path) -> None:
    """Envoy comes back and the next call goes on where Ctrl-C had left: promoted, and undo brings the old version back."""
    file = rollout_file(tmp_path)
    stable = cli.served_by()
    with cli.background(*deploy(cli, file)) as driver:
        until(lambda: (state := cli.state()) is not None and state.phase is Phase.PREPARING, "a rollout")
        uid = cli.uid()
        driver.send_signal(signal.SIGINT)
        assert driver.wait(60) == 130
    cli.kill("envoy")
    answer = cli.run("deploy-canary", "iris", "--locust-port", cli.locust_port, "-o", "json", timeout=200)
    assert answer.code == 0, answer
    assert "Going on with the rollout to oci://dev.local/iris:2" in answer.err
    verdict = json.loads(answer.out)
    assert (verdict["uid"], verdict["phase"], verdict["verdict"]) == (uid, "Promoted", "pass")
    promoted = cli.served_by()
    assert promoted != stable

    cli.refused("rollback", says=("has ended (Promoted)", "relevo undo iris"))
    page = Path(cli.ok("report", "--folder", tmp_path).out.strip())
    assert promoted in page.read_text()
    rows = cli.ok("history").out.splitlines()
    assert any("Promoted" in row and "All traffic goes to" in row for row in rows), "a transition is one line in a pipe"

    assert "Promoted:" in cli.ok("undo").out
    status = json.loads(cli.ok("status", "-o", "json").out)
    assert status["phase"] == "Promoted"
    cli.refused("undo", "--to", stable[-5:].lstrip("0"), says=("is what it serves already",))
    cli.ok("undo", "--to", promoted[-5:].lstrip("0"))
    assert len(json.loads(cli.ok("history", "-o", "json").out)) >= 3
    cli.ok("undo", "--to", stable[-5:].lstrip("0"))


def test_a_candidate_that_never_becomes_ready_is_rolled_back_at_0_percent(cli: Cli, tmp_path: Path) -> None:
    """The package is whole but its server cannot load it: no user met it, the sentence says why, retry tries again."""
    folder = copy_package(cli.home, "unloadable", of="2")
    joblib.dump({"no": "estimator"}, folder / "model.joblib")
    (folder / "model.onnx").unlink()
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "runtime": "sklearn"}))
    seal(folder)
    stable = cli.served_by()
    limits = {"evidenceTimeoutSeconds": 60, "candidateRestarts": 0, "preparationSeconds": 45}
    file = rollout_file(tmp_path, storageUri="oci://dev.local/iris:unloadable", limits=limits)
    for command in (deploy(cli, file), ("retry", "--locust-port", cli.locust_port)):
        answer = cli.run(*command)
        assert answer.code == 10, answer
        assert "No user's request reached it." in answer.out
        state = cli.state()
        assert state is not None
        assert (state.phase, state.cause) == (Phase.ROLLED_BACK, Cause.NOT_READY)
        assert cli.served_by() == stable


def test_a_stopped_candidate_holds_the_rollout_and_full_promotion_is_refused(cli: Cli, tmp_path: Path) -> None:
    """A server that stops answering gets no traffic; the rollout waits for it, and a human may promote it when it is back."""
    with cli.background(*deploy(cli, rollout_file(tmp_path, strategy=LONG))) as driver:
        at_step(cli, 1)
        state = cli.state()
        assert state is not None
        cli.kill(state.candidate, signal.SIGSTOP)

        def held() -> bool:
            now = cli.state()
            return now is not None and now.hold is not None and now.hold.reason is HoldReason.CANDIDATE_NOT_READY

        try:
            until(held, "held", 60)
            cli.refused("promote", "--full", says=("is not ready to take all traffic",))
            assert cli.served_by() == state.stable
        finally:
            cli.kill(state.candidate, signal.SIGCONT)
        at_step(cli, 1)
        answer = cli.run("promote", "--full")
        assert answer.code == 0, answer
        assert "ordered the promotion" in answer.out
        assert driver.wait(60) == 0
    assert cli.served_by() == state.candidate


def test_down_in_the_middle_leaves_nothing_running_and_up_begins_anew(cli: Cli, tmp_path: Path) -> None:
    """What was under way can be ended after the next `relevo up`."""
    manifest = Path("k8s/samples/iris.yaml")
    cli.ok("undo")
    with cli.background(*deploy(cli, rollout_file(tmp_path, strategy=LONG))) as driver:
        at_step(cli, 1)
        driver.kill()
        driver.communicate()
    assert "iris: the rollout to oci://dev.local/iris:2 has not ended (Shifting)" in cli.ok("down").err
    assert cli.programs() == set()
    cli.refused("rollback", says=("nothing is up",))
    assert "Shifting 1/3" in cli.ok("status").out
    cli.ok("up", "-f", manifest, "--port", cli.port)
    answer = cli.run("rollback")
    assert answer.code == 10, answer
    cli.served_by()
