"""What is changed in other projects' manifests before they are applied. Pure: documents in, documents out.

The same changes for both origins: CPU requests that let all of it run on two cores, no image pulled that the node already holds, one
self-signed certificate instead of cert-manager, and Knative's settings in place before its first start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

__all__ = ["Document", "Stages", "knative", "kserve", "read", "stages"]

Document = dict[str, Any]

GATEWAY_NODE_PORT = 31080
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML has it: ten times as fast on megabytes of definitions."""
_DROPPED = {"HorizontalPodAutoscaler", "PodDisruptionBudget"}
"""What is of no use on one node, and in the way when pods are restarted."""
_SETTINGS = {
    "config-network": {"ingress-class": "kourier.ingress.networking.knative.dev"},
    "config-domain": {"example.com": ""},
    "config-features": {"tag-header-based-routing": "Enabled"},  # a tester names a colour by Knative-Serving-Tag
    "config-observability": {"request-metrics-protocol": "prometheus", "metrics-protocol": "prometheus"},
    "config-deployment": {"queue-sidecar-cpu-request": "10m"},
}
_REQUESTS = {"cpu": "10m", "memory": "40Mi"}
_ON_THE_WAY = {"kserve-controller-manager", "controller", "net-kourier-controller", "3scale-kourier-gateway"}
"""Every change of a weight passes them one after the other: on a busy machine their share decides how long it takes."""
_REQUESTS_ON_THE_WAY = {"cpu": "60m", "memory": "40Mi"}


def read(text: str, swaps: Sequence[tuple[str, str]] = ()) -> list[Document]:
    """The documents of a YAML text, in which images' names are swapped first: pairs of a regular expression and a replacement."""
    for pattern, replacement in swaps:
        text = re.sub(pattern, replacement, text)
    return [document for document in yaml.load_all(text, Loader=_LOADER) if document]


def knative(documents: Iterable[Document]) -> list[Document]:
    """Knative Serving and Kourier for one small node, with the gateway at a port of the node."""
    kept = [_slim(document) for document in documents if document["kind"] not in _DROPPED]
    for document in kept:
        name = document["metadata"]["name"]
        if document["kind"] == "ConfigMap" and name in _SETTINGS:
            document["data"] = (document.get("data") or {}) | _SETTINGS[name]
        if document["kind"] == "Service" and name == "kourier":
            document["spec"]["type"] = "NodePort"
            document["spec"]["ports"] = [
                {"name": "http2", "port": 80, "targetPort": 8080, "nodePort": GATEWAY_NODE_PORT}
            ]
    return kept


def kserve(documents: Iterable[Document], certificate: str, key: str) -> list[Document]:
    """KServe's controller with a certificate of our own instead of cert-manager's.

    Args:
        documents: the rendered chart.
        certificate: PEM in Base64; it signs itself.
        key: its private key, PEM in Base64.
    """
    kept = []
    for document in documents:
        if document["kind"] in _DROPPED | {"Certificate", "Issuer"}:
            continue
        if document["kind"].endswith("WebhookConfiguration"):
            document["metadata"].get("annotations", {}).pop("cert-manager.io/inject-ca-from", None)
            for hook in document["webhooks"]:
                hook["clientConfig"]["caBundle"] = certificate
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            pod["containers"] = [c for c in pod["containers"] if "rbac-proxy" not in c["image"]]
        document["metadata"].setdefault("namespace", "kserve")
        kept.append(_slim(document))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "kserve-webhook-server-cert", "namespace": "kserve"},
        "data": {"tls.crt": certificate, "tls.key": key},
    }
    return [secret, *kept]


def _slim(document: Document) -> Document:
    """No image pulled, small requests, and no limit of CPU.

    KServe's chart allows its controller a tenth of a core, which makes every change of a weight late, a rollback's too.
    """
    if document["kind"] == "Deployment":
        requests = _REQUESTS_ON_THE_WAY if document["metadata"]["name"] in _ON_THE_WAY else _REQUESTS
        for container in document["spec"]["template"]["spec"]["containers"]:
            container["imagePullPolicy"] = "IfNotPresent"
            resources = container.setdefault("resources", {})
            resources["requests"] = dict(requests)
            resources.get("limits", {}).pop("cpu", None)
    return document


class Stages:
    """Documents in the order in which a server takes them.

    Attributes:
        definitions: namespaces and CustomResourceDefinitions.
        builtin: everything of Kubernetes' own kinds.
        custom: what needs a definition, and the webhook that checks it.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self.definitions: list[Document] = []
        self.builtin: list[Document] = []
        self.custom: list[Document] = []
        for document in documents:
            if document["kind"] in ("Namespace", "CustomResourceDefinition"):
                self.definitions.append(document)
            elif _is_builtin(document["apiVersion"]):
                self.builtin.append(document)
            else:
                self.custom.append(document)
        self.definitions.sort(key=lambda document: document["kind"] != "Namespace")


def _is_builtin(api_version: str) -> bool:
    group = api_version.rpartition("/")[0]
    return "." not in group or group.endswith(".k8s.io")


def stages(*parts: Iterable[Document]) -> Stages:
    """The documents of several parts, sorted together. What several define (a namespace) is there once."""
    seen: dict[tuple[str, str, str], Document] = {}
    for part in parts:
        for document in part:
            metadata = document["metadata"]
            seen[document["kind"], metadata.get("namespace", ""), metadata["name"]] = document
    return Stages(seen.values())
