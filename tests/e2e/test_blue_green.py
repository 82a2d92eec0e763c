"""Two colours on a cluster: promoted, refused unseen, switched by hand and back, with users asking all the while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from k8s.cluster.tools import tool
from scripts.arena import PROJECT
from scripts.lab import models
from scripts.lab.colours import ColouredSite
from scripts.lab.kube import Lab, until
from scripts.lab.users import GatewayUsers
from tests.e2e.conftest import MakeNamespace

WATCHED_SECONDS = 60.0
"""In which a canary with one request in forty failing has to be out, too."""
SAMPLE = "k8s/samples/rollout-iris-blue-green.yaml"


@pytest.fixture(scope="module")
def coloured(lab: Lab, namespace: str) -> ColouredSite:
    """Blue serves version 1."""
    site = ColouredSite(lab, namespace)
    site.install(blue="1")
    site.open_route("blue")
    return site


@pytest.fixture
def users(coloured: ColouredSite) -> Iterator[GatewayUsers]:
    """Users who ask all the while."""
    with GatewayUsers(coloured.lab.gateway, coloured.host, coloured.name, models.rows()) as users:
        until("users get answers", users.count, seconds=60)
        yield users


def relevo(site: ColouredSite, *arguments: str, seconds: float = 400) -> subprocess.CompletedProcess[str]:
    """A command of ours on that namespace."""
    path = f"{Path(tool('helm')).parent}{os.pathsep}{os.environ['PATH']}"
    where = ["--context", site.lab.context, "--namespace", site.namespace]
    return subprocess.run(
        [sys.executable, "-m", "relevo", *arguments, *where],
        cwd=PROJECT, env={**os.environ, "PATH": path, "NO_COLOR": "1"}, capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip


def make(site: ColouredSite, *words: str) -> None:
    """A verb of the Makefile on that namespace, with the packages that `make e2e` has trained."""
    where = [f"CONTEXT={site.lab.context}", f"NAMESPACE={site.namespace}"]
    done = subprocess.run(
        ["make", *words, *where],
        cwd=PROJECT, env={**os.environ, "RELEVO_HOME": str(models.home())}, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout


def test_before_any_rollout_status_shows_the_active_colour(coloured: ColouredSite) -> None:
    """By the model's name, as users know it."""
    done = relevo(coloured, "status", "iris", "-o", "json")
    assert done.returncode == 0, done.stderr
    stable = json.loads(done.stdout)["stable"]
    assert stable["revision"].startswith("iris-blue-predictor-")
    assert (stable["storageUri"], stable["ready"]) == ("oci://dev.local/iris:1", True)


@pytest.mark.parametrize("release", ["iris-blue", "iris"])
def test_the_charts_own_tests_pass(coloured: ColouredSite, release: str) -> None:
    """`helm test`: a V2 request to the colour, and one by the route."""
    coloured.helm("test", release)


@pytest.mark.parametrize("version", ["2-errors", "2-slow", "2-wrong"])
def test_a_bad_green_is_refused_unseen(coloured: ColouredSite, users: GatewayUsers, version: str) -> None:
    """What is worse on the rows of the load is rolled back in its rehearsal: users have met blue alone, and nothing failed."""
    done = relevo(coloured, "deploy-blue-green", "iris", "-f", SAMPLE, "--version", version)
    assert done.returncode == 10, done.stderr + done.stdout
    assert "No user's request reached it" in done.stdout
    answers = users.answers()
    assert not [one for one in answers if one.failed]
    assert {one.revision.rpartition("-predictor")[0] for one in answers} == {"iris-blue"}


def test_promoted_then_switched_by_hand_and_back(coloured: ColouredSite, users: GatewayUsers) -> None:
    """By make's verbs: green is promoted and blue goes to sleep; a switch wakes it and sends users back; no request fails on the way."""
    make(coloured, "deploy-blue-green", "VERSION=2")
    assert coloured.percents() == {"green": 100}
    for to, words in (("blue", ()), ("green", ("TO=green",))):
        make(coloured, "switch", *words)
        until(f"users are with {to}", lambda to=to: coloured.percents() == {to: 100}, seconds=60)
    assert not [one for one in users.answers() if one.failed]
    assert "already" in relevo(coloured, "switch", "iris", "--to", "green").stderr


def test_by_weights_and_undone(coloured: ColouredSite, users: GatewayUsers, tmp_path: Path) -> None:
    """Half of the users first, then all; `undo` sends them back to green, which slept meanwhile. No request fails."""
    body = yaml.safe_load((PROJECT / SAMPLE).read_text(encoding="utf-8"))
    body["spec"]["strategy"]["blueGreen"] |= {"weights": [50], "stepSeconds": 4}
    (tmp_path / "rollout.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
    done = relevo(coloured, "deploy-blue-green", "iris", "-f", str(tmp_path / "rollout.yaml"), "--version", "1")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Shifting 2/2" in done.stdout + done.stderr
    assert coloured.percents() == {"blue": 100}
    undone = relevo(coloured, "undo", "iris")
    assert undone.returncode == 0, undone.stderr + undone.stdout
    until("users are with green again", lambda: coloured.percents() == {"green": 100}, seconds=60)
    assert not [one for one in users.answers() if one.failed]


def test_a_fault_that_only_users_meet_is_switched_back(lab: Lab, make_namespace: MakeNamespace) -> None:
    """Green answers all that the load sends, and is switched to; then users send rows that it cannot answer."""
    site = ColouredSite(lab, make_namespace("e2e-unseen"))
    site.install(blue="1-known")
    site.open_route("blue")
    with GatewayUsers(lab.gateway, site.host, site.name, models.rows_of_users(), per_second=60, connections=4) as users:
        until("users get answers", users.count, seconds=60)
        done = relevo(site, "deploy-blue-green", "iris", "-f", SAMPLE, "--version", "2-unseen")
    assert done.returncode == 10, done.stderr + done.stdout
    assert site.percents()["blue"] == 100
    failed = [one for one in users.answers() if one.failed]
    assert failed
    assert {one.revision.rpartition("-predictor")[0] for one in failed} == {"iris-green"}
    green = [one.sent_at for one in users.answers() if one.revision.startswith("iris-green")]
    print(f"green had users for {green[-1] - green[0]:.1f} s; {len(failed)} of {len(green)} requests failed")
    assert green[-1] - green[0] <= WATCHED_SECONDS


def test_what_makes_no_sense_is_refused(coloured: ColouredSite) -> None:
    """An unknown colour, the version that users have, a canary: each has its message, and nothing is begun."""
    for arguments, says in (
        (("switch", "iris", "--to", "red"), "red: is no colour"),
        (("deploy-blue-green", "iris", "--version", "2"), "serves oci://dev.local/iris:2 already"),
        (("deploy-canary", "-f", "k8s/samples/rollout-iris.yaml"), "is served by two colours"),
    ):
        done = relevo(coloured, *arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        assert says in done.stderr
