"""What the tests on a cluster share: the cluster, InferenceServices of their own, users, and what a failure leaves in the output.

Namespaces and InferenceServices are made once per module and used by its tests one after the other; each test leaves version 1 behind.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scripts.lab import models
from scripts.lab.diagnosis import diagnose
from scripts.lab.faults import wait_for_operator
from scripts.lab.kube import GATEWAY, Lab, LabError, until
from scripts.lab.rollouts import Site
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import Watch

OURS = {"app.kubernetes.io/managed-by": "relevo-e2e"}
"""Marks our namespaces."""
LEFT_BEHIND = timedelta(hours=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a cluster."""
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """After a failure, show what the cluster says of the namespaces that the test has used."""
    report = yield
    if report.failed and (used := [name for name in _namespaces(item) if name]):
        report.sections.append(("the cluster", diagnose(_lab(), used)))
    return report


def _namespaces(item: pytest.Item) -> list[str]:
    values = getattr(item, "funcargs", {})
    found = [getattr(value, "namespace", None) for value in values.values()]
    return list(dict.fromkeys(str(one) for one in [*found, values.get("namespace")] if one))


def _lab() -> Lab:
    return Lab(os.environ.get("E2E_CONTEXT", "kind-relevo"), os.environ.get("E2E_GATEWAY", GATEWAY))


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The cluster, with an operator that is at work, and without what an earlier run left behind."""
    lab = _lab()
    now = datetime.now(UTC)
    for body in lab.items("namespaces", "default", ",".join(f"{key}={value}" for key, value in OURS.items())):
        # Younger ones may be of a run that goes on just now.
        if now - datetime.fromisoformat(body["metadata"]["creationTimestamp"]) > LEFT_BEHIND:
            lab.try_kubectl("delete", "namespace", body["metadata"]["name"], "--wait=false")
    try:
        wait_for_operator(lab)
    except LabError as error:
        pytest.exit(f"the cluster of {lab.context} cannot be used: {error}; `make e2e` says more", returncode=2)
    return lab


MakeNamespace = Callable[[str], str]


@pytest.fixture(scope="module")
def make_namespace(lab: Lab) -> Iterator[MakeNamespace]:
    """Makes empty namespaces, which go when the module's tests are over."""
    made = []

    def make(name: str) -> str:
        # A namespace takes minutes to go; so each has a name of its own.
        made.append(f"{name}-{secrets.token_hex(2)}")
        lab.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made[-1], "labels": OURS}},
            namespace="default",
        )
        return made[-1]

    yield make
    if not os.environ.get("E2E_KEEP"):
        for name in made:
            lab.try_kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def namespace(make_namespace: MakeNamespace, request: pytest.FixtureRequest) -> str:
    """An empty namespace, named after the module."""
    return make_namespace("e2e-" + request.module.__name__.rpartition("test_")[2].replace("_", "-"))


@pytest.fixture(scope="module")
def served(lab: Lab, namespace: str) -> Site:
    """Version 1 of iris, served in the module's namespace."""
    site = Site(lab, namespace)
    site.serve("1")
    return site


@pytest.fixture
def site(served: Site) -> Iterator[Site]:
    """The same, with no Rollout and one revision that has all the traffic; version 1 again when the test is over."""
    served.delete_rollout()
    served.settled_weights()
    yield served
    served.bring_back("1")


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    """A watch of `site` while the test lasts."""
    with Watch(site.lab, site.namespace, site.name) as watch:
        yield watch


@pytest.fixture
def users(site: Site) -> Iterator[GatewayUsers]:
    """Users who ask `site` all the while, ten times a second."""
    with GatewayUsers(site.lab.gateway, site.host, site.name, models.rows()) as users:
        until("users get answers", users.count, seconds=30)
        yield users
