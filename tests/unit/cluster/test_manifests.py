"""What is changed in Knative's and KServe's manifests."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509

from k8s.cluster.certificate import self_signed
from k8s.cluster.manifests import Document, knative, kserve, read, stages


def _document(kind: str, name: str, **rest: object) -> Document:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **rest}


def _deployment(*images: str) -> Document:
    containers = [{"name": str(n), "image": image, "imagePullPolicy": "Always"} for n, image in enumerate(images)]
    return _document("Deployment", "d", spec={"template": {"spec": {"containers": containers}}})


def _containers(document: Document) -> list[dict[str, object]]:
    found: list[dict[str, object]] = document["spec"]["template"]["spec"]["containers"]
    return found


def test_images_are_swapped_where_the_text_names_them() -> None:
    """Also in a ConfigMap's text, as the queue-proxy's is."""
    text = "kind: A\nimage: ko://knative.dev/serving/cmd/queue\n---\n---\nkind: B\n"
    swapped = read(text, [(r"ko://knative\.dev/serving/cmd/(\w+)", r"dev.local/\1:v1")])
    assert swapped == [{"kind": "A", "image": "dev.local/queue:v1"}, {"kind": "B"}]


def test_everything_fits_on_two_cores_and_no_held_image_is_pulled() -> None:
    """Every container asks for a hundredth of a core."""
    (deployment,) = knative([_deployment("a", "b")])
    for container in _containers(deployment):
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert container["resources"] == {"requests": {"cpu": "10m", "memory": "40Mi"}}


def test_what_a_change_of_weight_passes_has_its_share_and_no_limit() -> None:
    """KServe's chart limits its controller to a tenth of a core; the memory's limit stays."""
    document = _deployment("a")
    document["metadata"]["name"] = "kserve-controller-manager"
    _containers(document)[0]["resources"] = {"limits": {"cpu": "100m", "memory": "300Mi"}}
    *_, deployment = kserve([document], "", "")
    resources = {"requests": {"cpu": "60m", "memory": "40Mi"}, "limits": {"memory": "300Mi"}}
    assert _containers(deployment)[0]["resources"] == resources


def test_autoscalers_and_disruption_budgets_are_left_out() -> None:
    """On one node they only keep pods from being restarted."""
    assert knative([_document("HorizontalPodAutoscaler", "a"), _document("PodDisruptionBudget", "b")]) == []


def test_knative_starts_with_its_settings() -> None:
    """Kourier is the ingress class before the first start, and what a ConfigMap held stays."""
    (config,) = knative([_document("ConfigMap", "config-network", data={"_example": "x"})])
    assert config["data"] == {"_example": "x", "ingress-class": "kourier.ingress.networking.knative.dev"}
    (config,) = knative([_document("ConfigMap", "config-observability")])
    assert config["data"]["request-metrics-protocol"] == "prometheus"


def test_the_gateway_is_at_a_fixed_port_of_the_node() -> None:
    """The port that kind maps to the host."""
    (service,) = knative([_document("Service", "kourier", spec={"type": "LoadBalancer"})])
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["ports"][0]["nodePort"] == 31080


def test_kserve_needs_no_cert_manager() -> None:
    """Its webhooks trust one certificate, which its Secret holds; no document of cert-manager's is left."""
    hooks = _document("ValidatingWebhookConfiguration", "w", webhooks=[{"clientConfig": {}}, {"clientConfig": {}}])
    hooks["metadata"]["annotations"] = {"cert-manager.io/inject-ca-from": "kserve/serving-cert"}
    documents = [hooks, _document("Certificate", "c"), _document("Issuer", "i"), _deployment("m", "kube-rbac-proxy:1")]
    secret, webhook, deployment = kserve(documents, "CERT", "KEY")
    assert secret["data"] == {"tls.crt": "CERT", "tls.key": "KEY"}
    assert [hook["clientConfig"]["caBundle"] for hook in webhook["webhooks"]] == ["CERT", "CERT"]
    assert webhook["metadata"]["annotations"] == {}
    assert [container["image"] for container in _containers(deployment)] == ["m"]


def test_the_certificate_is_for_the_webhook_and_signs_itself() -> None:
    """The API server checks the name and the authority."""
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate, key = self_signed("a.b.svc", now)
    parsed = x509.load_pem_x509_certificate(base64.b64decode(certificate))
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.b.svc"]
    parsed.verify_directly_issued_by(parsed)
    assert parsed.not_valid_before_utc < now < parsed.not_valid_after_utc
    assert b"PRIVATE KEY" in base64.b64decode(key)


@pytest.mark.parametrize(
    ("api_version", "stage"),
    [
        ("v1", "builtin"),
        ("apps/v1", "builtin"),
        ("admissionregistration.k8s.io/v1", "builtin"),
        ("caching.internal.knative.dev/v1alpha1", "custom"),
        ("serving.kserve.io/v1alpha1", "custom"),
    ],
)
def test_what_needs_a_definition_comes_after_it(api_version: str, stage: str) -> None:
    """Kubernetes' own kinds first, others when their webhooks answer."""
    document = {"apiVersion": api_version, "kind": "K", "metadata": {"name": "n"}}
    assert getattr(stages([document]), stage) == [document]


def test_definitions_come_first_and_namespaces_before_them() -> None:
    """What two parts define is applied once."""
    crd = _document("CustomResourceDefinition", "c")
    space = _document("Namespace", "kserve")
    staged = stages([crd], [space], [space])
    assert staged.definitions == [space, crd]
    assert staged.builtin == []
