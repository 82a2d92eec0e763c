"""The operator's small parts: what an edit says, how samples are thinned, what an Event is called, the smoke test, the web server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from relevo.access.credential import Credential
from relevo.operator.edits import changes_between
from relevo.operator.events import reason_of
from relevo.operator.recording import thinned
from relevo.operator.smoke import MetadataSmokeTest
from relevo.operator.web import Web
from relevo.platforms.cluster_api import ROLLOUTS
from relevo.rollout.decision import Transition
from tests.unit.operator.world import Paper

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_an_edit_is_told_field_by_field() -> None:
    """Old and new value, by the field's path."""
    before = {"decision": {"alpha": 0.05}, "load": {"usersTo": 20}, "paused": False}
    after = {"decision": {"alpha": 0.01}, "load": {"usersTo": 20}}
    told = changes_between(before, after)
    assert told == "spec.decision.alpha: 0.05 -> 0.01; spec.paused: false -> (none). Taken up from now on."
    assert changes_between(before, before) == ""


def test_samples_are_thinned_evenly_in_time() -> None:
    """First and last stay; however often it is thinned again, no stretch of time is left without."""
    samples: list[dict[str, Any]] = []
    for second in range(3000):
        samples = thinned([*samples, {"at": (START + timedelta(seconds=second)).isoformat()}], 100)
        assert len(samples) <= 100
    times = [datetime.fromisoformat(s["at"]) for s in samples]
    assert times[0] == START
    assert times[-1] == START + timedelta(seconds=2999)
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    assert max(gaps) <= 4 * 3000 / 100


@pytest.mark.parametrize(
    ("rule", "before", "after", "reason", "warning"),
    [
        ("start", "Pending", "Preparing", "RolloutStarted", False),
        ("prepared", "Preparing", "Shadowing", "CandidateReady", False),
        ("prepared", "Preparing", "Shifting 1/4", "StepReached", False),
        ("advance", "Shifting 1/4", "Shifting 2/4", "StepReached", False),
        ("hold-Unmeasurable", "Shifting 1/4", "Held", "Held", True),
        ("release", "Held", "Shifting 1/4", "Resumed", False),
        ("evidence", "Shifting 4/4", "Promoting", "Promoting", False),
        ("evidence", "Shifting 2/4", "RollingBack", "RollingBack", True),
        ("settled", "Promoting", "Promoted", "Promoted", False),
        ("settled", "RollingBack", "RolledBack", "RolledBack", True),
        ("refused", "Promoting", "Promoting", "OrderRefused", True),
    ],
)
def test_every_transition_has_a_typed_reason(rule: str, before: str, after: str, reason: str, warning: bool) -> None:
    """So that people can ask for Events by it."""
    transition = Transition(START, "relevo", rule, before, after, "message")
    assert reason_of(transition) == (reason, warning)


class Model(BaseHTTPRequestHandler):
    """A V2 model of four features that fails as often as the test says."""

    hosts: ClassVar[list[str]] = []
    authorizations: ClassVar[list[str | None]] = []
    failures = 0

    def do_GET(self) -> None:
        self._answer(200, {"inputs": [{"name": "x", "shape": [-1, 4], "datatype": "FP64"}]})

    def do_POST(self) -> None:
        Model.authorizations.append(self.headers["authorization"])
        Model.hosts.append(self.headers["host"])
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert body["inputs"][0]["shape"] == [1, 4]
        assert len(body["inputs"][0]["data"]) == 4
        Model.failures -= 1
        ok = Model.failures < 0
        self._answer(200 if ok else 500, {"outputs": [{"data": [1]}]} if ok else {"error": "no"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    Thread(target=server.serve_forever, daemon=True).start()
    Model.hosts, Model.failures, Model.authorizations = [], 0, []
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_smoke_test_asks_the_model_what_it_takes(address: str) -> None:
    """Rows of the shape that its metadata name; all are answered."""
    smoke = MetadataSmokeTest("iris").run(address)
    assert (smoke.requests, smoke.failed) == (10, 0)


def test_an_addresss_fragment_is_its_host(address: str) -> None:
    """Through a gateway a revision is told by its Host."""
    MetadataSmokeTest("iris", requests=1).run(f"{address}#latest-iris.default.example.com")
    assert Model.hosts == ["latest-iris.default.example.com"]


def test_smoke_requests_carry_a_credential_where_there_is_one(address: str, tmp_path: Path) -> None:
    """Beside the Host, if there is one; without a credential there is no such header."""
    (tmp_path / "key").write_text("relevo_1_2")
    MetadataSmokeTest("iris", requests=1).run(address)
    credential = Credential(tmp_path)
    MetadataSmokeTest("iris", requests=1, credential=credential).run(f"{address}#latest-iris.default.example.com")
    assert Model.authorizations == [None, "Bearer relevo_1_2"]
    assert Model.hosts[-1] == "latest-iris.default.example.com"


def test_failed_smoke_requests_are_counted_and_quoted(address: str) -> None:
    """Some may fail: that is for the statistics to judge."""
    Model.failures = 3
    smoke = MetadataSmokeTest("iris").run(address)
    assert smoke.failed == 3
    assert "HTTP 500" in smoke.detail


def test_a_candidate_that_does_not_answer_fails_all() -> None:
    """Nobody is there."""
    smoke = MetadataSmokeTest("iris", timeout_seconds=0.5).run("http://127.0.0.1:9")
    assert smoke.failed == smoke.requests == 10


def test_the_web_server_tells_metrics_and_health() -> None:
    """/metrics as Prometheus reads it; /healthz and /readyz with what is wrong."""
    registry = CollectorRegistry()
    Counter("relevo_something", "Counts.", registry=registry).inc()
    wrong = [""]
    web = Web("127.0.0.1", 0, registry, lambda: wrong[0], lambda: "it does not watch yet")
    url = f"http://127.0.0.1:{web.port}"
    try:
        assert "relevo_something_total 1.0" in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/healthz").status_code == 200
        wrong[0] = "a rollout is overdue by 61 s"
        answer = httpx.get(f"{url}/healthz")
        assert (answer.status_code, answer.text) == (503, "a rollout is overdue by 61 s\n")
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert httpx.get(f"{url}/other").status_code == 404
    finally:
        web.close()


def test_the_metrics_tell_of_every_rollout() -> None:
    """Phases, weights, holds, verdicts; a Rollout that is gone takes its series with it."""
    paper = Paper()
    paper.create()
    paper.create("second", target="other")
    paper.run(until="Shifting")
    paper.edit(paused=True)
    paper.run(until="Held")
    paper.run(40)
    value = paper.metrics.registry.get_sample_value
    assert value("relevo_rollouts", {"namespace": "default", "phase": "Held"}) == 1
    assert value("relevo_rollouts", {"namespace": "default", "phase": "Promoted"}) == 1
    labels = {"namespace": "default", "rollout": "iris", "target": "iris"}
    assert value("relevo_rollout_weight_percent", labels) == 5
    labels = {"namespace": "default", "rollout": "iris", "reason": "PausedBySpec"}
    assert value("relevo_rollout_held_since_timestamp_seconds", labels) is not None
    assert value("relevo_verdicts_total", {"namespace": "default", "verdict": "pass", "cause": "evidence"}) == 1
    ticks = {"namespace": "default", "rollout": "second", "outcome": "ok"}
    assert (value("relevo_ticks_total", ticks) or 0) > 3
    paper.api.delete(ROLLOUTS, "default", "second")
    assert value("relevo_ticks_total", ticks) is None
