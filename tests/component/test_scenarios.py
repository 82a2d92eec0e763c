"""The demo's scenarios on one platform, through the demo's own `rollout`: each ends in the verdict it should, for the right reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_platform import ROOT, Cli, platform, train

from relevo.rollout.state import Cause, Phase
from relevo.store.rollouts import RolloutStore
from scripts.demo import EXPECTED, Plan, rollout
from scripts.scenarios import STABLE, TRAINER_ARGUMENTS

pytestmark = pytest.mark.component

VERSIONS = {"healthy": "2", "flaky-monitor": "2", "errors": "2-errors", "slow": "2-slow", "wrong": "2-wrong"}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Version 1 is served, every candidate is packaged."""
    home = tmp_path_factory.mktemp("scenarios") / "home"
    trainings = {"1": STABLE} | {version: TRAINER_ARGUMENTS[name] for name, version in VERSIONS.items()}
    train(home, *(("iris", "--version", version, "--", *extra) for version, extra in trainings.items()))
    with platform(home) as cli:
        yield cli


@pytest.fixture
def stable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The revision of version 1, which serves before and after each scenario."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RELEVO_HOME", str(cli.home))
    monkeypatch.setenv("RELEVO_LOCUST_PORT", str(cli.locust_port))
    serving = cli.served_by()
    yield serving
    if cli.served_by() != serving:
        cli.ok("undo")


def rules(cli: Cli) -> list[str]:
    """The rules of the last rollout's transitions, in order."""
    store = RolloutStore(cli.home)
    try:
        return [transition.rule for transition in store.transitions(cli.uid() or "")]
    finally:
        store.close()


@pytest.mark.parametrize(
    ("scenario", "shadow", "checks"),
    [
        ("healthy", True, ("errors", "accuracy")),
        ("errors", False, ("errors",)),
        ("slow", False, ("latency",)),
        ("wrong", False, ("accuracy", "predictions")),
        ("flaky-monitor", True, ("errors", "accuracy")),
    ],
)
def test_each_scenario_ends_in_its_verdict(
    cli: Cli, stable: str, scenario: str, shadow: bool, checks: tuple[str, ...]
) -> None:
    """The exit code, the cause and the named check are the right ones, and users are served by the arm that won."""
    code, _ = rollout(Plan(scenario, "iris", VERSIONS[scenario], shadow=shadow))
    history = cli.ok("history", "iris").out
    state = cli.state()
    assert state is not None
    assert code == EXPECTED[scenario], history
    assert state.cause is Cause.EVIDENCE, history
    assert any(check in state.reason for check in checks), history
    winner = state.candidate if state.phase is Phase.PROMOTED else state.stable
    assert cli.served_by() == winner
    if scenario == "flaky-monitor":
        assert "hold-Unmeasurable" in rules(cli), history
