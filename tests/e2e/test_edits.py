"""What people do to a rollout half way: delete it, edit it, edit the InferenceService, delete that, upgrade the CRD."""

from __future__ import annotations

import time

from scripts.arena import PROJECT
from scripts.lab.kube import Lab, until
from scripts.lab.rollouts import Site, condition
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import RolloutLook, Watch

from .judging import assert_clean, ended, failures

SLOWLY = {
    "strategy": {"canary": {"weights": [10, 40], "stepSeconds": 15, "stepRequests": 5}},
    "shadow": {"enabled": False},
}
"""Steps that are long enough to be met."""


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
    """The one that is under way is rolled back by order, and the new one gets its own verdict on its own evidence.

    Meanwhile the definition of Rollouts is applied again, as `helm upgrade` does: nothing that is stored is lost by it.
    """
    site.roll_out("2", **SLOWLY)
    first = watch.wait("weight", under_way, seconds=150)
    _apply_definition(site.lab)
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
    rules = [line["rule"] for line in end.status["history"] if line["at"] <= second.status["startedAt"]]
    assert "settled" in rules, "the first run's history is gone"
    assert_clean(watch)


def _apply_definition(lab: Lab) -> None:
    definition = PROJECT / "charts/relevo/files/rollouts.relevo.dev.yaml"
    lab.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=e2e", "-f", str(definition))
    lab.kubectl("annotate", "--overwrite", "crd", "rollouts.relevo.dev", f"relevo.dev/e2e={time.time():.0f}")


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


def test_an_inference_service_that_is_deleted_half_way_is_said_in_a_condition(served: Site) -> None:
    """There is nothing left to roll out: the Rollout says so, and can be deleted. Last in this module, for it ends what is served."""
    served.delete_rollout()
    with Watch(served.lab, served.namespace, served.name) as watch:
        served.roll_out("2", **SLOWLY)
        watch.wait("weight", under_way, seconds=150)
        served.lab.kubectl("-n", served.namespace, "delete", "inferenceservice", served.name)
        ready = until("a condition", lambda: _not_ready(served), seconds=60)
    assert served.name in ready["message"]
    served.delete_rollout()
    assert served.rollout() is None


def _not_ready(site: Site) -> dict[str, str] | None:
    found = condition(site.rollout(), "Ready")
    return found if found.get("status") == "False" else None
