"""At any moment at most one replica acts."""

from __future__ import annotations

import threading

import pytest

from relevo.errors import Forbidden, Transient
from relevo.operator.lease import DURATION_SECONDS, LEASES, LET_GO_SECONDS, Lease, identity, own_pod, pod_of
from relevo.platforms.cluster_api import PODS
from tests.unit.operator.world import START, PaperApi


class Replica:
    """One contender, whose looks the test makes."""

    def __init__(self, api: PaperApi, name: str, clock: list[float]) -> None:
        self.acts = 0
        self.lease = Lease(
            api,
            namespace="relevo-system",
            name="relevo-operator",
            me=name,
            on_taken=lambda: self._set(1),
            on_lost=lambda: self._set(0),
            monotonic=lambda: clock[0],
        )

    def _set(self, acts: int) -> None:
        self.acts = acts


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def api() -> PaperApi:
    return PaperApi(lambda: START)


def holder(api: PaperApi) -> str:
    return str(api.objects[LEASES.plural, "relevo-system", "relevo-operator"]["spec"]["holderIdentity"])


def test_the_first_takes_it_and_the_second_waits(api: PaperApi, clock: list[float]) -> None:
    """However often the second looks, as long as the first renews."""
    first, second = Replica(api, "first", clock), Replica(api, "second", clock)
    for _ in range(20):
        first.lease.look()
        second.lease.look()
        assert (first.acts, second.acts) == (1, 0)
        assert first.lease.held()
        assert not second.lease.held()
        clock[0] += 1.0


def test_a_killed_holder_is_replaced_within_seconds(api: PaperApi, clock: list[float]) -> None:
    """After the lease's duration, by the second's own clock."""
    first, second = Replica(api, "first", clock), Replica(api, "second", clock)
    first.lease.look()
    second.lease.look()
    while holder(api) == "first":
        clock[0] += 1.0
        second.lease.look()
    assert clock[0] <= DURATION_SECONDS + 1
    assert second.acts == 1


def test_a_holder_whose_pod_is_gone_is_not_waited_for(api: PaperApi, clock: list[float]) -> None:
    """The next look takes the lease, and be it the first of a replica that has just come: nobody waits for the lease's duration."""
    first, second = Replica(api, "first_7", clock), Replica(api, "second_7", clock)
    api.create(PODS, "relevo-system", {"metadata": {"name": "first"}, "status": {"phase": "Running"}})
    first.lease.look()
    second.lease.look()
    assert (first.acts, second.acts) == (1, 0)
    api.delete(PODS, "relevo-system", "first")
    third = Replica(api, "third_7", clock)
    third.lease.look()
    assert third.acts == 1


@pytest.mark.parametrize("unknown", ["no pod", "forbidden"])
def test_a_holder_of_whose_pod_nothing_is_known_keeps_its_time(api: PaperApi, clock: list[float], unknown: str) -> None:
    """It may run outside the cluster, and a chart of before gives no right to look."""
    first = Replica(api, identity(None) if unknown == "no pod" else "first_7", clock)
    second = Replica(api, "second_7", clock)
    if unknown == "forbidden":
        api.refuses["get", PODS.plural] = Forbidden("no")
    first.lease.look()
    for _ in range(int(DURATION_SECONDS)):
        second.lease.look()
        assert second.acts == 0
        clock[0] += 1.0


def test_one_that_waits_does_not_wait_for_a_pod_that_is_gone(api: PaperApi) -> None:
    """It would wait a minute for its next look; the other's pod is deleted, and it looks at once."""
    api.create(PODS, "relevo-system", {"metadata": {"name": "first"}, "status": {"phase": "Running"}})
    first, second = (
        Lease(
            api, namespace="relevo-system", name="relevo-operator", me=f"{name}_7", on_taken=lambda: None, on_lost=lambda: None
        )
        for name in ("first", "second")
    )  # fmt: skip
    first.look()
    second.look()
    waiting = threading.Thread(target=second.wait, args=(60.0,))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    api.delete(PODS, "relevo-system", "first")
    waiting.join(30.0)
    assert not waiting.is_alive()
    second.look()
    assert second.held()


def test_an_identity_names_its_pod() -> None:
    """Names of pods have no underscore, whatever those of machines have."""
    assert pod_of(identity("relevo-operator-5f-x")) == "relevo-operator-5f-x"
    assert pod_of("a_machine:7") == ""
    assert pod_of("") == ""


@pytest.mark.parametrize(
    ("where", "found"), [("relevo-system", "operator-x"), ("elsewhere", None), ("forbidden", None), ("no pod", None)]
)
def test_a_replica_is_known_by_its_pod_only_where_others_find_it(
    api: PaperApi, monkeypatch: pytest.MonkeyPatch, where: str, found: str | None
) -> None:
    """In the lease's namespace: they would take the lease from a holder whose pod they look for in vain."""
    monkeypatch.delenv("POD_NAME", raising=False)
    if where != "no pod":
        monkeypatch.setenv("POD_NAME", "operator-x")
    api.create(PODS, "elsewhere" if where == "elsewhere" else "relevo-system", {"metadata": {"name": "operator-x"}})
    if where == "forbidden":
        api.refuses["get", PODS.plural] = Forbidden("no")
    assert own_pod(api, "relevo-system") == found


def test_a_holder_that_cannot_renew_stops_before_another_may_begin(api: PaperApi, clock: list[float]) -> None:
    """It acts no more when its last renewal is too old, whether or not it could look."""
    first = Replica(api, "first", clock)
    first.lease.look()
    api.fails = [Transient("no answer")] * 10
    clock[0] += LET_GO_SECONDS + 0.1
    assert not first.lease.held()
    assert LET_GO_SECONDS < DURATION_SECONDS
    first.lease.look()
    assert first.acts == 0
    api.fails = []
    first.lease.look()
    assert first.acts == 1


def test_a_replica_that_was_asleep_sees_that_another_acts(api: PaperApi, clock: list[float]) -> None:
    """After a long pause of the process it does not believe that it still leads."""
    first, second = Replica(api, "first", clock), Replica(api, "second", clock)
    first.lease.look()
    second.lease.look()
    clock[0] += 10.0
    second.lease.look()
    assert second.acts == 1
    assert not first.lease.held()
    first.lease.look()
    assert first.acts == 0


def test_given_back_it_is_taken_at_once(api: PaperApi, clock: list[float]) -> None:
    """A replica that ends in peace makes nobody wait."""
    first, second = Replica(api, "first", clock), Replica(api, "second", clock)
    first.lease.look()
    first.lease._thread.start()
    first.lease.stop()
    assert holder(api) == ""
    second.lease.look()
    assert second.acts == 1
    assert api.objects[LEASES.plural, "relevo-system", "relevo-operator"]["spec"]["leaseTransitions"] == 2
