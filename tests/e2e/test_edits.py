"""What people do to a rollout half way: delete it, edit it, edit the InferenceService, delete that, upgrade the CRD; and ten at once."""

from __future__ import annotations

import time
from contextlib import ExitStack

from scripts.arena import PROJECT
from scripts.lab import models
from scripts.lab.kube import Lab, until
from scripts.lab.rollouts import BY_USERS_ALONE, Site, condition, sample_service
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import RolloutLook, Watch

from .conftest import MakeNamespace
from .judging import assert_clean, ended, failures

SLOWLY = {
    "strategy": {"canary": {"weights": [10, 40], "stepSeconds": 20, "stepRequests": 5}},
    "shadow": {"enabled": False},
}
"""Steps that are long enough to be met."""

AT_ONCE = {
    **BY_USERS_ALONE,
    "strategy": {"canary": {"weights": [50], "stepSeconds": 4, "stepRequests": 5}},
    "checks": {"latency": None},
    "decision": {"promotionAlpha": 0.2},
    "limits": {"maxSeconds": 500, "preparationSeconds": 300, "evidenceTimeoutSeconds": 20},
}
"""What two cores can carry ten times: no Locust, and no question about milliseconds."""


def under_way(look: RolloutLook) -> bool:
    return look.phase == "Shifting" and look.weight > 0


def test_deleting_a_rollout_half_way_gives_the_stable_revision_everything_back(
    site: Site, watch: Watch, users: GatewayUsers
) -> None:
    """The finalizer holds it until then; nobody's request fails."""
    site.roll_out("2", **SLOWLY)
    look = watch.wait("weight", under_way, seconds=150)
    site.delete_rollout()
    weights = site.settled_weights()
    assert look.status["candidate"] not in weights
    assert site.service()["spec"]["predictor"]["model"]["storageUri"].endswith("iris:1")
    until(
        "the load is gone",
        lambda: not site.lab.items("deployments", site.namespace, "app.kubernetes.io/name=relevo-load"),
        seconds=60,
    )
    assert failures(users) == []
    assert_clean(watch)


def test_another_candidate_half_way_ends_the_first_and_begins_anew(site: Site, watch: Watch) -> None:
    """The one that is under way is rolled back by order, and the new one gets its own verdict on its own evidence."""
    site.roll_out("2", **SLOWLY)
    first = watch.wait("weight", under_way, seconds=150)
    site.roll_out("2-errors", shadow={"enabled": False})
    second = watch.wait("a second run", lambda look: look.status.get("runs") == 2, seconds=120)
    assert second.status["uid"] != first.status["uid"]
    end = watch.wait(
        "its verdict",
        lambda look: look.status.get("runs") == 2 and look.phase in ("Promoted", "RolledBack"),
        seconds=240,
    )
    assert (end.phase, end.status["cause"]) == ("RolledBack", "evidence"), end.reason
    assert end.status["storageUri"].endswith("iris:2-errors")
    assert_clean(watch)


def test_a_weight_that_somebody_sets_by_hand_holds_the_rollout(site: Site, watch: Watch) -> None:
    """It is told who set what, and not fought over; an order to roll back ends it."""
    site.roll_out("2", **SLOWLY)
    watch.wait("weight", under_way, seconds=150)
    patch = '{"spec": {"predictor": {"canaryTrafficPercent": 77}}}'
    site.lab.kubectl("-n", site.namespace, "patch", "inferenceservice", site.name, "--type=merge", "-p", patch)
    held = watch.wait("a hold", lambda look: look.hold == "EditedByHand", seconds=30)
    assert "77" in held.reason
    until("it lasts", lambda: condition(site.rollout(), "Held").get("status") == "True", seconds=5)
    assert site.service()["spec"]["predictor"]["canaryTrafficPercent"] == 77
    site.annotate("rollback")
    end = ended(watch)
    assert (end.phase, end.status["cause"]) == ("RolledBack", "ordered")


def test_an_inference_service_that_is_deleted_half_way_is_said_in_a_condition(
    lab: Lab, make_namespace: MakeNamespace
) -> None:
    """There is nothing left to roll out: the Rollout says so, and can be deleted."""
    site = Site(lab, make_namespace("e2e-deleted"))
    site.serve("1")
    with Watch(lab, site.namespace, site.name) as watch:
        site.roll_out("2", **SLOWLY)
        watch.wait("weight", under_way, seconds=150)
        lab.kubectl("-n", site.namespace, "delete", "inferenceservice", site.name)
        ready = until("a condition", lambda: _not_ready(site), seconds=60)
    assert site.name in ready["message"]
    site.delete_rollout()
    assert site.rollout() is None


def _not_ready(site: Site) -> dict[str, str] | None:
    found = condition(site.rollout(), "Ready")
    return found if found.get("status") == "False" else None


def test_the_crd_can_be_applied_again_while_a_rollout_is_under_way(site: Site, watch: Watch) -> None:
    """As `helm upgrade` does: what is stored stays as it is, and the rollout goes on to its verdict."""
    site.roll_out("2", **SLOWLY)
    look = watch.wait("weight", under_way, seconds=150)
    definition = PROJECT / "charts/relevo/files/rollouts.relevo.dev.yaml"
    site.lab.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=e2e", "-f", str(definition))
    site.lab.kubectl("annotate", "--overwrite", "crd", "rollouts.relevo.dev", f"relevo.dev/e2e={time.time():.0f}")
    end = ended(watch)
    assert end.phase == "Promoted", end.reason
    assert end.status["uid"] == look.status["uid"]


def test_ten_rollouts_at_once_in_three_namespaces(lab: Lab, make_namespace: MakeNamespace) -> None:
    """Each gets its own verdict, on its own users' requests: nine are promoted, the one that fails is rolled back."""
    namespaces = [make_namespace(f"e2e-ten-{number}") for number in (1, 2, 3)]
    sites = [Site(lab, namespaces[number % 3], f"iris-{number}") for number in range(10)]
    small = {"resources": {"requests": {"cpu": "10m", "memory": "160Mi"}, "limits": {"memory": "1Gi"}}}
    for site in sites:
        lab.apply(sample_service(site.name, model=small), namespace=site.namespace)
    for site in sites:
        site.wait_ready(400)
    with ExitStack() as stack:
        for number, site in enumerate(sites):
            users = GatewayUsers(lab.gateway, site.host, site.name, models.rows(), per_second=8, connections=1)
            stack.enter_context(users)
            site.roll_out("2-errors" if number == 0 else "2", **AT_ONCE)
        phases = until("ten verdicts", lambda: _all_ended(sites), seconds=600, every_seconds=2)
    assert phases == {site.name: "RolledBack" if number == 0 else "Promoted" for number, site in enumerate(sites)}


def _all_ended(sites: list[Site]) -> dict[str, str] | None:
    phases = {site.name: str(((site.rollout() or {}).get("status") or {}).get("phase", "")) for site in sites}
    return phases if set(phases.values()) <= {"Promoted", "RolledBack"} else None
