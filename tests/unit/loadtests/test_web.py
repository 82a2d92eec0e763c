"""The extra route on Locust's web server."""

from __future__ import annotations

from types import SimpleNamespace

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from loadtests.answers import Answer
from loadtests.orders import Orders
from loadtests.tally import Tally
from loadtests.web import add_routes
from relevo.evidence.source import ShadowTargets
from relevo.evidence.wire import GeneratorReport

TARGETS = {
    "label": "u/shadow",
    "stable_revision": "iris-00001",
    "stable_url": "http://127.0.0.1:9001",
    "candidate_revision": "iris-00002",
    "candidate_url": "http://127.0.0.1:9002",
}


class Page:
    def __init__(self) -> None:
        self.runner = SimpleNamespace(state="ready", user_count=0, target_user_count=0)
        self.tally = Tally()
        self.told = 0
        app = Flask(__name__)
        add_routes(app, self.runner, self.tally, Orders(), self.tell_workers)
        self.client: FlaskClient = app.test_client()

    def tell_workers(self) -> None:
        self.told += 1

    def report(self) -> GeneratorReport:
        return GeneratorReport.model_validate_json(self.client.get("/relevo").data)


@pytest.fixture
def page() -> Page:
    return Page()


def test_the_report_is_what_the_engine_reads(page: Page) -> None:
    """What this end writes, the other end's model accepts, with the same numbers, from the first moment on."""
    assert page.report().counts == ()
    page.tally.record("u/1", "iris-00001", Answer(predicted="0"), 1.0, "1")
    page.tally.record_pair("u/shadow", Answer(predicted="0"), Answer(predicted="1"))
    page.runner.state, page.runner.user_count, page.runner.target_user_count = "spawning", 3, 8
    report = page.report()
    assert (report.state, report.users, report.target_users) == ("spawning", 3, 8)
    assert (report.counts[0].requests, report.counts[0].wrong, sum(report.counts[0].latency)) == (1, 1, 1)
    assert report.pairs[0].disagreed == 1


def test_a_stopped_generator_has_no_target(page: Page) -> None:
    """Locust remembers the last number of users after it stopped; that is no longer what it strives for."""
    page.runner.state, page.runner.target_user_count = "stopped", 8
    assert page.report().target_users == 0


def test_shadow_is_set_shown_and_ended(page: Page) -> None:
    """What was set is what the report shows, until it is ended."""
    assert page.client.post("/relevo", data=orjson.dumps({"shadow": TARGETS})).status_code == 200
    assert page.report().shadow == ShadowTargets(**TARGETS)
    assert page.client.post("/relevo", data=b'{"shadow": null}').status_code == 200
    assert page.report().shadow is None


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"{}", "shadow"),
        (b'{"shadow": 1}', "shadow"),
        (b'{"shadow": null, "users": 3}', "users"),
        (orjson.dumps({"shadow": {**TARGETS, "label": ""}}), "label"),
        (orjson.dumps({"shadow": {**TARGETS, "label": "a\r\nb"}}), "label"),
        (orjson.dumps({"shadow": {**TARGETS, "stable_url": "ftp://127.0.0.1"}}), "stable_url"),
        (orjson.dumps({"shadow": {**TARGETS, "candidate_url": "http://127.0.0.1:9/x?y"}}), "candidate_url"),
        (orjson.dumps({"shadow": {**TARGETS, "candidate_revision": "iris-00001"}}), "differ"),
        (orjson.dumps({"shadow": {k: v for k, v in TARGETS.items() if k != "stable_url"}}), "stable_url"),
    ],
)
def test_a_bad_command_is_a_400_that_names_the_field(page: Page, body: bytes, named: str) -> None:
    """What cannot be a shadow stage is refused with the reason, and the stage stays as it was."""
    answer = page.client.post("/relevo", data=body)
    assert answer.status_code == 400
    assert named in orjson.loads(answer.data)["error"]
    assert page.report().shadow is None


def test_a_label_is_set_shown_and_passed_on(page: Page) -> None:
    """The workers hear of each change; what is no label changes nothing."""
    assert page.client.post("/relevo/label", data=orjson.dumps({"label": "u/1"})).status_code == 200
    assert (page.report().label, page.told) == ("u/1", 1)
    for bad in (b"{}", b'{"label": "a b"}', b'{"label": 1}', orjson.dumps({"label": "x" * 300})):
        assert page.client.post("/relevo/label", data=bad).status_code == 400
    assert (page.report().label, page.told) == ("u/1", 1)
    page.client.post("/relevo/label", data=b'{"label": ""}')
    assert page.report().label == ""


def test_a_master_says_how_many_workers_it_has(page: Page) -> None:
    """One process alone has none to speak of."""
    assert page.report().workers is None
    page.runner.worker_count = 2
    assert page.report().workers == 2
