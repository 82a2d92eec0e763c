"""What becomes of a cluster that is already there. Docker and kind are a table of answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from k8s.cluster import kindcluster
from k8s.cluster.settings import Images, Settings, read_settings
from relevo.errors import Transient

KIND = Path("kind")


class FakeMachine:
    """A node's state, and the commands that were run."""

    def __init__(self, status: str, *, complete: bool, answers: bool, image: str = "dev.local/node:1") -> None:
        self.status = status
        self.complete = complete
        self.is_ready = answers
        self.image = image
        self.ran: list[str] = []

    def run(self, command: Sequence[str | Path], **_: Any) -> str:
        words = " ".join(map(str, command))
        self.ran.append(words)
        if "State.Status" in words:
            return f"{self.status}\n"
        if "Config.Image" in words:
            return f"{self.image}\n"
        return ""

    def succeeds(self, command: Sequence[str | Path], **_: Any) -> bool:
        return self.complete and "test" in command

    def answers(self) -> bool:
        return self.is_ready


@pytest.fixture
def settings() -> Settings:
    """The default cluster."""
    return read_settings({"RELEVO_CACHE": "/c"})


def _install(monkeypatch: pytest.MonkeyPatch, machine: FakeMachine, *, nodes: bool = True) -> None:
    monkeypatch.setattr("k8s.cluster.docker.nodes", lambda name: [f"{name}-control-plane"] if nodes else [])
    monkeypatch.setattr(kindcluster, "run", machine.run)
    monkeypatch.setattr(kindcluster, "succeeds", machine.succeeds)
    monkeypatch.setattr(kindcluster, "host_port", lambda node: 8090)
    monkeypatch.setattr(kindcluster, "check_port", lambda port: None)
    monkeypatch.setattr(kindcluster, "_MEND_SECONDS", 0.01)


def test_no_cluster(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Nothing is run."""
    machine = FakeMachine("", complete=False, answers=False)
    _install(monkeypatch, machine, nodes=False)
    assert not kindcluster.take_over(KIND, settings, machine)  # type: ignore[arg-type]
    assert machine.ran == []


@pytest.mark.parametrize(
    ("status", "command"), [("running", None), ("paused", "docker unpause"), ("exited", "docker start")]
)
def test_a_cluster_that_works_is_used(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, status: str, command: str | None
) -> None:
    """A stopped or paused node is started first."""
    machine = FakeMachine(status, complete=True, answers=True)
    _install(monkeypatch, machine)
    assert kindcluster.take_over(KIND, settings, machine)  # type: ignore[arg-type]
    assert [line for line in machine.ran if line.startswith(("docker unpause", "docker start", "kind delete"))] == (
        [f"{command} relevo-control-plane"] if command else []
    )


def test_a_cluster_that_was_never_finished_is_deleted(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """What an interrupted `make cluster` left behind is nobody's."""
    machine = FakeMachine("running", complete=False, answers=False)
    _install(monkeypatch, machine)
    assert not kindcluster.take_over(KIND, settings, machine)  # type: ignore[arg-type]
    assert "kind delete cluster --name relevo --quiet" in machine.ran


def test_a_finished_cluster_that_does_not_answer_is_never_deleted(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Its user's models are in it; the message says how to delete it."""
    machine = FakeMachine("running", complete=True, answers=False)
    _install(monkeypatch, machine)
    with pytest.raises(Transient, match="relevo exists and does not answer") as caught:
        kindcluster.take_over(KIND, settings, machine)  # type: ignore[arg-type]
    assert "make cluster-down" in caught.value.next_step
    assert not any("delete" in line for line in machine.ran)


@pytest.mark.parametrize(
    ("image", "origin"), [("dev.local/node:v1-abc", Images.SOURCE), ("kindest/node:v1@sha256:0", Images.REGISTRY)]
)
def test_a_cluster_says_where_its_images_came_from(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, image: str, origin: Images
) -> None:
    """So that a second `make cluster` needs no IMAGES=."""
    machine = FakeMachine("running", complete=True, answers=True, image=image)
    _install(monkeypatch, machine)
    assert kindcluster.origin_in_use(settings) is origin
