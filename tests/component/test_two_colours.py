"""Two colours behind a real Envoy, with stub servers: switches under load, testers, requests in flight, and the way back."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from stub_platform import INFER, make, processes, until, users, with_candidate

from relevo import errors
from relevo.platforms.local.platform import LocalPlatform
from relevo.platforms.local.ports import free_ports
from relevo.rollout.observation import Arm
from relevo.rollout.platform import ModelRef, Split

pytestmark = pytest.mark.component

BLUE, GREEN = "iris-blue-predictor-00001", "iris-green-predictor-00002"
TAG = "Knative-Serving-Tag"


def values(colour: str, uri: str) -> str:
    """A values file of charts/model."""
    return yaml.safe_dump({"colour": colour, "model": {"name": "iris", "storageUri": uri}})


@pytest.fixture
def platform(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalPlatform]:
    """Blue serves; its stub's name is the parameter, if there is one."""
    one = make(tmp_path)
    try:
        text = values("blue", f"oci://dev.local/{getattr(request, 'param', 'iris')}:1")
        one.up(text, proxy_port=free_ports(1)[0], timeout_seconds=90)
        yield one
    finally:
        one.down()
        one.close()


def asked(platform: LocalPlatform, tag: str = "") -> httpx.Response:
    """One request of a user, or of a tester who names a colour."""
    return httpx.get(platform.proxy_url + INFER, headers={TAG: tag} if tag else {}, trust_env=False)


def who(platform: LocalPlatform, tag: str = "") -> str:
    """Who answers it."""
    return asked(platform, tag).headers.get("x-relevo-revision", "")


def test_no_request_fails_or_goes_astray_while_the_colours_are_switched(platform: LocalPlatform) -> None:
    """Under load, back and forth: every request is answered, and none that is sent after the call has returned by the old colour."""
    with_candidate(platform)
    with users(platform.proxy_url) as tally:
        for number in range(12):
            to, name = (("green", GREEN), ("blue", BLUE))[number % 2]
            platform.switch("iris", to)
            assert who(platform) == name
            assert platform.observe("iris").stable.name == name
            time.sleep(0.05)
    assert tally.failed == 0
    assert set(tally.answered_by) == {BLUE, GREEN}
    assert {"envoy", BLUE, GREEN} <= set(processes(platform._home))


def test_a_tester_is_pinned_to_a_colour(platform: LocalPlatform) -> None:
    """The header gets the colour it names, before the switch and after it; another name gets what users get; one that sleeps says so."""
    assert asked(platform, "green").status_code == 503
    with_candidate(platform)
    for active in (BLUE, GREEN):
        assert who(platform) == active
        assert (who(platform, "blue"), who(platform, "green"), who(platform, "red")) == (BLUE, GREEN, active)
        platform.switch("iris", "green")
    platform.set_weight("iris", Split(100, "u1/1"))
    assert who(platform, "green") == GREEN
    assert "x-relevo-route" not in asked(platform, "green").headers


@pytest.mark.parametrize("platform", ["long"], indirect=True)
def test_a_request_in_flight_ends_on_the_colour_that_took_it(platform: LocalPlatform) -> None:
    """A long request that was under way at the switch, and when the old colour is put away, has its answer from there."""
    with_candidate(platform)
    for move in (lambda: platform.switch("iris", "green"), lambda: platform.settle("iris", Arm.STABLE)):
        answers: list[str] = []
        sent = threading.Event()

        def ask(sent: threading.Event = sent, answers: list[str] = answers) -> None:
            url = httpx.URL(platform.proxy_url)
            connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
            connection.request("GET", INFER, headers={TAG: "blue"})
            sent.set()
            answers.append(connection.getresponse().getheader("x-relevo-revision", ""))

        thread = threading.Thread(target=ask)
        thread.start()
        sent.wait(60)
        until(lambda: platform._proxy.admin(platform._up()).active_requests(BLUE), "the request is under way")
        move()
        thread.join(60)
        assert answers == [BLUE]
    until(lambda: BLUE not in processes(platform._home), "blue has ended")


def test_the_same_model_makes_no_new_revision(platform: LocalPlatform) -> None:
    """A colour that was put away comes back under its name for the model that it had, and under a new one for another."""
    with_candidate(platform)
    platform.settle("iris", Arm.CANDIDATE)
    assert (who(platform), platform.observe("iris").candidate) == (GREEN, None)
    assert platform.colours("iris") == {"green": "oci://dev.local/iris:2", "blue": "oci://dev.local/iris:1"}
    with_candidate(platform, "iris:1")
    assert platform.observe("iris").candidate is not None
    assert {BLUE, GREEN} <= set(processes(platform._home))
    platform.switch("iris", "blue")
    assert who(platform) == BLUE
    platform.prepare("iris", ModelRef("oci://dev.local/iris:3"))
    seen = platform.observe("iris").candidate
    assert seen is not None
    assert seen.name == "iris-green-predictor-00003"


def test_what_cannot_be_switched_is_said(platform: LocalPlatform) -> None:
    """An idle colour without a process, one that is not ready, one that a rollout shifts: each is refused, and users stay."""
    with pytest.raises(errors.Permanent, match="no candidate"):
        platform.switch("iris", "green")
    platform.prepare("iris", ModelRef("oci://dev.local/unready:2"))
    with pytest.raises(errors.Transient, match="is not ready"):
        platform.switch("iris", "green")
    with_candidate(platform)
    platform.set_weight("iris", Split(10, "u1/1"))
    with pytest.raises(errors.Conflict, match="a rollout sends 10 %"):
        platform.switch("iris", "green")
    platform.set_weight("iris", Split(0, ""))
    assert who(platform) == BLUE


def test_the_second_values_file_describes_the_idle_colour(tmp_path: Path) -> None:
    """Both colours from their files: the first serves, the other sleeps until it is wanted; two of one model or timeout are refused."""
    blue, green = tmp_path / "values-blue.yaml", tmp_path / "values-green.yaml"
    blue.write_text(values("blue", "oci://dev.local/iris:1"))
    green.write_text(values("green", "oci://dev.local/iris:1"))
    one = make(tmp_path / "home")
    port = free_ports(1)[0]
    try:
        with pytest.raises(errors.BadInput, match="which blue serves already"):
            one.up([blue, green], proxy_port=port, timeout_seconds=90)
        green.write_text(values("green", "oci://dev.local/iris:2") + "timeoutSeconds: 5\n")
        with pytest.raises(errors.BadInput, match="timeoutSeconds is 5 for green"):
            one.up([blue, green], proxy_port=port, timeout_seconds=90)
        green.write_text(values("green", "oci://dev.local/iris:2"))
        assert one.up([blue, green], proxy_port=port, timeout_seconds=90) == ("iris",)
        assert one.colours("iris") == {"blue": "oci://dev.local/iris:1", "green": "oci://dev.local/iris:2"}
        assert GREEN not in processes(one._home)
        assert one.up([blue, green], proxy_port=port, timeout_seconds=90) == ("iris",)
        with_candidate(one)
        assert one.observe("iris").candidate is not None
        green.write_text(values("green", "oci://dev.local/iris:7"))
        with pytest.raises(errors.BadInput, match=r"its values say oci://dev\.local/iris:7") as caught:
            one.up([blue, green], proxy_port=port, timeout_seconds=90)
        assert "deploy-blue-green" in caught.value.next_step
    finally:
        one.down()
        one.close()
