"""The load's workloads: what they are made of."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.errors import BadInput
from relevo.load.workloads import Workload, load_name, manifests
from relevo.rollout.spec import NAME_PATTERN

WORKLOAD = Workload(
    namespace="team-a",
    rollout="iris",
    rollout_uid="c0ffee",
    run="iris-1234",
    target="iris",
    stable_uri="oci://dev.local/iris:1",
    workers=3,
    image="dev.local/relevo-operator:9",
)


def pods(workload: Workload = WORKLOAD) -> list[dict[str, Any]]:
    return [m["spec"]["template"]["spec"] for _, m in manifests(workload) if m["kind"] == "Deployment"]


def test_everything_belongs_to_the_rollout() -> None:
    """Deleting the Rollout deletes its load: each object names it as its owner, by its uid."""
    for _, manifest in manifests(WORKLOAD):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Rollout", "iris", "c0ffee")
        assert manifest["metadata"]["namespace"] == "team-a"


def test_there_is_one_master_and_as_many_workers_as_asked_for() -> None:
    """The counts are one master's; the load is the workers'."""
    replicas = [m["spec"]["replicas"] for _, m in manifests(WORKLOAD) if m["kind"] == "Deployment"]
    assert replicas == [1, 3]


def test_a_service_finds_the_master_and_no_worker() -> None:
    """Requests to the Service reach the pod with the counts, also before it is ready."""
    service = manifests(WORKLOAD)[0][1]
    _, master, worker = (manifest for _, manifest in manifests(WORKLOAD))
    selector = service["spec"]["selector"].items()
    assert selector <= master["spec"]["template"]["metadata"]["labels"].items()
    assert not selector <= worker["spec"]["template"]["metadata"]["labels"].items()
    assert service["spec"]["publishNotReadyAddresses"]


def test_the_rows_come_out_of_the_stable_models_image() -> None:
    """The candidate does not set its own exam."""
    worker = pods()[1]
    (copy,) = worker["initContainers"]
    assert copy["image"] == "dev.local/iris:1"
    assert "/models/." in copy["command"][-1]
    mounted = copy["volumeMounts"][0]["name"], worker["containers"][0]["volumeMounts"][-1]["name"]
    assert mounted[0] == mounted[1]


def test_the_rows_can_lie_on_a_claim() -> None:
    """pvc:// is mounted, and only for reading."""
    worker = pods(Workload("ns", "iris", "u", "r", "iris", "pvc://models/iris/1"))[1]
    mount = worker["containers"][0]["volumeMounts"][-1]
    assert (mount["subPath"], mount["readOnly"]) == ("iris/1", True)
    assert worker["volumes"][-1]["persistentVolumeClaim"]["claimName"] == "models"
    assert "initContainers" not in worker


@pytest.mark.parametrize("uri", ["s3://bucket/iris", "iris", "oci://"])
def test_rows_that_cannot_be_had_are_said_to_be_missing(uri: str) -> None:
    """With what to do about it."""
    with pytest.raises(BadInput, match="rows") as refused:
        manifests(Workload("ns", "iris", "u", "r", "iris", uri))
    assert "usersTo" in refused.value.next_step


def test_pods_meet_the_restricted_pod_security_standard() -> None:
    """Pods are admitted where the namespace enforces the level "restricted", and hold no token of the API."""
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"]
            assert container["resources"]["limits"]["memory"]


def test_another_run_gets_new_pods() -> None:
    """Counts of the run before stay out of the next one's processes."""
    first, second = WORKLOAD, Workload("team-a", "iris", "c0ffee", "iris-5678", "iris", "oci://dev.local/iris:1")
    runs = [
        m["spec"]["template"]["metadata"]["annotations"]["relevo.dev/run"]
        for w in (first, second)
        for _, m in manifests(w)[1:]
    ]
    assert runs == ["iris-1234", "iris-1234", "iris-5678", "iris-5678"]


@given(st.from_regex(NAME_PATTERN, fullmatch=True))
def test_every_rollouts_name_gives_names_that_kubernetes_takes(rollout: str) -> None:
    """A Service's name is a DNS label that begins with a letter; long names are told apart."""
    name = load_name(rollout)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)
    assert load_name(rollout[:-1] + ("a" if rollout[-1] != "a" else "b")) != name


@pytest.mark.parametrize("uri", ["oci://dev.local/iris:1", "pvc://models/iris/1"])
def test_workers_carry_a_credential_from_a_secret(uri: str) -> None:
    """Where the models ask for one: mounted for reading, named on the command line; the master, which asks nobody, has none."""
    workload = Workload("ns", "iris", "u", "r", "iris", uri, credential_secret="relevo-credential")
    master, worker = pods(workload)
    assert "relevo-credential" not in str(master)
    (container,) = worker["containers"]
    folder = container["args"][container["args"].index("--credential") + 1]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == folder]
    assert mount["readOnly"]
    (volume,) = [volume for volume in worker["volumes"] if volume["name"] == mount["name"]]
    assert volume["secret"]["secretName"] == "relevo-credential"
    assert "credential" not in str(pods(Workload("ns", "iris", "u", "r", "iris", uri)))
