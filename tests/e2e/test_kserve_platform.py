"""The KServe platform alone on the real cluster, with no Rollout: what a tick asks of it, in the order of rollouts, under users.

pytest tests/e2e/test_kserve_platform.py -s          # prints how long each change took
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import pytest

from relevo import errors
from relevo.platforms.cluster_api import connect
from relevo.platforms.kserve.address import ThroughGateway
from relevo.platforms.kserve.platform import KServePlatform
from relevo.rollout.observation import Arm, RevisionStatus, Routes
from relevo.rollout.platform import ModelRef, Split
from scripts.lab import models
from scripts.lab.kube import until
from scripts.lab.rollouts import Site
from scripts.lab.users import GatewayUsers, Seen

READY_SECONDS = 240.0
EFFECTIVE_SECONDS = 60.0
"""For a machine that does other things as well; how long it takes is another test's question."""


def uri(version: str) -> str:
    """The model of a version."""
    return f"oci://dev.local/iris:{version}"


@dataclass
class Driver:
    """Does what ticks do: asks until the platform sees it so."""

    site: Site
    platform: KServePlatform
    times: dict[str, list[float]] = field(default_factory=dict)
    """Seconds by what was asked."""

    def see(self) -> Routes:
        """The routes now."""
        return self.platform.observe("iris")

    def candidate(self) -> RevisionStatus:
        """The candidate, which there is."""
        candidate = self.see().candidate
        assert candidate is not None
        return candidate

    def make(self, what: str, wish: Callable[[], None], done: Callable[[Routes], bool], seconds: float) -> float:
        """Ask, and go on asking, until it is done; the seconds it took."""
        began = time.monotonic()

        def look() -> bool:
            with suppress(errors.Transient):
                wish()
                return done(self.see())
            return False

        until(what, look, seconds=seconds, every_seconds=0.05)
        self.times.setdefault(what, []).append(took := time.monotonic() - began)
        return took

    def prepare(self, version: str) -> RevisionStatus:
        """A candidate of this version, ready at 0 %."""

        def wish() -> None:
            self.platform.prepare("iris", ModelRef(uri(version)))
            self.platform.set_weight("iris", Split(0, "u/0"))

        def done(routes: Routes) -> bool:
            mine = routes.candidate
            return mine is not None and mine.storage_uri == uri(version) and mine.ready and routes.label == "u/0"

        self.make(f"prepare {version}", wish, done, READY_SECONDS)
        return self.candidate()

    def weight(self, percent: int, step: int) -> float:
        """This weight, in effect."""
        label = f"u/{step}"
        return self.make(
            f"weight {percent} %",
            lambda: self.platform.set_weight("iris", Split(percent, label)),
            lambda routes: (routes.weight_percent, routes.label) == (percent, label),
            EFFECTIVE_SECONDS,
        )

    def settle(self, keep: Arm) -> float:
        """All traffic for one arm, and nothing of the other left."""
        return self.make(
            f"settle {keep}",
            lambda: self.platform.settle("iris", keep),
            lambda routes: routes.candidate is None and routes.weight_percent == 0,
            READY_SECONDS,
        )


@pytest.fixture
def driver(site: Site) -> Iterator[Driver]:
    """The platform on a service that has one revision; all as it was when the test is over."""
    platform = KServePlatform(
        site.namespace, connect(site.lab.context), addresses=ThroughGateway(f"http://{site.lab.gateway}")
    )
    driver = Driver(site, platform)
    yield driver
    with suppress(errors.RelevoError):
        driver.settle(Arm.STABLE)
    for what, seconds in driver.times.items():
        print(f"{what:>20}: {', '.join(f'{s:.2f} s' for s in seconds)}")


def ask(address: str) -> tuple[int, str]:
    """One request to a direct address: the status, and which revision answered."""
    url, _, host = address.partition("#")
    answer = httpx.get(f"{url}/v2/models/iris/ready", headers={"Host": host}, timeout=10)
    body = '{"inputs": [{"name": "input-0", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}'
    infer = httpx.post(f"{url}/v2/models/iris/infer", content=body, headers={"Host": host}, timeout=10)
    return answer.status_code, infer.headers.get("x-relevo-revision", "")


def failures(answers: list[Seen]) -> list[Seen]:
    """The requests without a 200."""
    return [one for one in answers if one.failed]


def until_only(users: GatewayUsers, revision: str, since: float) -> float:
    """How long after `since` (Unix time) the last request was sent that another revision answered; 0 for none."""
    time.sleep(1.0)
    late = [one.sent_at for one in users.answers() if one.sent_at > since and one.revision not in ("", revision)]
    return max((at - since for at in late), default=0.0)


def test_a_rollout_that_is_promoted_and_one_that_is_rolled_back_lose_no_request(
    driver: Driver, users: GatewayUsers
) -> None:
    """Prepare, 0, 10, 50, promote; then a canary of another model, rolled back, and one more: no user's request fails, each share is as
    asked, and after the first write of the rollback nobody meets the candidate for longer than two seconds."""
    first = driver.see().stable
    candidate = driver.prepare("2")
    assert ask(candidate.address) == (200, candidate.name)
    assert ask(driver.see().stable.address) == (200, first.name)
    assert all(one.revision in ("", first.name) for one in users.answers()), "a user met a candidate at 0 %"
    for step, percent in enumerate((10, 50), start=1):
        driver.weight(percent, step)
        since = time.time()
        until("enough answers", lambda at=since: sum(a.sent_at > at for a in users.answers()) >= 60, seconds=30)
        seen = [one for one in users.answers() if one.sent_at > since]
        share = 100 * sum(one.revision == candidate.name for one in seen) / len(seen)
        assert abs(share - percent) < 22, f"{share:.0f} % of {len(seen)} requests at {percent} %"
    driver.settle(Arm.CANDIDATE)
    promoted = driver.see().stable
    assert (promoted.name, promoted.storage_uri, promoted.ready) == (candidate.name, uri("2"), True)
    assert until_only(users, candidate.name, time.time()) == 0.0

    # A canary of another model: rolled back at 50 %.
    bad = driver.prepare("1")
    assert bad.name not in (candidate.name, first.name)
    driver.weight(50, 1)
    ordered = time.time()
    driver.platform.settle("iris", Arm.STABLE)
    assert until_only(users, candidate.name, ordered) < 2.0
    driver.settle(Arm.STABLE)
    back = driver.see().stable
    assert back.storage_uri == uri("2")
    spec = driver.site.service()["spec"]["predictor"]
    assert "canaryTrafficPercent" not in spec
    assert spec["model"]["storageUri"] == uri("2")

    # And one right after it: it never meets the one rolled back.
    since = time.time()
    last = driver.prepare("1")
    driver.weight(10, 1)
    until("enough answers", lambda: sum(a.sent_at > since for a in users.answers()) >= 60, seconds=30)
    met = {one.revision for one in users.answers() if one.sent_at > since}
    assert met <= {"", back.name, last.name, candidate.name}
    driver.settle(Arm.CANDIDATE)
    assert not failures(users.answers()), failures(users.answers())[:5]
    assert len(users.answers()) > 300


def test_a_weight_is_in_effect_within_seconds(driver: Driver) -> None:
    """From asking for a weight until every gateway has confirmed it, twenty changes: printed, and no more than 5 s in the median."""
    driver.prepare("2")
    took = sorted(driver.weight(percent, step) for step, percent in enumerate([10, 50] * 10, start=1))
    print(f"{'weights':>20}: median {took[10]:.2f} s, p95 {took[18]:.2f} s, longest {took[-1]:.2f} s, of {len(took)}")
    assert took[10] <= 5.0


def test_a_candidate_whose_pod_is_killed_is_not_ready_until_it_is_back(driver: Driver, users: GatewayUsers) -> None:
    """Knative's Ready stays as it was; the platform says so all the same, and when it is back. Given 0 % at once, no user notices."""
    candidate = driver.prepare("2")
    driver.weight(10, 1)
    lab, namespace = driver.site.lab, driver.site.namespace
    lab.kubectl(
        "-n",
        namespace,
        "delete",
        "pod",
        "-l",
        f"serving.knative.dev/revision={candidate.name}",
        "--force",
        "--grace-period=0",
    )
    until("the dead pod is noticed", lambda: not driver.candidate().ready, seconds=20, every_seconds=0.05)
    detail = driver.candidate().detail
    assert detail
    driver.weight(0, 0)
    until("it is back", lambda: driver.candidate().ready, seconds=READY_SECONDS)
    assert driver.candidate().name == candidate.name
    driver.settle(Arm.STABLE)
    lost = failures(users.answers())
    assert len(lost) <= 10, lost  # those under way in the pod that was killed without grace


def test_an_image_that_does_not_exist_is_told_by_the_pod(driver: Driver, users: GatewayUsers) -> None:
    """The candidate fails with the kubelet's own words, at 0 %, and the rollback leaves all as it was."""
    stable = driver.see().stable
    driver.platform.prepare("iris", ModelRef(uri("no-such-version")))
    until(
        "it is told",
        lambda: (c := driver.see().candidate) is not None and c.failed,
        seconds=READY_SECONDS,
    )
    candidate = driver.candidate()
    assert re.search(r"ImagePullBackOff|ErrImageNeverPull|InvalidImageName", candidate.detail), candidate.detail
    assert "no-such-version" in candidate.detail
    driver.settle(Arm.STABLE)
    assert driver.see().stable.storage_uri == stable.storage_uri
    assert {one.revision for one in users.answers()} <= {"", stable.name, driver.see().stable.name}
    assert not failures(users.answers())


def test_an_edit_by_hand_is_seen_with_the_name_of_who_made_it(driver: Driver) -> None:
    """kubectl's change of the weight is told, by this process and by one that has just taken over; undone, it is forgotten."""
    driver.prepare("2")
    driver.weight(10, 1)

    def edit(percent: int) -> None:
        patch = f'{{"spec": {{"predictor": {{"canaryTrafficPercent": {percent}}}}}}}'
        driver.site.lab.kubectl(
            "-n",
            driver.site.namespace,
            "patch",
            "isvc",
            "iris",
            "--type=merge",
            "--field-manager=kubectl-edit",
            "-p",
            patch,
        )

    edit(80)
    assert "changed from 10 to 80 by kubectl-edit" in driver.see().edited
    fresh = KServePlatform(driver.site.namespace, connect(driver.site.lab.context))
    assert "canaryTrafficPercent is 80 by kubectl-edit" in fresh.observe("iris").edited
    with pytest.raises(errors.Transient, match="does not change it back"):
        driver.platform.set_weight("iris", Split(25, "u/2"))
    edit(10)
    until("the label is back", lambda: driver.see().label == "u/1", seconds=EFFECTIVE_SECONDS)
    assert driver.see().edited == ""
    assert models.rows().exists()
