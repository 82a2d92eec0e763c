"""Each candidate gets the verdict that it deserves, and no user pays for it but by the candidate's own answers."""

from __future__ import annotations

from contextlib import suppress

from scripts.lab import models
from scripts.lab.delays import Delay, delay, samples
from scripts.lab.faults import delete_pods
from scripts.lab.kube import LabError, until
from scripts.lab.rollouts import BY_USERS_ALONE, TERMINAL, Site, condition
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import RolloutLook, Watch

from .judging import assert_clean, ended, failures

ZERO_SECONDS = 10.0
"""From the look that decided to 0 % in KServe's status, even on a starved machine; benchmarks.cluster_rollbacks has the distribution."""


def test_a_candidate_that_fails_is_rolled_back(site: Site, watch: Watch, users: GatewayUsers) -> None:
    """Without a shadow stage, so that users meet it: it is out, `kubectl wait` sees it, and only its own answers have failed."""
    stable = next(iter(site.settled_weights()))
    site.roll_out("2-errors", shadow={"enabled": False})
    end = ended(watch)
    assert end.phase == "RolledBack", end.reason
    assert end.status["verdict"] == "fail"
    assert end.status["cause"] == "evidence"
    site.lab.kubectl("-n", site.namespace, "wait", "rollout", site.name, "--for=condition=RolledBack", "--timeout=5s")
    assert condition(site.rollout(), "Promoted")["status"] == "False"
    candidate = end.status["candidate"]
    found = delay(samples(site), watch.traffic, [], candidate)
    assert isinstance(found, Delay), found
    print(f"0 % in KServe's status {found.decided:.2f} s after the look that decided")
    assert found.decided < ZERO_SECONDS
    assert failures(users, but_of=candidate) == []
    assert any(look.weights.get(candidate) for look in watch.route), "no user met it"
    assert not site.settled_weights().get(candidate)
    assert site.service()["spec"]["predictor"]["model"]["storageUri"].endswith("iris:1")
    assert stable in {name for look in watch.route for name in look.weights}
    assert_clean(watch)


def test_a_healthy_candidate_is_promoted(site: Site, watch: Watch, users: GatewayUsers) -> None:
    """`kubectl wait` sees it, it has all the traffic, and none of the users' requests failed meanwhile."""
    site.roll_out("2")
    site.lab.kubectl(
        "-n",
        site.namespace,
        "wait",
        "rollout",
        site.name,
        "--for=condition=Promoted",
        "--timeout=240s",
        timeout_seconds=250,
    )
    end = ended(watch, 5)
    assert end.status["verdict"] == "pass"
    assert site.settled_weights() == {end.status["candidate"]: 100}
    assert failures(users) == []
    assert users.count() > 100
    assert {e["reason"] for e in site.events()} >= {"RolloutStarted", "StepReached", "Promoted"}
    assert_clean(watch)


def test_a_slow_candidate_is_rolled_back(site: Site, watch: Watch, users: GatewayUsers) -> None:
    """1,500 trees served by scikit-learn: nobody's request fails, and it is out all the same."""
    site.roll_out("2-slow")
    end = ended(watch)
    assert (end.phase, end.status.get("cause")) == ("RolledBack", "evidence"), end.reason
    assert "latency" in end.reason
    assert failures(users) == []
    assert_clean(watch)


def test_a_candidate_that_answers_wrongly_is_rolled_back_before_any_user_meets_it(
    site: Site, watch: Watch, users: GatewayUsers
) -> None:
    """The shadow stage compares the answers: no weight was ever above 0."""
    site.roll_out("2-wrong")
    end = ended(watch)
    assert (end.phase, end.status.get("cause")) == ("RolledBack", "evidence"), end.reason
    candidate = end.status["candidate"]
    assert not any(look.weights.get(candidate) for look in watch.route)
    assert candidate not in {one.revision for one in users.answers()}
    assert failures(users) == []
    assert_clean(watch)


def test_without_evidence_it_is_held_and_promoted_when_it_is_back(
    site: Site, watch: Watch, users: GatewayUsers
) -> None:
    """Locust's master is kept away half way: Held, with the reason and no verdict; then it goes on by itself to the right one."""
    site.roll_out("2")
    watch.wait("a step", lambda look: look.phase == "Shifting" and look.step >= 1, seconds=150)

    def held_without_a_master() -> RolloutLook | None:
        # One comes back within a second or two, and so is taken away again until the evidence has been missing for too long.
        with suppress(LabError):
            delete_pods(
                site.lab, site.namespace, "app.kubernetes.io/name=relevo-load,app.kubernetes.io/component=master"
            )
        last = watch.rollout[-1]
        return last if last.hold == "Unmeasurable" or last.phase in TERMINAL else None

    held = until("a hold", held_without_a_master, seconds=60)
    assert held.phase == "Held", f"it never was held: {watch.phases()}"
    assert "locust" in held.reason
    assert held.status["verdict"] == "unmeasurable"
    end = ended(watch)
    assert end.phase == "Promoted", end.reason
    assert failures(users) == []
    assert_clean(watch)


def test_prometheus_alone_is_evidence_enough(site: Site, watch: Watch) -> None:
    """No Locust and no look at the gateways: what Prometheus has counted of the users' requests proves that the candidate fails."""
    with GatewayUsers(site.lab.gateway, site.host, site.name, models.rows(), per_second=40, connections=4) as users:
        until("users get answers", users.count, seconds=30)
        site.roll_out("2-errors", **BY_USERS_ALONE | {"sources": ["prometheus"]})
        end = ended(watch)
    assert (end.phase, end.status.get("cause")) == ("RolledBack", "evidence"), end.reason
    assert "errors" in end.reason
    assert failures(users, but_of=end.status["candidate"]) == []
    assert_clean(watch)
