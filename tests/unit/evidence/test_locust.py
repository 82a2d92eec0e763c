"""`LocustSource` against a scripted server: what it asks for, how it takes nonsense, and that it asks for no more than it must."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from relevo import errors
from relevo.evidence.locust import LocustSource
from relevo.evidence.source import LoadPlan, ShadowTargets
from relevo.rollout.observation import Counts, Pairs, Reading, Silence

TARGETS = ShadowTargets("u/shadow", "iris-00001", "http://127.0.0.1:1", "iris-00002", "http://127.0.0.1:2")
ENTRY = {"label": "u/1", "revision": "iris-00001", "requests": 3, "errors": 1, "latency": [1, 1, 0],
         "predictions": {"0": 2}, "labelled": 2, "wrong": 1}  # fmt: skip


def report(**changes: Any) -> dict[str, Any]:
    return {"epoch": "e1", "state": "running", "users": 4, "target_users": 5, "edges_ms": [1.0, 2.0], "counts": [ENTRY],
            "pairs": [{"label": "u/shadow", "compared": 9, "disagreed": 2}], "shadow": None, **changes}  # fmt: skip


class Scripted:
    """A server that gives one answer to GET and one to POST, and notes what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = orjson.dumps(report())
        self.posted = orjson.dumps({"success": True, "message": "Swarming started"})
        self.asked: list[tuple[str, str, bytes]] = []
        self.callers: list[object] = []
        self.stall: Callable[[], object] = lambda: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(outer.body)

            def do_POST(self) -> None:
                self._answer(outer.posted)

            def _answer(self, body: bytes) -> None:
                sent = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.asked.append((self.command, self.path, sent))
                outer.callers.append(self.client_address)
                self.send_response(outer.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                for at in range(len(body)):
                    outer.stall()
                    self.wfile.write(body[at : at + 1])

            def log_message(self, format: str, *args: object) -> None:
                """Stay quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def posts(self) -> list[str]:
        return [path for method, path, _ in self.asked if method == "POST"]


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()


def test_a_report_becomes_a_reading(server: Scripted) -> None:
    """Every number of the report is in the reading, under its label and revision."""
    reading = LocustSource(server.url).read()
    assert isinstance(reading, Reading)
    assert (reading.source, reading.epoch, reading.users, reading.edges_ms) == ("locust", "e1", 4, (1.0, 2.0))
    assert reading.steps == {("u/1", "iris-00001"): Counts(3, 1, (1, 1, 0), {"0": 2}, 2, 1)}
    assert reading.pairs == {"u/shadow": Pairs(9, 2)}
    assert not reading.revisions


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"", "HTTP 500"),
        (404, b"Not Found", "HTTP 404"),
        (302, b"", "HTTP 302"),
        (200, b"", "not JSON"),
        (200, b"<html></html>", "not JSON"),
        (200, b"\xff\xfe", "not JSON"),
        (200, b"[]", "should be an object"),
        (200, b"{}", "epoch"),
        (200, orjson.dumps(report(epoch="")), "epoch"),
        (200, orjson.dumps(report(users=-1)), "users"),
        (200, orjson.dumps(report(edges_ms=[1.0])), "histogram"),
        (200, orjson.dumps(report(counts=[ENTRY | {"errors": -1}])), "errors"),
        (200, orjson.dumps(report(counts=[ENTRY | {"requests": "many"}])), "requests"),
    ],
)
def test_nonsense_is_silence_with_a_reason(server: Scripted, status: int, body: bytes, reason: str) -> None:
    """Whatever a source answers, `read` does not raise: what cannot be used is a silence which says what was wrong."""
    server.status, server.body = status, body
    silence = LocustSource(server.url).read()
    assert isinstance(silence, Silence)
    assert reason in silence.reason


def test_a_connection_is_kept_only_as_long_as_the_answers_are_good(server: Scripted) -> None:
    """Whoever says 404 may be somebody else, whom a new connection would not reach."""
    source = LocustSource(server.url)
    source.read()
    source.read()
    server.status = 404
    source.read()
    server.status = 200
    assert isinstance(source.read(), Reading)
    first, second, third, fourth = server.callers
    assert first == second == third != fourth


def test_a_source_that_dribbles_is_silent_within_its_timeout(server: Scripted) -> None:
    """The time-out bounds the whole answer, so that a source which sends a byte now and then cannot hold up a tick."""
    server.stall = lambda: time.sleep(0.02)
    started = time.monotonic()
    silence = LocustSource(server.url, timeout_seconds=0.2).read()
    assert isinstance(silence, Silence)
    assert "in time" in silence.reason or "within 0.2 s" in silence.reason
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid:80"])
def test_a_source_that_is_not_there_is_silent(url: str) -> None:
    """Nobody at the address, or no such host, is a silence that names the address."""
    silence = LocustSource(url).read()
    assert isinstance(silence, Silence)
    assert url.removeprefix("http://") in silence.reason


@pytest.mark.parametrize(
    ("seen", "plan", "posts"),
    [
        ({"target_users": 5}, LoadPlan(5, 1), []),
        ({"state": "spawning", "target_users": 5, "users": 0}, LoadPlan(5, 1), []),
        ({"target_users": 5}, LoadPlan(6, 1), ["/swarm"]),
        ({"state": "stopped", "target_users": 0}, LoadPlan(5, 1), ["/swarm"]),
        ({"state": "ready", "target_users": 0}, LoadPlan(0, 1), []),
        ({"state": "cleanup", "target_users": 0}, LoadPlan(0, 1), []),
        ({"state": "spawning"}, LoadPlan(0, 1), ["/stop"]),
        ({"target_users": 5}, LoadPlan(5, 1, TARGETS), ["/relevo"]),
        ({"target_users": 5, "shadow": TARGETS}, LoadPlan(5, 1, TARGETS), []),
        ({"target_users": 5, "shadow": TARGETS}, LoadPlan(8, 1), ["/relevo", "/swarm"]),
    ],
)
def test_ensure_sends_only_what_is_not_so_yet(
    server: Scripted, seen: dict[str, Any], plan: LoadPlan, posts: list[str]
) -> None:
    """`ensure` compares first: an order goes out for what differs, and none when all is as planned."""
    server.body = orjson.dumps(report(**seen))
    LocustSource(server.url).ensure(plan)
    assert server.posts() == posts


def test_ensure_right_after_read_asks_nothing_twice(server: Scripted) -> None:
    """One tick costs one request when the load is as planned; after a change the next comparison is with a fresh report."""
    source = LocustSource(server.url)
    source.read()
    source.ensure(LoadPlan(5, 1))
    assert len(server.asked) == 1
    source.ensure(LoadPlan(6, 1))
    source.ensure(LoadPlan(6, 1))
    assert [method for method, _, _ in server.asked] == ["GET", "POST", "GET", "POST"]


def test_an_old_report_is_not_trusted(server: Scripted) -> None:
    """A report older than a tick says nothing of now: Locust may have been restarted since."""
    clock = [0.0]
    source = LocustSource(server.url, monotonic=lambda: clock[0])
    source.read()
    clock[0] = 0.6
    source.ensure(LoadPlan(5, 1))
    assert len(server.asked) == 2


def test_orders_carry_the_plan(server: Scripted) -> None:
    """Users and rate arrive as Locust reads them, the shadow stage as our route does."""
    LocustSource(server.url).ensure(LoadPlan(7, 2.5, TARGETS))
    bodies = {path: sent for method, path, sent in server.asked if method == "POST"}
    assert bodies["/swarm"] == b"user_count=7&spawn_rate=2.5"
    assert orjson.loads(bodies["/relevo"])["shadow"]["candidate_url"] == TARGETS.candidate_url


def test_a_stop_that_takes_its_time_was_heard(server: Scripted) -> None:
    """Locust answers /stop when the last request has ended: waiting for that would hold up the tick, and is no failure."""
    source = LocustSource(server.url)
    source.read()
    server.stall = lambda: time.sleep(0.1)
    started = time.monotonic()
    source.ensure(LoadPlan(0, 1))
    assert server.posts() == ["/stop"]
    assert time.monotonic() - started < 0.6


@pytest.mark.parametrize(
    ("posted", "reason"),
    [
        (b'{"success": false, "message": "No runner"}', "No runner"),
        (b"<html>", "something else"),
        (b"[]", "something else"),
    ],
)
def test_an_order_that_is_not_taken_is_transient(server: Scripted, posted: bytes, reason: str) -> None:
    """Locust answers 200 even when it refuses: that is found out, and tried again later."""
    server.posted = posted
    with pytest.raises(errors.Transient, match=reason):
        LocustSource(server.url).ensure(LoadPlan(9, 1))


def test_shadow_targets_that_make_no_sense_are_bad_input(server: Scripted) -> None:
    """Trying again does not mend targets that are the same revision twice: that is not transient."""
    same = ShadowTargets("u/shadow", "iris-00001", "http://127.0.0.1:1", "iris-00001", "http://127.0.0.1:2")
    with pytest.raises(errors.BadInput, match="differ"):
        LocustSource(server.url).ensure(LoadPlan(5, 1, same))
    assert server.posts() == []


@pytest.mark.parametrize(
    ("stamps", "label", "posts"),
    [(True, "u/1", ["/relevo/label"]), (True, "", []), (False, "u/1", [])],
)
def test_a_label_is_announced_where_no_proxy_stamps_it(
    server: Scripted, stamps: bool, label: str, posts: list[str]
) -> None:
    """Once, when Locust has another; never where the proxy says it of each answer."""
    source = LocustSource(server.url, stamps=stamps)
    source.announce(label)
    assert server.posts() == posts


def test_a_label_that_is_not_heard_is_said(server: Scripted) -> None:
    """So that the split is not changed under requests that are counted under the old one."""
    server.status = 500
    with pytest.raises(errors.Transient, match="did not take its orders"):
        LocustSource(server.url, stamps=True).announce("u/1")


def test_a_master_without_workers_is_silent(server: Scripted) -> None:
    """Counts that stand still because nobody counts are no evidence."""
    server.body = orjson.dumps(report(workers=0))
    silence = LocustSource(server.url).read()
    assert isinstance(silence, Silence)
    assert "no worker" in silence.reason
