"""Blue/green from the real command line: a switch and its way back, a fault of users alone, what is refused. Real servers and Locust."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_platform import Cli, platform, rollout_file, train, until

from model.data import load_split
from relevo.rollout.state import Cause, Phase, Verdict
from scripts.scenarios import KNOWN_EXAM, TRAINER_ARGUMENTS
from scripts.users import Users, bodies_of

pytestmark = pytest.mark.component

VALUES = "charts/model/values-blue.yaml"
STRATEGY = {"blueGreen": {"keepWarmFor": 3, "stepRequests": 5}}
QUICK: dict[str, Any] = {"shadow": {"requests": 60}, "load": {"usersFrom": 4, "usersTo": 12}}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Blue serves iris 1, whose load replays only rows that hold nothing new; 2 and 2-unseen are packaged."""
    home = tmp_path_factory.mktemp("colours") / "home"
    versions = {"1": KNOWN_EXAM, "2": ("--trees", "6"), "2-unseen": TRAINER_ARGUMENTS["unseen"]}
    train(home, *(("iris", "--version", version, "--", *extra) for version, extra in versions.items()))
    with platform(home, VALUES) as cli:
        yield cli


def deploy(cli: Cli, file: Path, version: str) -> tuple[object, ...]:
    """The command line of a rollout."""
    return ("deploy-blue-green", "-f", file, "--version", version, "--locust-port", cli.locust_port)


def test_promoted_switched_by_hand_and_undone(cli: Cli, tmp_path: Path) -> None:
    """Green is promoted; undo is a switch back to blue as it was; each switch by hand is in the history with who ordered it."""
    blue = cli.served_by()
    file = rollout_file(tmp_path, strategy=STRATEGY, **QUICK)
    done = cli.run(*deploy(cli, file, "2"), timeout=400)
    assert done.code == 0, done.err
    green = cli.served_by()
    assert (blue, green) == ("iris-blue-predictor-00001", "iris-green-predictor-00002")
    until(lambda: blue not in cli.programs(), "the old colour is scaled to zero")
    state = cli.state()
    assert state is not None
    assert (state.phase, state.verdict) == (Phase.PROMOTED, Verdict.PASS)
    cli.ok("undo")
    assert cli.served_by() == blue
    cli.ok("switch")
    assert cli.served_by() == green
    assert "already" in cli.ok("switch", "--to", "green").err
    cli.ok("switch", "--to", "blue")
    assert cli.served_by() == blue
    history = cli.ok("history", "-o", "json").out
    assert history.count("sent all users from") >= 3
    assert {blue, green} <= cli.programs(), "both stay up, for the way back"


def test_a_fault_of_users_alone_is_switched_back(cli: Cli, tmp_path: Path) -> None:
    """A candidate that answers all that the load sends and raises on what users send passes the rehearsal and loses its users again."""
    split = load_split("iris")
    blue = cli.served_by()
    strange = ~np.isin(split.x_test[:, 2], split.x_train[:, 2])
    checks = {"errors": {"margin": 10}, "latency": {"gate": False, "tolerance": 10}, "accuracy": {"gate": False}}
    file = rollout_file(tmp_path, strategy={"blueGreen": {"keepWarmFor": 120}}, checks=checks, **QUICK)
    with Users(cli.port, "iris", bodies_of(split.x_test[strange]), per_second=20) as users:
        cli.run(*deploy(cli, file, "2-unseen"), timeout=400)
        tally = users.take()
    state = cli.state()
    assert state is not None
    assert (state.phase, state.cause) == (Phase.ROLLED_BACK, Cause.EVIDENCE), state.reason
    assert "since the switch" in state.reason
    assert state.reason.startswith("errors")
    assert cli.served_by() == blue
    assert tally.failures == tally.failures_of(state.candidate) > 0


def test_what_makes_no_sense_is_refused(cli: Cli, tmp_path: Path) -> None:
    """Each mistake is named, with the next step, and nothing is begun."""
    before = cli.uid()
    blue_green = rollout_file(tmp_path, "blue-green.yaml", strategy=STRATEGY, **QUICK)
    canary = rollout_file(tmp_path, "canary.yaml")
    cli.refused("switch", "--to", "red", says=("red: is no colour", "blue or green"))
    cli.refused("deploy-canary", "-f", canary, says=("is served by two colours", "deploy-blue-green"))
    cli.refused("deploy-canary", "-f", blue_green, says=("strategy is blueGreen", "deploy-blue-green"))
    cli.refused("deploy-blue-green", "-f", canary, says=("strategy is not blueGreen", "deploy-canary"))
    cli.refused(*deploy(cli, blue_green, "1"), says=("blue serves", "already", "--version", "relevo switch"))
    cli.refused("up", "-f", "k8s/samples/iris.yaml", "--port", cli.port, says=("with colours", "relevo down"))
    assert cli.uid() == before
