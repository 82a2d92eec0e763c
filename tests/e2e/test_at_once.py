"""Many rollouts at the same time."""

from __future__ import annotations

from contextlib import ExitStack

from scripts.lab import models
from scripts.lab.kube import Lab, until
from scripts.lab.rollouts import BY_USERS_ALONE, Site, sample_service
from scripts.lab.users import GatewayUsers

from .conftest import MakeNamespace

AT_ONCE = {
    **BY_USERS_ALONE,
    "strategy": {"canary": {"weights": [50], "stepSeconds": 4, "stepRequests": 5}},
    "checks": {"latency": None},
    "decision": {"promotionAlpha": 0.2},
    "limits": {"maxSeconds": 500, "preparationSeconds": 300, "evidenceTimeoutSeconds": 20},
}
"""What two cores can carry ten times: no Locust, and no question about milliseconds."""


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
