"""What cannot be rolled out is refused with a clear condition or rolled back at 0 %, and never leaves users without their model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relevo import __version__
from scripts.lab.kube import Lab, Object, until
from scripts.lab.rollouts import Site, condition, merged, sample_rollout, sample_service
from scripts.lab.watching import Watch

from .conftest import MakeNamespace
from .judging import ended

SOON = {"preparationSeconds": 30, "maxSeconds": 120}
"""What is not ready by then, is not."""


@pytest.fixture(scope="module")
def empty(make_namespace: MakeNamespace) -> str:
    """A namespace in which nothing is ever ready."""
    return make_namespace("e2e-empty")


def troubled(site: Site) -> Iterator[Object]:
    found = condition(site.rollout(), "Ready")
    if found.get("status") == "False":
        yield found


def trouble(site: Site, seconds: float = 40) -> Object:
    """The Ready condition, once it says why the Rollout is not carried."""
    return until(f"{site.name} is refused", lambda: next(troubled(site), None), seconds=seconds)


def test_a_missing_inference_service_is_named(lab: Lab, empty: str) -> None:
    """With what to do."""
    site = Site(lab, empty, "nobody")
    site.roll_out("2")
    assert "there is no InferenceService nobody" in trouble(site)["message"]
    site.delete_rollout()


def test_one_in_standard_mode_is_refused_with_what_to_do(lab: Lab, empty: str) -> None:
    """KServe cannot split its traffic."""
    site = Site(lab, empty, "standard")
    body = merged(
        sample_service("standard"), {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": "Standard"}}}
    )
    lab.apply(body, namespace=empty)
    site.roll_out("2")
    found = trouble(site)
    assert "Standard" in found["message"] or "Knative" in found["message"], found
    site.delete_rollout()
    lab.try_kubectl("-n", empty, "delete", "inferenceservice", "standard", "--wait=false")


def test_one_with_two_containers_is_refused_with_what_to_do(lab: Lab, empty: str) -> None:
    """There is no one model in it to replace."""
    site = Site(lab, empty, "double")
    container = {
        "image": "dev.local/relevo-server:0.1.0",
        "command": ["sleep", "1"],
        "ports": [{"containerPort": 8080}],
    }
    body = merged(sample_service("double"), {})
    body["spec"]["predictor"] = {
        "minReplicas": 1,
        "containers": [{"name": "kserve-container", **container}, {"name": "other", "image": container["image"]}],
    }
    lab.apply(body, namespace=empty)
    site.roll_out("2")
    assert "container" in trouble(site)["message"]
    site.delete_rollout()
    lab.try_kubectl("-n", empty, "delete", "inferenceservice", "double", "--wait=false")


def test_a_field_that_makes_no_sense_is_refused_by_the_api_server(lab: Lab, empty: str) -> None:
    """The definition itself knows what may be."""
    import yaml

    for spec, told in (
        ({"strategy": {"canary": {"weights": [50, 10]}}}, "weights"),
        ({"decision": {"alpha": 2}}, "alpha"),
        ({"nonsense": 1}, "nonsense"),
    ):
        body = sample_rollout("refused", "2")
        body["spec"] |= spec
        done = lab.try_kubectl("-n", empty, "apply", "-f", "-", stdin=yaml.safe_dump(body))
        assert done.returncode, spec
        assert told in done.stderr


def test_an_image_that_cannot_be_pulled_is_rolled_back_at_zero_with_the_pods_reason(site: Site, watch: Watch) -> None:
    """Nothing is waited for in vain."""
    site.roll_out("no-such-version", limits=SOON)
    end = ended(watch, 150)
    assert (end.phase, end.status["cause"]) == ("RolledBack", "not-ready"), end.reason
    assert any(word in end.reason for word in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")), end.reason
    assert all(look.weights.get(end.status["candidate"], 0) == 0 for look in watch.route)


def test_one_that_never_becomes_ready_is_rolled_back_at_zero_with_the_pods_reason(site: Site, watch: Watch) -> None:
    """An image with no model in it: what its container says of itself is the reason."""
    site.roll_out("1", storageUri=f"oci://dev.local/relevo-operator:{__version__}", limits=SOON)
    end = ended(watch, 150)
    assert (end.phase, end.status["cause"]) == ("RolledBack", "not-ready"), end.reason
    assert "container" in end.reason, end.reason
    assert end.status["weight"] == 0
    assert site.settled_weights()
