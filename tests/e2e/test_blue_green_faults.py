"""Two colours on a cluster when something is killed: the operator at every transition, the operator for good, the new colour's pod."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from relevo.platforms.colours import COLOURS
from scripts.lab import models
from scripts.lab.colours import ColouredSite
from scripts.lab.faults import OperatorKiller, delete_pods, wait_for_operator
from scripts.lab.kube import Lab, until
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import Watch
from scripts.users import read_bodies

from .conftest import MakeNamespace
from .judging import ended

OPERATOR = ("-n", "relevo-system", "scale", "deployment/relevo-operator")
LONG = {"strategy": {"blueGreen": {"keepWarmFor": 600}}}


@pytest.fixture
def coloured(lab: Lab, make_namespace: MakeNamespace) -> ColouredSite:
    """Both colours are installed, and users are with blue; new for each test that changes it."""
    return both_installed(lab, make_namespace("e2e-colours"))


@pytest.fixture(scope="module")
def resting(lab: Lab, make_namespace: MakeNamespace) -> ColouredSite:
    """The same, for the tests that leave it as it is."""
    return both_installed(lab, make_namespace("e2e-resting"))


def both_installed(lab: Lab, namespace: str) -> ColouredSite:
    site = ColouredSite(lab, namespace)
    site.install(blue="1", green="2")
    site.open_route("blue", "blue", "green")
    return site


@contextmanager
def users_of(site: ColouredSite) -> Iterator[GatewayUsers]:
    """Users who ask all the while."""
    with GatewayUsers(site.lab.gateway, site.host, site.name, models.rows()) as users:
        until("users get answers", users.count, seconds=60)
        yield users


@pytest.fixture
def users(coloured: ColouredSite) -> Iterator[GatewayUsers]:
    """Users of a site that changes."""
    with users_of(coloured) as users:
        yield users


@pytest.fixture
def watch(coloured: ColouredSite) -> Iterator[Watch]:
    """A watch of the Rollout, and of the colour that users have first."""
    with Watch(coloured.lab, coloured.namespace, f"{coloured.name}-blue", coloured.name) as watch:
        yield watch


def at_switch(watch: Watch) -> None:
    """Wait until all users are sent to green."""
    watch.wait("the switch", lambda look: look.phase == "Shifting" and look.weight == 100, seconds=240)


def test_the_operator_is_killed_at_every_transition(coloured: ColouredSite, watch: Watch, users: GatewayUsers) -> None:
    """Whoever takes over goes on to the same verdict, and users are answered all the while: never are both colours idle."""
    with OperatorKiller(coloured.lab, watch, most=10, transition=True) as killer:
        coloured.roll_out("2")
        end = ended(watch, 480)
    assert end.phase == "Promoted", end.reason
    assert killer.problems == []
    assert {"Preparing", "Shadowing", "Shifting"} <= {kill.phase for kill in killer.kills}
    assert not [one for one in users.answers() if one.failed]


def test_back_by_kubectl_while_the_operator_is_dead(coloured: ColouredSite, watch: Watch, users: GatewayUsers) -> None:
    """One documented command sends all users back; the operator that returns holds, changes nothing back, and a rollback ends it."""
    coloured.roll_out("2", **LONG)
    at_switch(watch)
    coloured.lab.kubectl(*OPERATOR, "--replicas=0")
    try:
        called_at = time.time()
        coloured.patch_to("blue")
        until("users are with blue", lambda: coloured.confirmed() and coloured.percents()["blue"] == 100, seconds=60)
        time.sleep(2)
        late = [a.sent_at for a in users.answers() if a.sent_at > called_at and "-green-" in a.revision]
        assert max(late, default=called_at) - called_at < 30
    finally:
        coloured.lab.kubectl(*OPERATOR, "--replicas=2")
    wait_for_operator(coloured.lab)
    held = watch.wait("it is held", lambda look: look.hold == "EditedByHand", seconds=120)
    assert "was changed from 100 to 0" in held.reason
    assert coloured.percents()["blue"] == 100
    coloured.annotate("rollback")
    assert ended(watch).phase == "RolledBack"
    assert coloured.percents() == {"blue": 100}
    assert not [one for one in users.answers() if one.failed]


def test_a_new_colour_whose_pod_dies_gives_its_users_back(coloured: ColouredSite, watch: Watch) -> None:
    """After the switch green's pod is killed: users are with blue until it is back, and then with green again or for good with blue."""
    coloured.roll_out("2", **LONG)
    at_switch(watch)
    delete_pods(coloured.lab, coloured.namespace, "serving.knative.dev/configuration=iris-green-predictor")
    held = watch.wait("it is held", lambda look: look.hold == "CandidateNotReady", seconds=120)
    assert "iris-green-predictor" in held.reason
    until("blue has users", lambda: coloured.percents().get("blue") == 100, seconds=60)
    watch.wait("it goes on", lambda look: not look.hold and look.weight == 100, seconds=120)
    coloured.annotate("rollback")
    assert ended(watch).phase == "RolledBack"


def test_a_tester_is_pinned_to_a_colour(resting: ColouredSite) -> None:
    """The header names it, whoever is active, while both are warm."""
    (body, *_) = read_bodies(models.rows())
    for colour in COLOURS:
        answer = httpx.post(
            f"http://{resting.lab.gateway}/v2/models/iris/infer",
            content=body,
            headers={"Host": resting.host, "Knative-Serving-Tag": colour, "Content-Type": "application/json"},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-relevo-revision"].startswith(f"iris-{colour}-predictor-")


def test_kserve_and_our_route_do_not_fight(resting: ColouredSite) -> None:
    """With KServe's controller and Knative beside it, the Route is written by nobody but its owner while it rests."""
    before = resting.route()["metadata"]["generation"]
    with users_of(resting) as users:
        resting.lab.kubectl("-n", resting.namespace, "annotate", "inferenceservice/iris-green", "e2e/touched=yes")
        time.sleep(20)
    assert resting.route()["metadata"]["generation"] == before
    assert resting.percents() == {"blue": 100, "green": 0}
    assert not [one for one in users.answers() if one.failed]
