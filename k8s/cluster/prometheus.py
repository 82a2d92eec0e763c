"""Prometheus in the cluster: one plain Deployment that scrapes the gateways, the queue-proxies and relevo's operator. Pure.

The rules are k8s/monitoring's; they are mounted as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from k8s.cluster.cache import digest
from k8s.cluster.manifests import Document

__all__ = ["NAMESPACE", "documents"]

NAMESPACE = "monitoring"
_NAME = "prometheus"
_LABELS = {"app.kubernetes.io/name": _NAME}
_SCRAPE_SECONDS = 5
_GATEWAY_SCRAPE_SECONDS = 2
"""A rollout's step must see more than two scrapes where it counts by Prometheus."""
_GATEWAY_SERIES = "envoy_cluster_upstream_rq(_time_.+)?|envoy_server_uptime"
"""What rules, dashboard and evidence read; a gateway has ten times as many."""


def _job(name: str, path: str, keep: Mapping[str, str], replace: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A job that scrapes those pods' ports whose labels match: pairs of a discovery label and a regular expression."""
    relabel: list[dict[str, Any]] = [
        {"source_labels": [f"__meta_kubernetes_pod_{label}"], "regex": pattern, "action": "keep"}
        for label, pattern in keep.items()
    ]
    names = {"namespace": "namespace", "pod": "name", "node": "node_name", **(replace or {})}
    relabel += [
        {
            "source_labels": [
                "__meta_kubernetes_namespace" if source == "namespace" else f"__meta_kubernetes_pod_{source}"
            ],
            "target_label": target,
        }
        for target, source in names.items()
    ]
    return {
        "job_name": name,
        "metrics_path": path,
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": relabel,
    }


def configuration() -> dict[str, Any]:
    """Prometheus' own configuration."""
    gateway = {"label_app": "3scale-kourier-gateway", "container_port_number": "9000"}
    queue = {"container_name": "queue-proxy", "container_port_name": "http-usermetric"}
    revision = {
        "revision": "label_serving_knative_dev_revision",
        "inferenceservice": "label_serving_kserve_io_inferenceservice",
    }
    operator = {"label_app_kubernetes_io_name": "relevo", "container_port_name": "metrics"}
    jobs = {
        "kourier": _job("kourier", "/stats/prometheus", gateway),
        "queue-proxy": _job("queue-proxy", "/metrics", queue, revision),
        "relevo": _job("relevo", "/metrics", operator),
    }
    jobs["kourier"]["scrape_interval"] = f"{_GATEWAY_SCRAPE_SECONDS}s"
    jobs["kourier"]["metric_relabel_configs"] = [
        {"source_labels": ["__name__"], "regex": _GATEWAY_SERIES, "action": "keep"}
    ]
    # The operator's own label `namespace` is the Rollout's.
    jobs["relevo"]["honor_labels"] = True
    return {
        "global": {"scrape_interval": f"{_SCRAPE_SECONDS}s", "evaluation_interval": f"{_SCRAPE_SECONDS}s"},
        "rule_files": ["/etc/prometheus/rules/*.yaml"],
        "scrape_configs": list(jobs.values()),
    }


def documents(image: str, rules: Mapping[str, str]) -> list[Document]:
    """All of Prometheus' documents.

    Args:
        image: Prometheus' image.
        rules: files of rules, by name.
    """
    config = yaml.safe_dump(configuration(), sort_keys=False)
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _NAME, "namespace": NAMESPACE}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "relevo-prometheus"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "relevo-prometheus"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "relevo-prometheus"},
            "subjects": [{"kind": "ServiceAccount", "name": _NAME, "namespace": NAMESPACE}],
        },
        _config_map("prometheus", {"prometheus.yml": config}),
        _config_map("prometheus-rules", dict(rules)),
        _deployment(image, digest(config, yaml.safe_dump(dict(rules)))),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _NAME, "namespace": NAMESPACE},
            "spec": {"selector": _LABELS, "ports": [{"name": "http", "port": 9090, "targetPort": "http"}]},
        },
    ]


def _config_map(name: str, data: dict[str, str]) -> Document:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


def _deployment(image: str, revision: str) -> Document:
    """The Deployment. A changed configuration changes an annotation of its pods, so that they are replaced."""
    container = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/data",
            "--storage.tsdb.retention.time=6h",
        ],
        "ports": [{"name": "http", "containerPort": 9090}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "http"}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}, "limits": {"memory": "600Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/prometheus/prometheus.yml", "subPath": "prometheus.yml"},
            {"name": "rules", "mountPath": "/etc/prometheus/rules"},
            {"name": "data", "mountPath": "/data"},
        ],
    }
    pod = {
        "serviceAccountName": _NAME,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "fsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": "prometheus"}},
            {"name": "rules", "configMap": {"name": "prometheus-rules"}},
            {"name": "data", "emptyDir": {}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": _NAME, "namespace": NAMESPACE, "labels": _LABELS},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _LABELS},
            "template": {
                "metadata": {"labels": _LABELS, "annotations": {"relevo.dev/configuration": revision}},
                "spec": pod,
            },
        },
    }
