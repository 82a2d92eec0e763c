"""`make deploy-canary`: what it brings to which cluster, and what it hands to `relevo`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relevo.errors import Transient
from relevo.platforms.cluster_api import INFERENCE_SERVICES
from scripts import canary
from tests.unit.load.objects import World

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What would be run; nothing is, and all ends well. No package is there yet."""
    commands: list[list[str]] = []

    def run(command: Any, **_: Any) -> Any:
        commands.append([Path(word).name for word in command])
        return SimpleNamespace(returncode=10 if "deploy-canary" in command else 0)

    monkeypatch.setenv("RELEVO_HOME", str(tmp_path))
    monkeypatch.setattr(canary.subprocess, "run", run)
    monkeypatch.setattr(canary, "kubectl", lambda: "kubectl")
    return commands


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A kind cluster in which nothing is served."""
    world: Any = World()
    world.name, world.namespace = "kind-relevo", "default"
    monkeypatch.setattr(canary, "connect", lambda context: world)
    monkeypatch.setattr(canary, "kind_nodes", lambda name: ["node"] if name == "relevo" else [])
    return world


def verbs(ran: list[list[str]]) -> list[str]:
    return [" ".join(command[3:6] if command[1:3] == ["-m", "relevo"] else command[:2]) for command in ran]


def test_a_cluster_that_serves_nothing_gets_both_versions(ran: list[list[str]], world: World) -> None:
    """Trained, made images of and loaded; the exit code is the rollout's."""
    assert canary.main(["errors", "--namespace", "team-a", "--shadow", "off"]) == 10
    assert verbs(ran) == [
        "train iris --version",
        "package image iris",
        "kubectl apply",
        "kubectl wait",
        "train iris --version",
        "package image iris",
        "deploy-canary iris -f",
    ]
    assert ran[-1][-5:] == ["--platform", "kserve", "--namespace", "team-a", "--no-shadow"]
    assert "2-errors" in ran[-1]


def test_what_is_served_stays(ran: list[list[str]], world: World) -> None:
    """The candidate alone is brought."""
    world.put(INFERENCE_SERVICES, "default", {"metadata": {"name": "iris"}})
    canary.main(["healthy"])
    assert verbs(ran) == ["train iris --version", "package image iris", "deploy-canary iris -f"]


@pytest.mark.parametrize("docker", [True, False])
def test_a_cluster_elsewhere_must_have_the_images(
    ran: list[list[str]], world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], docker: bool
) -> None:
    """Nothing is loaded into what is no kind cluster of this machine, whatever its context is called; that is said."""

    def no_docker(_: str) -> list[str]:
        raise Transient("Docker does not answer")

    world.name = "prod" if docker else "kind-relevo"
    if not docker:
        monkeypatch.setattr(canary, "kind_nodes", no_docker)
    world.put(INFERENCE_SERVICES, "default", {"metadata": {"name": "iris"}})
    canary.main(["healthy"])
    assert verbs(ran) == ["train iris --version", "deploy-canary iris -f"]
    assert "dev.local/iris:2 must be there already" in capsys.readouterr().err


def test_on_this_machine_it_only_trains(ran: list[list[str]]) -> None:
    """`relevo up` has served version 1."""
    canary.main(["wrong", "--platform", "local"])
    assert verbs(ran) == ["train iris --version", "deploy-canary iris -f"]


def test_make_hands_its_variables_on() -> None:
    """Context and namespace reach every verb that acts on a rollout; the cluster is the default."""
    made = subprocess.run(
        [
            "make",
            "-n",
            "deploy-canary",
            "status",
            "promote",
            "rollback",
            "report",
            "dashboard",
            "CONTEXT=prod",
            "NAMESPACE=team-a",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in made.stdout.splitlines() if "relevo " in line or "scripts.canary" in line]
    assert len(lines) == 6
    assert all("--platform kserve --context prod --namespace team-a" in line for line in lines)
