"""The platform on a cluster on paper: preparing, shifting, promoting, rolling back, edits by others, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo import errors
from relevo.platforms.kserve.address import InCluster, ThroughGateway
from relevo.platforms.kserve.platform import KServePlatform
from relevo.rollout.observation import Arm
from relevo.rollout.platform import ModelRef, Split

from .fake_cluster import NAMESPACE, FakeCluster, uri


def up(version: int = 1) -> tuple[FakeCluster, KServePlatform]:
    """A service whose first version is up."""
    cluster = FakeCluster(uri=uri(version))
    cluster.rest()
    return cluster, KServePlatform(NAMESPACE, cluster)


def shifted(percent: int) -> tuple[FakeCluster, KServePlatform]:
    """A canary of version 2 at a weight."""
    cluster, platform = up()
    platform.prepare("iris", ModelRef(uri(2)))
    cluster.rest()
    platform.set_weight("iris", Split(percent, "u/1"))
    cluster.rest()
    return cluster, platform


def settle(cluster: FakeCluster, platform: KServePlatform, keep: Arm) -> int:
    """As the engine does it: again and again until the routes say so. The number of rounds."""
    for round_ in range(20):
        routes = platform.observe("iris")
        if routes.candidate is None and routes.weight_percent == 0:
            return round_
        platform.settle("iris", keep)
        cluster.rest()
    raise AssertionError("never settled")


def test_a_service_that_is_up_has_a_stable_revision_and_no_candidate() -> None:
    """Without a rollout all traffic goes to the stable revision, at the address of its users."""
    _, platform = up()
    routes = platform.observe("iris")
    assert routes.stable.name == "iris-predictor-00001"
    assert routes.stable.ready
    assert routes.stable.address == "http://iris-predictor.team.svc.cluster.local"
    assert (routes.candidate, routes.weight_percent, routes.label, routes.edited) == (None, 0, "", "")


def test_a_prepared_candidate_has_no_traffic_and_an_address_of_its_own() -> None:
    """The new revision comes up at 0 %, and is reached by its tag."""
    cluster, platform = up()
    platform.prepare("iris", ModelRef(uri(2)))
    pending = platform.observe("iris").candidate
    assert pending is not None
    assert (pending.name, pending.ready, pending.storage_uri) == ("", False, uri(2))
    cluster.rest(start=False)
    starting = platform.observe("iris").candidate
    assert starting is not None
    assert (starting.name, starting.ready) == ("iris-predictor-00002", False)
    cluster.rest()
    routes = platform.observe("iris")
    assert routes.candidate is not None
    assert routes.candidate.ready
    assert routes.candidate.address == "http://latest-iris-predictor.team.svc.cluster.local"
    assert routes.stable.address == "http://prev-iris-predictor.team.svc.cluster.local"
    assert cluster.users_reach == {uri(1): 100}


def test_from_outside_addresses_name_the_gateway_and_the_host() -> None:
    """Who reaches only the gateway finds the Host header to send behind the address."""
    cluster, _ = shifted(10)
    platform = KServePlatform(NAMESPACE, cluster, addresses=ThroughGateway("http://127.0.0.1:8080"))
    routes = platform.observe("iris")
    assert routes.stable.address == "http://127.0.0.1:8080#prev-iris-predictor.team.example.com"
    assert platform.users_address("iris") == "http://127.0.0.1:8080#iris-predictor.team.example.com"
    assert InCluster("corp").users("", "iris-predictor", "team") == "http://iris-predictor.team.svc.corp"


def test_a_label_is_told_only_while_the_gateway_routes_by_its_weight() -> None:
    """From the write until the gateway confirms it there is no label, whichever controller is slow."""
    cluster, platform = up()
    platform.prepare("iris", ModelRef(uri(2)))
    cluster.rest()
    platform.set_weight("iris", Split(0, "u/0"))
    assert platform.observe("iris").label == "u/0"
    platform.set_weight("iris", Split(10, "u/1"))
    for controller in cluster.controllers:
        assert platform.observe("iris").label == ""
        controller()
    assert platform.observe("iris").label == "u/1"
    assert platform.observe("iris").weight_percent == 10
    assert cluster.users_reach == {uri(1): 90, uri(2): 10}


def test_everything_may_be_asked_twice() -> None:
    """Asking again for what is so writes nothing."""
    cluster, platform = shifted(10)
    writes = len(cluster.patches)
    platform.prepare("iris", ModelRef(uri(2)))
    platform.set_weight("iris", Split(10, "u/1"))
    assert len(cluster.patches) == writes


def test_a_process_that_takes_over_finds_the_weight_and_soon_the_label() -> None:
    """Another process knows the weight at once, and the label as soon as it has asked for it, with nothing written."""
    cluster, _ = shifted(10)
    writes = len(cluster.patches)
    platform = KServePlatform(NAMESPACE, cluster)
    routes = platform.observe("iris")
    assert (routes.weight_percent, routes.label, routes.edited) == (10, "", "")
    platform.set_weight("iris", Split(10, "u/1"))
    assert platform.observe("iris").label == "u/1"
    assert len(cluster.patches) == writes


def test_a_candidate_that_is_not_ready_gets_no_traffic() -> None:
    """A weight above 0 waits for the candidate; 0 does not."""
    cluster, platform = up()
    platform.prepare("iris", ModelRef(uri(2)))
    platform.set_weight("iris", Split(0, "u/0"))
    cluster.rest(start=False)
    with pytest.raises(errors.Transient, match="iris-predictor-00002 is not ready"):
        platform.set_weight("iris", Split(10, "u/1"))


def test_a_promotion_leaves_the_candidate_as_the_stable_revision() -> None:
    """After a promotion nothing of the canary is left in the spec, and all users have the new model."""
    cluster, platform = shifted(50)
    settle(cluster, platform, Arm.CANDIDATE)
    routes = platform.observe("iris")
    assert (routes.stable.name, routes.stable.storage_uri) == ("iris-predictor-00002", uri(2))
    assert (cluster.percent, cluster.uri) == (None, uri(2))
    assert cluster.users_reach == {uri(2): 100}


def test_a_rollback_takes_the_traffic_first_and_then_puts_the_model_back() -> None:
    """The first write is the 0 %; at the end the spec names the model in use, without a weight, and no bad pod is left in the route."""
    cluster, platform = shifted(50)
    platform.settle("iris", Arm.STABLE)
    assert cluster.patches[-1]["spec"] == {"predictor": {"canaryTrafficPercent": 0}}
    cluster.rest()
    assert cluster.users_reach == {uri(1): 100}
    settle(cluster, platform, Arm.STABLE)
    assert (cluster.percent, cluster.uri) == (None, uri(1))
    routes = platform.observe("iris")
    assert (routes.stable.name, routes.stable.storage_uri) == ("iris-predictor-00003", uri(1))
    assert set(cluster.live) == {"iris-predictor-00003"}


def test_a_rollback_before_anything_was_prepared_writes_nothing() -> None:
    """There is nothing to give back."""
    cluster, platform = up()
    platform.settle("iris", Arm.STABLE)
    platform.set_weight("iris", Split(0, "u/0"))
    assert not cluster.patches


def test_a_stable_model_that_cannot_start_anew_keeps_serving() -> None:
    """When the stable model's image is gone, the revision that serves it keeps all traffic, and the rollback still ends."""
    cluster, platform = shifted(50)
    platform.settle("iris", Arm.STABLE)
    cluster.rest()
    platform.settle("iris", Arm.STABLE)
    cluster.rest(start=False)
    assert platform.observe("iris").candidate is not None
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    cluster.revisions[-1].ready = False
    cluster.revisions[-1].pod = {"containerStatuses": [{"name": "modelcar", "state": waiting}]}
    cluster.latest_ready = "iris-predictor-00002"
    cluster.rest(start=False)
    assert settle(cluster, platform, Arm.STABLE) == 0
    assert cluster.users_reach == {uri(1): 100}
    assert platform.observe("iris").stable.name == "iris-predictor-00001"


def test_a_canary_after_a_rolled_back_one_never_meets_the_bad_revision() -> None:
    """While the next candidate starts, "the latest ready revision" may still be the bad one: it gets nothing."""
    cluster, platform = shifted(50)
    platform.settle("iris", Arm.STABLE)
    cluster.rest()
    # The engine died before the stable model was put back; the next rollout begins here.
    platform = KServePlatform(NAMESPACE, cluster)
    platform.prepare("iris", ModelRef(uri(3)))
    cluster.rest(start=False)
    routes = platform.observe("iris")
    assert routes.candidate is not None
    assert (routes.candidate.name, routes.candidate.ready) == ("iris-predictor-00003", False)
    with pytest.raises(errors.Transient):
        platform.set_weight("iris", Split(10, "w/1"))
    assert cluster.users_reach == {uri(1): 100}
    cluster.rest()
    platform.set_weight("iris", Split(10, "w/1"))
    cluster.rest()
    assert cluster.users_reach == {uri(1): 90, uri(3): 10}


def test_kserve_never_goes_back_to_the_revision_before_the_stable_one() -> None:
    """KServe, seeing the new weight before the new revision, takes it for an undone promotion; its memory of that is put out first."""
    cluster, platform = shifted(50)
    settle(cluster, platform, Arm.CANDIDATE)
    assert cluster.component["previousRolledoutRevision"] == "iris-predictor-00001"
    platform.prepare("iris", ModelRef(uri(3)))
    # The order of the race: the route is through before the configuration.
    for _ in range(3):
        for controller in (
            cluster.kserve,
            cluster.service,
            cluster.route,
            cluster.gateway,
            cluster.service,
            cluster.kserve,
        ):
            controller()
    assert cluster.component["latestRolledoutRevision"] == "iris-predictor-00002"
    cluster.rest()
    assert cluster.users_reach == {uri(2): 100}


def test_the_race_is_real_without_the_precaution() -> None:
    """The fake shows the fault that the precaution is for; if KServe stops having it, this test tells."""
    cluster, platform = shifted(50)
    settle(cluster, platform, Arm.CANDIDATE)
    cluster.edit(uri=uri(3), percent=0)
    for _ in range(3):
        for controller in (
            cluster.kserve,
            cluster.service,
            cluster.route,
            cluster.gateway,
            cluster.service,
            cluster.kserve,
        ):
            controller()
    assert cluster.component["latestRolledoutRevision"] == "iris-predictor-00001"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"percent": 80}, "canaryTrafficPercent was changed from 10 to 80 by kubectl-edit at 2026-01-01T00:00:00Z"),
        ({"percent": None}, "canaryTrafficPercent was changed from 10 to unset"),
        ({"uri": uri(7)}, f"model.storageUri was changed from {uri(2)} to {uri(7)} by kubectl-edit"),
    ],
)
def test_an_edit_by_hand_is_told_and_not_fought(edit: dict[str, Any], said: str) -> None:
    """What somebody changed is said, with who it was; nothing of ours is written until it is undone."""
    cluster, platform = shifted(10)
    cluster.edit(**edit)
    writes = len(cluster.patches)
    routes = platform.observe("iris")
    assert said in routes.edited
    assert routes.label == ""
    with pytest.raises(errors.Transient, match="does not change it back"):
        platform.set_weight("iris", Split(25, "u/2"))
    if "uri" in edit:
        with pytest.raises(errors.Transient, match="does not change it back"):
            platform.prepare("iris", ModelRef(uri(2)))
    assert len(cluster.patches) == writes


def test_an_edit_that_is_undone_is_forgotten() -> None:
    """When the weight is again what was written, the rollout goes on."""
    cluster, platform = shifted(10)
    cluster.edit(percent=80)
    assert platform.observe("iris").edited
    cluster.edit(percent=10)
    cluster.rest()
    assert platform.observe("iris").edited == ""
    assert platform.observe("iris").label == "u/1"


def test_an_edit_is_noticed_by_a_process_that_takes_over() -> None:
    """Who wrote each field, the cluster itself remembers."""
    cluster, _ = shifted(10)
    cluster.edit(percent=80)
    cluster.rest()
    platform = KServePlatform(NAMESPACE, cluster)
    assert "canaryTrafficPercent is 80 by kubectl-edit" in platform.observe("iris").edited
    with pytest.raises(errors.Transient):
        platform.set_weight("iris", Split(10, "u/1"))


@pytest.mark.parametrize("edit", [{"percent": 80}, {"percent": None}, {"uri": uri(7)}, {"uri": uri(1)}])
def test_a_rollback_overrides_an_edit(edit: dict[str, Any]) -> None:
    """The verdict is carried out whatever somebody wrote meanwhile."""
    cluster, platform = shifted(10)
    cluster.edit(**edit)
    platform.settle("iris", Arm.STABLE)
    cluster.rest()
    settle(cluster, platform, Arm.STABLE)
    if edit != {"percent": None}:  # that gives the candidate all traffic, which KServe takes for its promotion
        assert cluster.users_reach == {uri(1): 100}


def test_a_write_that_meets_another_is_tried_again() -> None:
    """KServe writes its status all the time; only who read the present version writes."""
    cluster, platform = up()
    times = iter(range(3))

    def faster() -> None:
        if next(times, None) is not None:
            cluster.version += 1

    cluster.before_patch = faster
    platform.prepare("iris", ModelRef(uri(2)))
    assert cluster.uri == uri(2)
    cluster.before_patch = lambda: cluster._set({}, "kserve")
    with pytest.raises(errors.Transient, match="changed so often"):
        platform.prepare("iris", ModelRef(uri(3)))


def test_the_first_deployment_has_no_stable_revision() -> None:
    """What comes up first is the candidate, and all traffic is its own as soon as it is ready."""
    cluster = FakeCluster(uri=uri(1))
    platform = KServePlatform(NAMESPACE, cluster)
    routes = platform.observe("iris")
    assert routes.stable.name == ""
    assert "first deployment" in routes.stable.detail
    platform.prepare("iris", ModelRef(uri(2)))
    assert cluster.percent is None
    cluster.rest(start=False)
    first = platform.observe("iris").candidate
    assert first is not None
    assert (first.name, first.ready) == ("iris-predictor-00001", False)
    platform.settle("iris", Arm.CANDIDATE)
    cluster.rest()
    routes = platform.observe("iris")
    assert (routes.stable.name, routes.stable.ready, routes.candidate) == ("iris-predictor-00001", True, None)


@pytest.mark.parametrize(
    ("pod", "detail", "failed"),
    [
        ({"containerStatuses":
          [{"name": "modelcar", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling x"}}}]},
         "container modelcar: ImagePullBackOff: Back-off pulling x", True),
        ({"containerStatuses": [{"name": "modelcar", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]},
         "container modelcar: ErrImagePull: not found", False),
        ({"containerStatuses": [{"name": "kserve-container", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
          "lastState": {"terminated": {"reason": "Error", "exitCode": 3, "message": "a\nValueError: no model\n"}}}]},
         "container kserve-container ended: Error, exit code 3: ValueError: no model", False),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: no cpu"}]},
         "Unschedulable: 0/1 nodes: no cpu", False),
        ({"containerStatuses": [{"name": "kserve-container", "state": {"waiting": {"reason": "ContainerCreating"}}}]},
         "it is starting", False),
        ({}, "it is starting", False),
    ],
)  # fmt: skip
def test_why_a_candidate_does_not_start_is_told_by_its_pod(pod: dict[str, Any], detail: str, failed: bool) -> None:
    """The nearest to the cause is said; what waiting does not mend is failed."""
    cluster, platform = up()
    platform.prepare("iris", ModelRef(uri(2)))
    cluster.rest(start=False)
    cluster.revisions[-1].pod = pod
    candidate = platform.observe("iris").candidate
    assert candidate is not None
    assert (candidate.ready, candidate.detail, candidate.failed) == (False, detail, failed)
    assert candidate.restarts == (2 if "exit code" in detail else 0)


def test_a_candidate_whose_pod_died_is_not_ready() -> None:
    """Knative keeps a revision Ready when its pod dies; the pods are asked as well."""
    cluster, platform = shifted(10)
    cluster.revisions[-1].pod = {"conditions": [{"type": "Ready", "status": "False"}]}
    candidate = platform.observe("iris").candidate
    assert candidate is not None
    assert (candidate.ready, candidate.detail) == (False, "none of its pods is ready")


def test_what_kserve_refuses_to_make_is_a_failed_candidate() -> None:
    """A spec that KServe makes no revision of fails with its words."""
    cluster, platform = up()
    platform.prepare("iris", ModelRef("ftp://x"))
    cluster.status = {
        "conditions": [
            {
                "type": "PredictorReady",
                "status": "False",
                "reason": "ReconcileFailed",
                "message": "StorageURI not supported",
            }
        ]
    }
    candidate = platform.observe("iris").candidate
    assert candidate is not None
    assert (candidate.failed, candidate.detail) == (True, "StorageURI not supported")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": {"deploymentMode": "Standard"}}, "is in Standard mode"),
        ({"extra_spec": {"model": None, "containers": [{"name": "a"}, {"name": "b"}]}}, "has 2 containers of its own"),
        ({"extra_spec": {"model": {"modelFormat": {}}}}, r"has no spec.predictor.model.storageUri"),
        ({"missing": True}, "there is no InferenceService iris in namespace team"),
    ],
)
def test_a_service_that_cannot_have_a_canary_is_refused(change: dict[str, Any], said: str) -> None:
    """What is wrong and what to do is said, before anything is written."""
    cluster, platform = up()
    for name, value in change.items():
        setattr(cluster, name, value)
    with pytest.raises(errors.BadInput, match=said) as refused:
        platform.observe("iris")
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("percent", "said"), [(100, "takes the candidate for promoted"), (101, "0 to 100"), (-1, "0 to 100")]
)
def test_a_weight_that_kserve_cannot_route_is_refused(percent: int, said: str) -> None:
    """At 100 % KServe forgets the stable revision, so a ramp ends below."""
    _, platform = shifted(10)
    with pytest.raises(errors.BadInput, match=said):
        platform.set_weight("iris", Split(percent, "u/2"))


def test_the_model_that_is_served_already_is_no_candidate() -> None:
    """KServe would make no revision of it."""
    _, platform = up()
    with pytest.raises(errors.BadInput, match=r"serves oci://dev\.local/iris:1 already"):
        platform.prepare("iris", ModelRef(uri(1)))


def test_a_canary_of_somebody_else_is_left_alone() -> None:
    """A candidate with traffic that relevo did not make is not replaced."""
    cluster, platform = up()
    cluster.edit(uri=uri(2), percent=20)
    cluster.rest()
    with pytest.raises(errors.Transient, match="canaryTrafficPercent is 20 by kubectl-edit"):
        platform.prepare("iris", ModelRef(uri(3)))


steps = st.sampled_from(["kserve", "service", "configuration", "route", "gateway", "start", "ask"])


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from([5, 25, 50]), max_size=3), st.sampled_from(list(Arm))),
        min_size=1,
        max_size=3,
    ),
    st.lists(steps, max_size=400),
)
def test_users_only_ever_meet_the_stable_model_and_the_candidate(
    rollouts: list[tuple[list[int], Arm]], order: list[str]
) -> None:
    """Whatever order the controllers run in, over rollouts one after the other: no third model gets a request, no more than the weight
    goes to the candidate before its promotion, and a label is only told while the gateway routes by its weight."""
    cluster, platform = up()
    stable, version, schedule = 1, 1, iter(order)
    for weights, keep in rollouts:
        version += 1
        asked = [0]

        def check(kept: Arm | None = None, *, bound: list[int] = asked, old: int = stable, new: int = version) -> None:
            reached = cluster.users_reach
            assert set(reached) <= {uri(old), uri(new)}, reached
            if kept is not Arm.CANDIDATE:
                assert reached.get(uri(new), 0) <= max(bound)
            label = platform.observe("iris").label
            if label:
                assert reached.get(uri(new), 0) == int(label.split("/")[1])

        def run(wish: Any, done: Any, kept: Arm | None = None) -> None:
            for count in range(600):
                step = (
                    next(schedule, None)
                    or ("start", "kserve", "service", "configuration", "route", "gateway", "ask")[count % 7]
                )
                if step == "ask":
                    with suppress(errors.Transient):
                        wish()
                else:
                    getattr(cluster, step)()
                check(kept)
                if done():
                    return
            raise AssertionError("it does not come to an end")

        def prepared(uri_: str = uri(version)) -> None:
            platform.prepare("iris", ModelRef(uri_))
            platform.set_weight("iris", Split(0, "u/0"))

        def is_ready() -> bool:
            candidate = platform.observe("iris").candidate
            return candidate is not None and candidate.ready

        run(prepared, is_ready)
        for weight in weights:
            asked.append(weight)
            run(
                lambda w=weight: platform.set_weight("iris", Split(w, f"u/{w}")),
                lambda w=weight: platform.observe("iris").label == f"u/{w}",
            )
        run(
            lambda k=keep: platform.settle("iris", k),
            lambda: platform.observe("iris").candidate is None and platform.observe("iris").weight_percent == 0,
            keep,
        )
        stable = version if keep is Arm.CANDIDATE else stable
        assert cluster.users_reach == {uri(stable): 100}


def at_a_rollbacks_last_step() -> tuple[FakeCluster, KServePlatform]:
    """The field is taken away, and KServe has not seen that yet."""
    cluster, platform = shifted(10)
    for _ in range(20):
        platform.settle("iris", Arm.STABLE)
        if cluster.percent is None:
            return cluster, platform
        cluster.rest()
    raise AssertionError("it does not come to its last step")


def test_a_rollback_has_not_ended_before_kserve_has_made_its_new_revision_the_stable_one() -> None:
    """Who began a rollout before that would compare with a revision that is about to go."""
    cluster, platform = at_a_rollbacks_last_step()
    routes = platform.observe("iris")
    assert routes.stable.name == "iris-predictor-00001"
    assert routes.candidate is not None
    assert not routes.candidate.ready
    cluster.rest()
    routes = platform.observe("iris")
    assert (routes.stable.name, routes.candidate) == ("iris-predictor-00003", None)


def test_while_a_rollback_ends_no_user_is_shown_to_be_elsewhere() -> None:
    """KServe names the old stable revision for a moment longer, when users are with a new one of the same model already."""
    cluster, platform = at_a_rollbacks_last_step()
    seen = []
    for _ in range(6):
        for controller in cluster.controllers:
            controller()
            assert cluster.users_reach == {uri(1): 100}
            seen.append(platform.observe("iris"))
    assert {routes.weight_percent for routes in seen} == {0}
    assert len({routes.stable.name for routes in seen}) == 2
