"""Brings Knative, Kourier, KServe and Prometheus into a cluster, all at once: definitions, then everything, then wait.

What was applied is noted in a ConfigMap, so that a second `make cluster` sees that there is nothing to do.
"""

from __future__ import annotations

import json
from pathlib import Path

from k8s.cluster import manifests, prometheus
from k8s.cluster.cache import digest
from k8s.cluster.certificate import self_signed
from k8s.cluster.commands import run
from k8s.cluster.kube import Kube
from k8s.cluster.manifests import Document
from k8s.cluster.origin import Origin
from k8s.cluster.progress import say, step
from relevo.errors import Permanent

__all__ = ["NAMESPACES", "install"]

NAMESPACES = ("knative-serving", "kourier-system", "kserve", prometheus.NAMESPACE)
"""Whose Deployments must be available."""
_NOTE = ("kube-system", "relevo-cluster")
_WEBHOOK = "kserve-webhook-server-service.kserve.svc"
_ONE_COREDNS = json.dumps(
    {
        "spec": {
            "replicas": 1,
            "template": {"spec": {"containers": [{"name": "coredns", "resources": {"requests": {"cpu": "20m"}}}]}},
        }
    }
)
"""Two that ask for a tenth of a core each would take a tenth of a small machine from the models."""
_VALUES = (
    "kserve.controller.gateway.disableIstioVirtualHost=true",
    "kserve.inferenceservice.resources.requests.cpu=50m",
    "kserve.inferenceservice.resources.requests.memory=128Mi",
)


def install(kube: Kube, origin: Origin, helm: Path, repository: Path) -> None:
    """Install what is not installed yet in these versions, and wait until it is available.

    Args:
        kube: the cluster.
        origin: where manifests come from.
        helm: renders KServe's charts; nothing is kept as a Helm release.
        repository: the checkout, for the rules of k8s/monitoring.
    """
    knative = manifests.knative(origin.knative())
    definitions = _render(helm, origin, "kserve-crd")
    controller = _render(helm, origin, "kserve-resources")
    rules = repository / "k8s/monitoring/rules.yaml"
    monitoring = prometheus.documents(origin.prometheus, {rules.name: rules.read_text()} if rules.exists() else {})
    key = digest(str(knative), str(definitions), str(controller), str(monitoring), _ONE_COREDNS)
    if _noted(kube) == key and kube.available(NAMESPACES):
        say("Knative, Kourier, KServe and Prometheus are installed and available")
        return
    own = manifests.kserve(controller, *self_signed(_WEBHOOK))
    with step("Installing Knative, Kourier, KServe and Prometheus"):
        namespace: Document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}}
        staged = manifests.stages([namespace], definitions, knative, own, monitoring)
        kube.apply(staged.definitions)
        kube.wait_established()
        kube.apply(staged.builtin)
        kube.run("-n", "kube-system", "patch", "deployment", "coredns", "--patch", _ONE_COREDNS)
        kube.wait_available(NAMESPACES)
        # Their webhooks check what is of their own kinds, so these come when the webhooks answer.
        kube.apply(staged.custom)
        kube.wait_available(NAMESPACES)
    kube.apply([_note(key)])


def _render(helm: Path, origin: Origin, chart: str) -> list[Document]:
    options = [option for value in _VALUES for option in ("--set", value)] if chart == "kserve-resources" else []
    return manifests.read(
        run([helm, "template", chart, *origin.kserve_chart(chart), "--namespace", "kserve", *options])
    )


def _note(key: str) -> Document:
    namespace, name = _NOTE
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"installed": key},
    }


def _noted(kube: Kube) -> str:
    namespace, name = _NOTE
    try:
        return kube.run("-n", namespace, "get", "configmap", name, "-o", "jsonpath={.data.installed}").strip()
    except Permanent:
        return ""
