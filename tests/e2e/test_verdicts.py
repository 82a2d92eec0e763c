"""Each candidate gets the verdict that it deserves, and no user pays for it but by the candidate's own answers."""

from __future__ import annotations

from scripts.lab.rollouts import Site, condition
from scripts.lab.users import GatewayUsers, Seen
from scripts.lab.watching import RolloutLook, Watch

VERDICT_SECONDS = 240.0


def ended(watch: Watch, seconds: float = VERDICT_SECONDS) -> RolloutLook:
    """The Rollout's end."""
    return watch.wait("a verdict", lambda look: look.phase in ("Promoted", "RolledBack"), seconds=seconds)


def failures(users: GatewayUsers, *, but_of: str = "") -> list[Seen]:
    """The requests that failed otherwise than by an answer of this revision's own."""
    return [one for one in users.answers() if one.failed and (not but_of or one.revision != but_of)]


def assert_clean(watch: Watch) -> None:
    """Weights summed to 100 whenever they changed, and no revision got any that was not ready."""
    assert watch.problems == []
    assert watch.traffic
    assert watch.route


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
