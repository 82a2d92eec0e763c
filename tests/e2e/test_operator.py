"""What the API server itself holds of a Rollout, and what it shows of one. Needs the CRD, and no model server."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from relevo.platforms.cluster_api import ROLLOUTS, Cluster, connect
from relevo.rollout.spec import RolloutSpec
from scripts.lab.diagnosis import OPERATOR_NAMESPACE
from scripts.lab.kube import Lab, LabError, until
from tests.unit.rollout.test_crd import RIGHT, document, numbers, spec_of
from tests.unit.rollout.test_spec import WRONG


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Cluster:
    return connect(lab.context)


def sent(cluster: Cluster, namespace: str, fields: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """What the API server answers to a new Rollout; it stores nothing."""
    client = cluster.client
    request = client.param_serialize(
        "POST",
        ROLLOUTS.path(namespace),
        query_params=[("dryRun", "All"), ("fieldValidation", "Strict")],
        header_params={"Accept": "application/json", "Content-Type": "application/json"},
        body=document(spec_of(fields)),
        auth_settings=["BearerToken"],
    )
    answer = client.call_api(*request, _request_timeout=10)
    return int(answer.status), json.loads(answer.read())


@pytest.mark.parametrize("fields", RIGHT)
def test_what_the_model_takes_the_api_server_takes(cluster: Cluster, namespace: str, fields: dict[str, Any]) -> None:
    """And fills in the defaults that the model would have assumed."""
    status, stored = sent(cluster, namespace, fields)
    assert status == 201, stored.get("message")
    assert RolloutSpec.model_validate(stored["spec"]) == RolloutSpec.model_validate(spec_of(fields))


@pytest.mark.parametrize(
    "fields", [fields for fields, _, _ in WRONG if not any(math.isnan(n) or math.isinf(n) for n in numbers(fields))]
)
def test_what_the_model_refuses_the_api_server_refuses(
    cluster: Cluster, namespace: str, fields: dict[str, Any]
) -> None:
    """Before anything is stored."""
    status, answer = sent(cluster, namespace, fields)
    assert status in (400, 422), answer


def test_a_target_cannot_be_changed(lab: Lab, namespace: str) -> None:
    """A Rollout is about one InferenceService for good."""
    lab.apply(document(spec_of({})) | {"metadata": {"name": "fixed"}}, namespace=namespace)
    with pytest.raises(LabError, match="target cannot be changed"):
        lab.kubectl("patch", "rollout", "fixed", "-n", namespace, "--type=merge", "-p", '{"spec": {"target": "other"}}')


def test_kubectl_shows_phase_step_weight_verdict_and_age(lab: Lab, namespace: str) -> None:
    """In this order; and by the short name why nothing moves, with the next step in the condition."""
    lab.apply(document(spec_of({})) | {"metadata": {"name": "lonely"}}, namespace=namespace)
    head = lab.kubectl("get", "rollouts", "-n", namespace).splitlines()[0].split()
    assert head == ["NAME", "PHASE", "STEP", "WEIGHT", "VERDICT", "AGE"]
    lab.kubectl("wait", "--for=condition=Ready=false", "ro/lonely", "-n", namespace, "--timeout=30s")
    told = until(
        "it says why",
        lambda: "InferenceService iris" in lab.kubectl("get", "ro", "lonely", "-o", "wide", "-n", namespace),
        seconds=30,
    )
    assert told


def test_one_replica_holds_the_lease(lab: Lab) -> None:
    """Two pods may be ready; one acts, and it is one of them."""
    named = "jsonpath={.items[?(@.metadata.name=='relevo-operator')].spec.holderIdentity}"
    holder = lab.kubectl("get", "lease", "-A", "-o", named).split()
    assert len(holder) == 1
    pods = lab.kubectl("get", "pods", "-A", "-l", "app.kubernetes.io/component=operator", "-o", "name")
    assert f"pod/{holder[0].rpartition('_')[0]}" in pods.split()


def test_the_charts_own_test_passes(lab: Lab) -> None:
    """`helm test`, with the rights of the operator and no others."""
    if lab.helm("list", "--short", namespace=OPERATOR_NAMESPACE).split() != ["relevo"]:
        pytest.skip("relevo was not installed by its chart as `relevo`")
    assert "Succeeded" in lab.helm("test", "relevo", namespace=OPERATOR_NAMESPACE)
