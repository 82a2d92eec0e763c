"""Kourier's gateways as one source: which pods count, epochs, sums, and every way of not answering."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from relevo.errors import Transient
from relevo.evidence.kourier import Gateway, Gateways, KourierSource, gateway_of, gateways_of
from relevo.rollout.ledger import Ledger
from relevo.rollout.observation import Arm, Counts, Reading, RevisionStatus, Routes, Silence

ROUTES = Routes(
    RevisionStatus("iris-predictor-00001", "a", True), RevisionStatus("iris-predictor-00002", "b", True), 10, "u/1"
)
ARMS = {"iris-predictor-00001": Arm.STABLE, "iris-predictor-00002": Arm.CANDIDATE}


def line(n: int, *, code: str = "200", revision: str = "iris-predictor-00002", namespace: str = "team") -> str:
    return (
        f'envoy_cluster_upstream_rq{{envoy_response_code="{code}",envoy_cluster_name="{namespace}/{revision}"}} {n}\n'
    )


def pod(name: str, *, ready: str = "True", restarts: int = 0, started: str = "t0", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", **metadata},
        "status": {
            "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [
                {"name": "kourier-gateway", "restartCount": restarts, "state": {"running": {"startedAt": started}}}
            ],
        },
    }


@contextmanager
def envoy(texts: list[str]) -> Iterator[str]:
    """A gateway's statistics; each answer is the next text, the last for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (texts.pop(0) if len(texts) > 1 else texts[0]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_only_gateways_that_take_requests_count() -> None:
    """A pod that is not ready, that is ending, or that has no address yet is left out; the rest are found with the port."""
    assert gateway_of(pod("a", ready="False")) is None
    assert gateway_of(pod("a", deletionTimestamp="now")) is None
    nowhere = pod("a")
    del nowhere["status"]["podIP"]
    assert gateway_of(nowhere) is None
    find = gateways_of(lambda namespace, labels: [pod("b"), pod("a"), pod("c", ready="Unknown")])
    assert [(g.name, g.address) for g in find()] == [("a", "http://10.0.0.7:9000"), ("b", "http://10.0.0.7:9000")]


@pytest.mark.parametrize("other", [pod("b"), pod("a", restarts=1), pod("a", started="t1")])
def test_a_restarted_or_replaced_gateway_lives_anew(other: dict[str, Any]) -> None:
    """Another pod, a restarted container and a container begun at another time have another life."""
    first, second = gateway_of(pod("a")), gateway_of(other)
    assert first is not None
    assert second is not None
    assert first.life != second.life


def test_all_gateways_are_added_up_and_other_namespaces_left_out() -> None:
    """Users come in through any gateway: only the sum is a count."""
    with envoy([line(3) + line(1, code="503") + line(99, namespace="other")]) as one, envoy([line(4)]) as two:
        gateways = Gateways(lambda: [Gateway("a", one, "1"), Gateway("b", two, "2")])
        seen = KourierSource(gateways, "team").read()
        gateways.close()
    assert isinstance(seen, Reading)
    assert seen.revisions == {"iris-predictor-00002": Counts(8, 1)}
    assert seen.source == "envoy"


def test_one_look_serves_all_rollouts_for_a_moment() -> None:
    """Ten rollouts that look at once ask the gateways once, and a moment later again."""
    clock = [0.0]
    with envoy([line(1), line(2), line(3)]) as address:
        gateways = Gateways(lambda: [Gateway("a", address, "1")], monotonic=lambda: clock[0])
        sources = [KourierSource(gateways, "team") for _ in range(10)]
        assert {str(s.read().revisions) for s in sources if isinstance(s, KourierSource)} == {  # type: ignore[union-attr]
            "{'iris-predictor-00002': Counts(requests=1, errors=0, latency=(), predictions={}, labelled=0, wrong=0)}"
        }
        clock[0] = 0.3
        later = sources[0].read()
        gateways.close()
    assert isinstance(later, Reading)
    assert later.revisions["iris-predictor-00002"].requests == 2


def test_a_restarted_gateway_loses_no_count_already_taken_in() -> None:
    """The ledger keeps what it has, drops what fell across the restart, and goes on from there."""
    clock, life = [0.0], ["1"]
    with envoy([line(100), line(140), line(3), line(10)]) as address:
        gateways = Gateways(lambda: [Gateway("a", address, life[0])], monotonic=lambda: clock[0])
        source, ledger = KourierSource(gateways, "team"), Ledger("u")
        for tick, now in enumerate(("1", "1", "2", "2")):
            clock[0], life[0] = float(tick), now
            seen = source.read()
            assert isinstance(seen, Reading)
            ledger = ledger.absorb([seen], ROUTES, ARMS)
        gateways.close()
    assert ledger.total("envoy", Arm.CANDIDATE, ["1"]).requests == 40 + 7


def test_a_gateway_that_does_not_answer_makes_the_source_silent() -> None:
    """Part of the traffic says nothing of the rest; the message names the gateway."""
    with envoy([line(3)]) as one:
        gateways = Gateways(lambda: [Gateway("a", one, "1"), Gateway("gone", "http://127.0.0.1:9", "2")])
        seen = KourierSource(gateways, "team").read()
        gateways.close()
    assert isinstance(seen, Silence)
    assert seen.reason.startswith("gateway gone: connection refused")


def test_no_gateway_and_no_api_are_silence_with_a_reason() -> None:
    """Neither is ever zero requests."""

    def refused() -> list[Gateway]:
        raise Transient("no permission to list pods")

    nobody = KourierSource(Gateways(list), "team").read()
    assert isinstance(nobody, Silence)
    assert nobody.reason == "no gateway of Kourier is ready"
    unlisted = KourierSource(Gateways(refused), "team").read()
    assert isinstance(unlisted, Silence)
    assert unlisted.reason == "the gateways cannot be listed: no permission to list pods"


@pytest.mark.parametrize("text", ["<html>", "\xff"])
def test_what_is_not_statistics_is_silence(text: str) -> None:
    """Something else on that port never counts as no requests."""
    with envoy([text]) as address:
        gateways = Gateways(lambda: [Gateway("a", address, "1")])
        assert isinstance(KourierSource(gateways, "team").read(), Silence)
        gateways.close()
