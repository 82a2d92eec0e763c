"""The local platform with a real Envoy and stub servers: the split, its stamps, and changes under load."""

from __future__ import annotations

import itertools
import time

import httpx
import pytest
from stub_platform import INFER, manifest, processes, running, until, users, with_candidate

from relevo import errors
from relevo.rollout.observation import Arm
from relevo.rollout.platform import ModelRef, Split

pytestmark = pytest.mark.component


@pytest.fixture
def platform(tmp_path):
    with running(tmp_path) as one:
        yield one


def test_the_first_deployment_serves_every_way_in(platform):
    """A model is reached by its path in V1 and V2, by its host name, and by any other path; nothing is labelled before a rollout."""
    url = platform.proxy_url
    for path in (
        INFER,
        "/v1/models/iris:predict",
        "/v2/models/iris",
        "/v1/models/iris",
        "/predict",
        "/v2/health/ready",
    ):
        answer = httpx.get(url + path)
        assert answer.status_code == 200, path
        assert answer.headers["x-relevo-assigned"] == "iris-predictor-00001"
        assert "x-relevo-route" not in answer.headers
    by_host = httpx.get(url + "/anything", headers={"host": f"iris.default.example.com:{httpx.URL(url).port}"})
    assert by_host.headers["x-relevo-revision"] == "iris-predictor-00001"
    seen = platform.observe("iris")
    assert (seen.stable.name, seen.stable.ready, seen.candidate, seen.weight_percent, seen.label) == (
        "iris-predictor-00001",
        True,
        None,
        0,
        "",
    )


def test_the_split_and_its_label_are_what_users_get(platform):
    """At 25 % about a quarter of the answers come from the candidate, all stamped with the label of the split and who was chosen."""
    with_candidate(platform)
    platform.set_weight("iris", Split(25, "u1/2"))
    with users(platform.proxy_url) as tally:
        until(lambda: sum(tally.outcomes.values()) >= 2000, "2,000 requests", 30)
    assert tally.failed == 0
    assert set(tally.labels) == {"u1/2"}
    assert tally.assigned == tally.answered_by
    share = tally.answered_by["iris-predictor-00002"] / sum(tally.answered_by.values())
    assert 0.20 < share < 0.30  # five standard errors at 2,000 requests
    seen = platform.observe("iris")
    assert (seen.weight_percent, seen.label) == (25, "u1/2")


def test_no_request_fails_while_weights_change_and_revisions_come_and_go(platform):
    """Under load: a rollout that is promoted, one that is rolled back, and many weights on the way, without one failed request."""
    took = []
    with users(platform.proxy_url, 6) as tally:
        for number, keep in ((2, Arm.CANDIDATE), (3, Arm.STABLE), (4, Arm.CANDIDATE)):
            with_candidate(platform, f"iris:{number}")
            for weight in (1, 50, 10, 100, 0, 25, 75, 99, 3, 60):
                started = time.perf_counter()
                platform.set_weight("iris", Split(weight, f"u{number}/{weight}"))
                took.append(time.perf_counter() - started)
            platform.settle("iris", keep)
        before = sum(tally.outcomes.values())
        until(lambda: sum(tally.outcomes.values()) > before + 200, "more requests")
    assert tally.failed == 0, tally.outcomes
    assert sum(tally.outcomes.values()) > 500
    assert platform.observe("iris").stable.name == "iris-predictor-00004"
    assert sorted(took)[int(len(took) * 0.95)] < 0.5


def test_a_weight_is_in_effect_when_the_call_returns(platform):
    """After set_weight(0) not one request reaches the candidate, after 100 every one does."""
    with_candidate(platform)
    with httpx.Client(base_url=platform.proxy_url) as client:
        for weight, revision in itertools.islice(
            itertools.cycle(((0, "iris-predictor-00001"), (100, "iris-predictor-00002"))), 10
        ):
            platform.set_weight("iris", Split(weight, f"u1/{weight}"))
            assert {client.get(INFER).headers["x-relevo-revision"] for _ in range(10)} == {revision}


def test_a_slow_request_survives_the_retirement_of_its_server(tmp_path):
    """A request that was under way when its revision left the routes gets its answer, and then the process ends."""
    with running(tmp_path, "slow:1") as platform:
        with_candidate(platform, "iris:2")
        with users(platform.proxy_url, 3, pause_seconds=0) as tally:
            until(lambda: sum(tally.outcomes.values()) >= 3, "requests under way")
            platform.set_weight("iris", Split(50, "u1/1"))
            platform.settle("iris", Arm.CANDIDATE)
            until(lambda: "iris-predictor-00001" not in processes(tmp_path), "the old process has ended")
        assert tally.failed == 0, tally.outcomes
        assert tally.answered_by["iris-predictor-00001"] >= 3


def test_answers_with_5xx_are_evidence_and_never_move_traffic(platform):
    """A candidate that answers 500 keeps its share: the users' errors are seen as they are, and nothing is retried."""
    with_candidate(platform, "failing:2")
    platform.set_weight("iris", Split(50, "u1/1"))
    with users(platform.proxy_url) as tally:
        until(lambda: sum(tally.outcomes.values()) >= 1000, "1,000 requests", 20)
    share = tally.outcomes["500"] / sum(tally.outcomes.values())
    assert 0.42 < share < 0.58
    assert tally.assigned == tally.answered_by


def test_preparing_again_changes_nothing_and_another_candidate_replaces_it(platform, tmp_path):
    """Prepare is idempotent; a leftover at 0 % is replaced under a new number; one with traffic is not."""
    with_candidate(platform, "iris:2")
    before = processes(tmp_path)
    platform.prepare("iris", ModelRef("oci://dev.local/iris:2"))
    assert processes(tmp_path) == before
    with_candidate(platform, "iris:3")
    assert platform.observe("iris").candidate.name == "iris-predictor-00003"
    until(lambda: "iris-predictor-00002" not in processes(tmp_path), "the replaced candidate has ended")
    platform.set_weight("iris", Split(10, "u/1"))
    with pytest.raises(errors.Conflict, match="10 %"):
        platform.prepare("iris", ModelRef("oci://dev.local/iris:4"))


def test_settling_twice_is_the_same_as_once(platform, tmp_path):
    """Both ways of settling may be called again after they are done."""
    with_candidate(platform)
    for _ in range(2):
        platform.settle("iris", Arm.STABLE)
    assert platform.observe("iris").stable.name == "iris-predictor-00001"
    with_candidate(platform)
    for _ in range(2):
        platform.settle("iris", Arm.CANDIDATE)
    assert platform.observe("iris").stable.name == "iris-predictor-00003"
    until(lambda: set(processes(tmp_path)) == {"envoy", "iris-predictor-00003"}, "only the kept revision runs")


def test_a_candidate_that_is_not_ready_gets_no_traffic(platform):
    """Weight above 0 is refused as transient; a refused package is reported as failed, with the server's own words."""
    platform.prepare("iris", ModelRef("oci://dev.local/unready:2"))
    with pytest.raises(errors.Transient, match="iris-predictor-00002 is not ready"):
        platform.set_weight("iris", Split(1, "u/1"))
    platform.set_weight("iris", Split(0, "u/0"))
    platform.prepare("iris", ModelRef("oci://dev.local/refused:3"))
    until(lambda: platform.observe("iris").candidate.failed, "failed for good")
    candidate = platform.observe("iris").candidate
    assert candidate.detail == "model package iris: model.onnx was changed"
    assert (candidate.restarts, candidate.ready) == (0, False)


def test_bad_arguments_are_refused_before_anything_changes(platform):
    """No such service, no candidate, no percentage, no header value: each has its own message."""
    with pytest.raises(errors.BadInput, match=r"no InferenceService digits is up; there is iris"):
        platform.observe("digits")
    with pytest.raises(errors.Permanent, match="no candidate"):
        platform.set_weight("iris", Split(5, "u/1"))
    with pytest.raises(errors.BadInput, match="101"):
        platform.set_weight("iris", Split(101, "u/1"))
    with pytest.raises(errors.BadInput, match="label"):
        platform.set_weight("iris", Split(0, "a\r\nb: c"))
    with pytest.raises(errors.BadInput, match="iris-predictor-00009"):
        platform.address("iris-predictor-00009")


def test_two_services_are_split_apart(platform):
    """A second service may be added to a running platform, and its rollout does not touch the first one's."""
    port = httpx.URL(platform.proxy_url).port
    platform.up(manifest("digits:1", "digits"), proxy_port=port, timeout_seconds=20)
    assert platform.services() == ("iris", "digits")
    with_candidate(platform)
    platform.set_weight("iris", Split(100, "u/1"))
    digits = httpx.get(platform.proxy_url + "/v2/models/digits/infer")
    assert digits.headers["x-relevo-revision"] == "digits-predictor-00001"
    assert "x-relevo-route" not in digits.headers
    assert httpx.get(platform.proxy_url + INFER).headers["x-relevo-revision"] == "iris-predictor-00002"


def test_envoy_counts_by_revision_in_fine_buckets(platform):
    """Statistics carry the revision's name as Knative's gateways do, with latency buckets of milliseconds, fresh within a second."""
    for _ in range(50):
        httpx.post(platform.proxy_url + INFER, json={})

    def fresh() -> bool:
        text = httpx.get(platform.admin_url + "/stats/prometheus").text
        counted = 'envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="iris-predictor-00001"} 50'
        timed = 'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="iris-predictor-00001",le="65"} 50'
        return counted in text and timed in text

    assert until(fresh, "50 requests in the statistics", 5) < 2
