"""Other parts of the cluster die while a healthy candidate is rolled out: a clear condition where it matters, and never a wrong verdict."""

from __future__ import annotations

from collections.abc import Callable

from scripts.lab.faults import delete_pods
from scripts.lab.rollouts import Site
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import RolloutLook, Watch

from .judging import assert_clean, ended, failures


def shifting(step: int) -> Callable[[RolloutLook], bool]:
    """Whether a look shows this step or a later one."""

    def holds(look: RolloutLook) -> bool:
        return look.phase in ("Promoting", "Promoted", "RolledBack") or (look.phase == "Shifting" and look.step >= step)

    return holds


def test_what_dies_around_a_healthy_candidate_changes_no_verdict(site: Site, watch: Watch, users: GatewayUsers) -> None:
    """One after the other: a worker of the load, KServe's controller, and the candidate's own pod.

    Of the first two no user notices anything. While none of the candidate's pods is ready it has no traffic, and a condition says so.
    """
    site.roll_out("2")
    watch.wait("the first step", shifting(1), seconds=150)
    delete_pods(site.lab, site.namespace, "app.kubernetes.io/name=relevo-load,app.kubernetes.io/component=worker")
    watch.wait("the second step", shifting(2), seconds=120)
    delete_pods(site.lab, "kserve", "control-plane=kserve-controller-manager")
    look = watch.wait("the third step", shifting(3), seconds=120)
    assert look.phase == "Shifting"
    assert failures(users) == []
    candidate = look.status["candidate"]
    delete_pods(site.lab, site.namespace, f"serving.knative.dev/revision={candidate}")
    held = watch.wait("a hold", lambda look: bool(look.hold) or look.phase in ("Promoted", "RolledBack"), seconds=30)
    assert held.hold == "CandidateNotReady", f"{held.phase}: {held.reason}"
    assert candidate in held.reason
    end = ended(watch)
    assert end.phase == "Promoted", end.reason
    assert_clean(watch)


def test_a_lost_gateway_is_not_the_candidates_fault(site: Site, watch: Watch) -> None:
    """All requests fail for seconds, those to the candidate among them: both arms suffer, and nothing follows from it."""
    site.roll_out("2")
    watch.wait("the second step", shifting(2), seconds=180)
    delete_pods(site.lab, "kourier-system", "app=3scale-kourier-gateway")
    end = ended(watch)
    assert end.phase == "Promoted", end.reason
    assert_clean(watch)
