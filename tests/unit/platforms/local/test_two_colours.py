"""A service with two colours: which of them is what after a rollout and a switch, and the routes that follow from it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relevo.platforms.local import deployment as deployments
from relevo.platforms.local import envoy_config
from relevo.platforms.local.deployment import Deployment, Revision, Service
from relevo.platforms.local.program import Layout

BLUE = Revision("iris-blue-predictor-00001", "oci://x/iris:1", 1, 2, "blue")
GREEN = Revision("iris-green-predictor-00002", "oci://x/iris:2", 3, 4, "green")
BOTH = Service("iris", "default", BLUE, candidate=GREEN)


def up(service: Service) -> Deployment:
    return Deployment(8080, 9901, (service,))


def pinned(service: Service, colour: str) -> list[dict[str, Any]]:
    """The routes of requests that name a colour."""
    (configuration,) = envoy_config.routes(up(service))
    routes = [route for host in configuration["virtual_hosts"] for route in host["routes"]]
    return [r for r in routes if any(h["string_match"]["exact"] == colour for h in r["match"].get("headers", ()))]


def test_a_promoted_colour_leaves_the_other_idle_and_known() -> None:
    """The old colour's process ends, and what it served is remembered, so that the way back makes no new revision."""
    after = BOTH.promoted()
    assert (after.stable, after.candidate, after.idle, after.retiring) == (GREEN, None, BLUE, (BLUE,))
    assert after.idle_colour == "blue"


def test_a_rolled_back_colour_is_idle_and_known() -> None:
    """What was refused can be looked at again without a new revision."""
    after = BOTH.without_candidate()
    assert (after.stable, after.candidate, after.idle) == (BLUE, None, GREEN)


def test_an_idle_colour_wakes_as_it_was() -> None:
    """The same name and model, at new ports; at its old ones while its process has not ended."""
    asleep = BOTH.promoted()
    woken = asleep.woken((7, 8))
    assert woken.candidate == BLUE
    assert woken.retiring == ()
    ended = Service("iris", "default", GREEN, idle=BLUE).woken((7, 8)).candidate
    assert ended == Revision(BLUE.name, BLUE.storage_uri, 7, 8, "blue")


@given(st.lists(st.sampled_from(["switch", "promote", "back", "wake"]), max_size=12))
def test_one_colour_always_serves(moves: list[str]) -> None:
    """Whatever happens, one colour is active and the other is a candidate, asleep or unknown, never both idle, never one twice."""
    service = BOTH
    for move in moves:
        service = {
            "switch": service.switched,
            "promote": service.promoted,
            "back": service.without_candidate,
            "wake": lambda now=service: now.woken((5, 6)) if now.candidate is None else now,
        }[move]()
        others = [one.colour for one in (service.candidate, service.idle) if one is not None]
        assert others == [service.idle_colour]
        assert service.stable.colour != service.idle_colour


def test_what_is_stored_is_read_back(tmp_path: Any) -> None:
    """The idle colour outlives the process that knew it."""
    layout = Layout.of(tmp_path)
    deployments.save(layout, up(BOTH.promoted()))
    assert deployments.load(layout).find("iris") == BOTH.promoted()


def test_a_tester_who_names_a_colour_gets_it_whatever_the_weights() -> None:
    """Every way in has a route for each colour before the users' route, with no label and no fallback on the other colour."""
    for service in (BOTH, BOTH.split(100, "u/1"), BOTH.switched()):
        for revision in (BLUE, GREEN):
            routes = pinned(service, revision.colour)
            assert len(routes) == 3
            assert {r["route"]["cluster"] for r in routes} == {envoy_config.preview(revision)}
            headers = {h["header"]["key"] for r in routes for h in r["response_headers_to_add"]}
            assert headers == {envoy_config.REVISION_HEADER}
    clusters = {c["name"]: c for c in envoy_config.clusters(up(BOTH))}
    preview = clusters[envoy_config.preview(GREEN)]
    assert len(preview["load_assignment"]["endpoints"]) == 1


def test_a_colour_that_sleeps_says_so() -> None:
    """A tester of a colour without a process is told, and not sent to the other colour."""
    routes = pinned(BOTH.promoted(), "blue")
    assert {r["direct_response"]["status"] for r in routes} == {503}
    assert "relevo switch" in routes[0]["direct_response"]["body"]["inline_string"]


def test_the_stamp_follows_the_routes() -> None:
    """What the proxy says of its routes is another thing after each change of them, and the same for the same."""
    stamps = [envoy_config.stamp_of(envoy_config.routes(up(s))) for s in (BOTH, BOTH.switched(), BOTH.split(5, ""))]
    assert len(set(stamps)) == 3
    assert stamps[0] == envoy_config.stamp_of(envoy_config.routes(up(BOTH)))
