"""What the tests on a cluster judge by: weights that were seen, delays that were measured, manifests, and which modules run when."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.e2e import STAGES, stages
from scripts.lab.delays import Delay, delay
from scripts.lab.kube import Lab, LabError, until
from scripts.lab.rollouts import sample_rollout, sample_service
from scripts.lab.users import GatewayUsers, Seen
from scripts.lab.watching import Look, Watch, weights_of


def test_weights_are_added_up_by_revision() -> None:
    """Knative may name one revision twice: for its tag, and for its share."""
    traffic = [
        {"revisionName": "a", "percent": 90},
        {"revisionName": "b", "percent": 10},
        {"revisionName": "a", "tag": "prev"},
    ]
    assert weights_of(traffic) == {"a": 90, "b": 10}


def watched() -> Watch:
    return Watch(Lab("nowhere", kubectl_path="kubectl"), "team", "iris")


def status(**weights: int) -> dict[str, Any]:
    traffic = [{"revisionName": name, "percent": percent} for name, percent in weights.items()]
    return {
        "metadata": {"name": "iris"},
        "status": {"components": {"predictor": {"traffic": traffic}}, "traffic": traffic},
    }


def test_weights_that_do_not_sum_to_100_are_a_problem() -> None:
    """At every look; and every change is kept once."""
    watch = watched()
    watch._service(1.0, status(a=100))
    watch._service(2.0, status(a=100))
    watch._service(3.0, status(a=90, b=9))
    assert [look.weights for look in watch.traffic] == [{"a": 100}, {"a": 90, "b": 9}]
    assert len(watch.problems) == 1
    assert "'b': 9" in watch.problems[0]


def revision(name: str, ready: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@pytest.mark.parametrize(("ready", "problems"), [("True", 0), ("False", 1)])
def test_a_revision_that_gets_weight_must_be_ready(monkeypatch: pytest.MonkeyPatch, ready: str, problems: int) -> None:
    """One that is told to be so a moment later was so: two watches are told in no order."""
    monkeypatch.setattr("scripts.lab.watching.BECOMES_READY_SECONDS", 0.05)
    watch = watched()
    watch._route(1.0, status(a=100))
    watch._route(2.0, status(a=95, b=5))
    watch._revision(2.0, revision("b", ready))
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(5)
    assert len(watch.problems) == problems


def seen(at: float, who: str, status_code: int) -> Seen:
    return Seen(at - 0.01, at, status_code, who, "" if status_code == 200 else "HTTP 500")


def look(at: str, e: float, errors: int = 0, weight: int = 5) -> dict[str, Any]:
    arms = [{"revision": "b", "requests": 10, "errors": errors}]
    return {
        "at": f"1970-01-01T00:00:{at}+00:00",
        "e_against": e,
        "limit_against": 20,
        "weight_live_percent": weight,
        "arms": arms,
    }


def test_the_delay_counts_from_the_looks_before_the_one_that_decided() -> None:
    """The decisive response came between two looks; a failed answer after the deciding one does not count."""
    answers = [
        seen(10.0, "b", 200),
        seen(11.0, "b", 500),
        seen(12.0, "b", 500),
        seen(13.5, "b", 500),
        seen(12.5, "a", 200),
    ]
    traffic = [Look(5.0, {"a": 100}), Look(9.0, {"a": 95, "b": 5}), Look(14.0, {"a": 100, "b": 0})]
    looks = [look("12", 3, 1), look("13", 25, 2), look("14", 90, 3)]
    found = delay(looks, traffic, answers, "b")
    assert isinstance(found, Delay)
    assert (found.decided, found.counted) == pytest.approx((1.0, 2.0))
    assert found.last_failure == pytest.approx(2.0)
    assert (found.candidate_errors, found.requests_in_all, found.errors_in_all) == (2, 4, 3)


@pytest.mark.parametrize(
    ("looks", "reason"),
    [
        ([look("12", 3)], "no look"),
        ([look("12", 30)], "the first look"),
        ([look("11", 1), look("12", 30, weight=0)], "0 %"),
    ],
)
def test_without_a_decision_under_traffic_there_is_no_delay(looks: list[dict[str, Any]], reason: str) -> None:
    """A candidate that was out before any user met it has kept nobody waiting."""
    found = delay(looks, [Look(5.0, {"a": 100})], [], "b")
    assert isinstance(found, str)
    assert reason in found


def test_a_strategy_takes_the_place_of_the_samples() -> None:
    """There can be only one; other fields are set beside the sample's, and None takes one away."""
    spec = sample_rollout("iris", "1", strategy={"immediate": {}}, load={"usersTo": 30}, checks=None)["spec"]
    assert spec["strategy"] == {"immediate": {}}
    assert spec["load"] == {"usersFrom": 12, "usersTo": 30}
    assert "checks" not in spec
    assert (
        sample_service("wine", model={"storageUri": "oci://x:1"})["spec"]["predictor"]["model"]["runtime"] == "relevo"
    )


def test_until_says_what_did_not_come_in_time() -> None:
    """The first thing seen is given back."""
    looks = iter([0, "", 7])
    assert until("seven", lambda: next(looks), seconds=5, every_seconds=0) == 7
    with pytest.raises(LabError, match="not within 0 s: never"):
        until("never", lambda: None, seconds=0, every_seconds=0)


def test_every_module_runs_once_however_many_streams_there_are() -> None:
    """Those that no stage knows as well."""
    modules = ["verdicts", "faults", "kills", "of_tomorrow"]
    for side_by_side in (False, True):
        paths = [path for stage in stages(modules, side_by_side=side_by_side) for stream in stage for path in stream]
        assert sorted(paths) == sorted(f"tests/e2e/test_{name}.py" for name in modules)


def test_the_stages_name_modules_that_there_are() -> None:
    """A module that was renamed would run alone, last, and nobody would see."""
    folder = Path(__file__).parents[2] / "e2e"
    for name in (name for stage in STAGES for stream in stage for name in stream):
        assert (folder / f"test_{name}.py").exists(), name


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[str]]]:
    """A server that fails each third request; its address, and the Host headers that it saw."""
    hosts: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            hosts.append(self.headers["host"])
            self.send_response(500 if len(hosts) % 3 == 0 else 200)
            self.send_header("x-relevo-revision", "iris-00001")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", hosts
    server.shutdown()


def test_users_write_down_every_answer_and_end_by_themselves(gateway: tuple[str, list[str]], tmp_path: Path) -> None:
    """So many requests and no more, each with its Host header, its status and who answered."""
    address, hosts = gateway
    np.savez(tmp_path / "rows.npz", x=np.ones((3, 4)), y=np.zeros(3))
    with GatewayUsers(address, "iris.team.example.com", "iris", tmp_path / "rows.npz", per_second=200, most=9) as users:
        until("they end", lambda: users.ended, seconds=30)
    answers = users.answers()
    assert len(answers) == len(hosts) == 9
    assert set(hosts) == {"iris.team.example.com"}
    assert [one.status for one in answers].count(500) == 3
    assert all(one.revision == "iris-00001" and one.answered_at >= one.sent_at for one in answers)
    assert json.dumps(answers[0].problem)
