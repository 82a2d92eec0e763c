"""`KubernetesLoad`: when it touches the workloads, and what it says when they do not answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from relevo.errors import Forbidden, Transient
from relevo.evidence.source import LoadPlan
from relevo.load.generator import LOOK_SECONDS, KubernetesLoad
from relevo.platforms.cluster_api import PODS
from relevo.rollout.observation import Reading, Silence
from tests.unit.evidence.test_locust import Scripted, report
from tests.unit.load.objects import World
from tests.unit.load.test_workloads import WORKLOAD


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load(world: World, clock: Clock, server: Scripted) -> Iterator[KubernetesLoad]:
    made = KubernetesLoad(world, WORKLOAD, url=server.url, monotonic=clock)
    yield made
    made.close()


def says(server: Scripted, **changes: Any) -> None:
    server.body = orjson.dumps(report(**{"label": "", "workers": 3, **changes}))


def test_the_first_plan_brings_the_workloads_up(load: KubernetesLoad, world: World, server: Scripted) -> None:
    """Master, workers and their Service are there after the first call, made once and not with every tick."""
    says(server)
    for _ in range(5):
        load.ensure(LoadPlan(5, 1))
    assert [call for call in world.calls if call[0] == "apply"] == [
        ("apply", "services", "iris-load"),
        ("apply", "deployments", "iris-load"),
        ("apply", "deployments", "iris-load-worker"),
    ]


def test_what_somebody_deleted_comes_back(load: KubernetesLoad, world: World, server: Scripted, clock: Clock) -> None:
    """The workloads are made so again every few seconds."""
    says(server)
    load.ensure(LoadPlan(5, 1))
    world.objects.clear()
    clock.now += LOOK_SECONDS
    load.ensure(LoadPlan(5, 1))
    assert len(world.objects) == 3


def test_a_load_that_is_not_wanted_is_not_made(world: World) -> None:
    """A rollout that is being ended when its driver starts needs no load to stop."""
    load = KubernetesLoad(world, WORKLOAD, url="http://127.0.0.1:9")
    assert isinstance(load.read(), Silence)
    load.ensure(LoadPlan(0, 1))
    load.announce("")
    assert not world.objects


def test_without_workers_there_is_silence(load: KubernetesLoad, server: Scripted) -> None:
    """A master whose last worker is lost measures nothing, and says so instead of counts that stand still."""
    says(server, workers=0)
    silence = load.read()
    assert isinstance(silence, Silence)
    assert "no worker" in silence.reason
    says(server, workers=1)
    assert isinstance(load.read(), Reading)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "iris-load-x: Evicted low on memory"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]},
            "Unschedulable: 0/1",
        ),
        (
            {"initContainerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such"}}}]},
            "ImagePullBackOff no such",
        ),
        (
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3}}}
                ]
            },
            "CrashLoopBackOff, exit code 3",
        ),
    ],
)
def test_silence_says_what_keeps_the_pods(world: World, status: dict[str, Any], reason: str) -> None:
    """The sentence of the hold names the pod and Kubernetes' own reason."""
    labels = {"app.kubernetes.io/name": "relevo-load", "app.kubernetes.io/instance": "iris"}
    world.put(PODS, "team-a", {"metadata": {"name": "iris-load-x", "labels": labels}, "status": status})
    silence = KubernetesLoad(world, WORKLOAD, url="http://127.0.0.1:9").read()
    assert isinstance(silence, Silence)
    assert reason in silence.reason


def test_a_cluster_that_does_not_answer_does_not_hide_the_silence(world: World) -> None:
    """`read` never raises."""
    world.fail = Transient("no cluster")
    assert isinstance(KubernetesLoad(world, WORKLOAD, url="http://127.0.0.1:9").read(), Silence)


def test_the_label_is_announced_once(load: KubernetesLoad, server: Scripted) -> None:
    """Locust is told the label when it has another, and left alone when it has this one."""
    says(server)
    load.announce("iris-1234/1")
    assert server.asked[-1][1:] == ("/relevo/label", b'{"label":"iris-1234/1"}')
    says(server, label="iris-1234/1")
    load.read()
    asked = len(server.asked)
    load.announce("iris-1234/1")
    assert len(server.asked) == asked


def test_a_label_is_withdrawn_or_it_is_said(load: KubernetesLoad, server: Scripted) -> None:
    """While Locust answers, its label must go before the split changes; when it does not answer, nobody counts."""
    says(server, label="iris-1234/1")
    load.read()
    server.status = 500
    with pytest.raises(Transient):
        load.announce("")
    load.read()
    load.announce("")


def test_it_is_removed_whole(load: KubernetesLoad, world: World, server: Scripted) -> None:
    """Nothing of it is left when the rollout has ended, and removing it again is no mistake."""
    says(server)
    load.ensure(LoadPlan(5, 1))
    load.remove()
    load.remove()
    assert not world.objects


def test_a_missing_permission_is_said(load: KubernetesLoad, world: World) -> None:
    """What the operator may not make, it names."""
    world.fail = Forbidden("no permission to patch deployments.apps")
    with pytest.raises(Forbidden, match=r"deployments\.apps"):
        load.ensure(LoadPlan(5, 1))
