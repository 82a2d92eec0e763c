"""Prometheus as a source: which scrape is read, by whose time, restarts of gateways, and what is no answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from relevo.evidence.prometheus import PrometheusSource
from relevo.rollout.observation import Counts, Reading, Silence

NOW = 1_800_000_000.0


def series(name: str, values: dict[float, int], *, pod: str = "gw-a", **labels: str) -> dict[str, Any]:
    return {
        "metric": {"__name__": name, "pod": pod, "instance": f"{pod}:9000", **labels},
        "values": [[NOW + second, str(value)] for second, value in values.items()],
    }


def requests(values: dict[float, int], *, code: str = "200", revision: int = 2, pod: str = "gw-a") -> dict[str, Any]:
    labels = {"envoy_response_code": code, "envoy_cluster_name": f"team/iris-predictor-0000{revision}"}
    return series("envoy_cluster_upstream_rq", values, pod=pod, **labels)


def uptime(values: dict[float, int], *, pod: str = "gw-a") -> dict[str, Any]:
    return series("envoy_server_uptime", values, pod=pod)


@contextmanager
def prometheus(*answers: list[dict[str, Any]] | str) -> Iterator[tuple[PrometheusSource, list[str], list[float]]]:
    """A Prometheus that gives these results one after the other, the last for ever; with the queries and the clock."""
    left, queries, clock = list(answers), [], [0.0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            queries.append(form["query"][0])
            answer = left.pop(0) if len(left) > 1 else left[0]
            data = {"status": "success", "data": {"resultType": "matrix", "result": answer}}
            body = (answer if isinstance(answer, str) else json.dumps(data)).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    source = PrometheusSource(
        f"http://127.0.0.1:{server.server_port}",
        "team",
        "iris",
        now=lambda: datetime.fromtimestamp(NOW + clock[0], UTC),
    )
    try:
        yield source, queries, clock
    finally:
        source.close()
        server.shutdown()
        server.server_close()


def moment(second: float) -> datetime:
    return datetime.fromtimestamp(NOW + second, UTC)


def test_the_last_settled_scrape_is_read_with_its_own_time() -> None:
    """Counts are those of one scrape that is old enough, and dated by it; a younger one is left for later."""
    up = uptime({-31: 100, -16: 115, -1: 130})
    with prometheus([up, requests({-31: 10, -16: 20, -1: 99}), requests({-16: 3}, code="503")]) as (source, queries, _):
        seen = source.read()
    assert isinstance(seen, Reading)
    assert seen.as_of == (moment(-16), moment(-16))
    assert seen.revisions == {"iris-predictor-00002": Counts(23, 3)}
    assert 'envoy_cluster_name=~"(team/iris\\\\-predictor-.*)?"' in queries[0] or "team/iris" in queries[0]


def test_a_service_without_requests_has_none_and_is_not_silent() -> None:
    """Gateways that were scraped and counted nothing for us are evidence of no request."""
    with prometheus([uptime({-5: 10})]) as (source, _, _):
        seen = source.read()
    assert isinstance(seen, Reading)
    assert seen.revisions == {}


def test_gateways_that_prometheus_does_not_know_are_silence() -> None:
    """Nothing scraped is missing evidence, never no requests."""
    with prometheus([]) as (source, _, _):
        seen = source.read()
    assert isinstance(seen, Silence)
    assert "has heard of no gateway" in seen.reason


def test_several_gateways_are_added_up_and_dated_by_the_first_and_the_last() -> None:
    """Each gateway is scraped at its own time; the sum was true between the first of them and the last."""
    result = [
        uptime({-9: 5}),
        requests({-9: 10}),
        uptime({-4: 50}, pod="gw-b"),
        requests({-4: 5}, pod="gw-b"),
        requests({-4: 7}, pod="gw-b", revision=1),
    ]
    with prometheus(result) as (source, _, _):
        seen = source.read()
    assert isinstance(seen, Reading)
    assert seen.as_of == (moment(-9), moment(-4))
    assert seen.revisions == {"iris-predictor-00002": Counts(15), "iris-predictor-00001": Counts(7)}


@pytest.mark.parametrize(
    ("later", "same"),
    [
        ([uptime({8: 15}), requests({8: 20})], True),
        ([uptime({8: 3}), requests({8: 20})], False),
        ([uptime({8: 15}), requests({8: 20}), uptime({8: 1}, pod="gw-b")], False),
        ([uptime({8: 15}, pod="gw-b"), requests({8: 20}, pod="gw-b")], False),
    ],
    ids=["goes on", "restarted", "one more", "replaced"],
)
def test_a_gateway_that_began_anew_begins_an_epoch(later: list[dict[str, Any]], same: bool) -> None:
    """Counters that go on are one epoch; another set of gateways, or one that runs for too short, is another."""
    with prometheus([uptime({-2: 5}), requests({-2: 10})], later) as (source, _, clock):
        first = source.read()
        clock[0] = 10.0
        second = source.read()
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert (first.epoch == second.epoch) is same


def test_another_process_reads_another_epoch() -> None:
    """What another process saw of restarts is not known here, so nothing is subtracted from what it read."""
    with prometheus([uptime({-2: 5})]) as (one, _, _), prometheus([uptime({-2: 5})]) as (two, _, _):
        first, second = one.read(), two.read()
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert first.epoch != second.epoch


@pytest.mark.parametrize(
    "answer",
    [
        "<html>",
        "{}",
        '{"data": {"resultType": "vector", "result": []}}',
        '{"data": {"resultType": "matrix", "result": [{"metric": 5}]}}',
        json.dumps({"data": {"resultType": "matrix", "result": [uptime({-5: 3}), requests({-5: -1})]}}),
    ],
)
def test_what_is_not_prometheus_is_silence(answer: str) -> None:
    """No text of another kind is ever a count."""
    with prometheus(answer) as (source, _, _):
        assert isinstance(source.read(), Silence)
