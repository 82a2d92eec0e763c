"""kind's and Prometheus' configurations."""

from __future__ import annotations

import yaml

from k8s.cluster import kindcluster, own, prometheus
from k8s.cluster.settings import read_settings


def test_the_gateway_listens_on_loopback_only() -> None:
    """At the port that the settings say."""
    settings = read_settings({"GATEWAY_PORT": "9999", "RELEVO_CACHE": "/c"})
    (node,) = kindcluster.configuration(settings, "image", ["patch"])["nodes"]
    assert node["extraPortMappings"] == [{"containerPort": 31080, "hostPort": 9999, "listenAddress": "127.0.0.1"}]
    assert node["image"] == "image"
    assert node["kubeadmConfigPatches"][-1] == "patch"


def test_the_node_starts_on_a_restricted_machine() -> None:
    """With cgroup v1, and where connection tracking may not be set."""
    settings = read_settings({"RELEVO_CACHE": "/c"})
    configuration = kindcluster.configuration(settings, "image", [])
    patches = {p["kind"]: p for p in map(yaml.safe_load, configuration["nodes"][0]["kubeadmConfigPatches"])}
    assert configuration["featureGates"] == {"KubeletInUserNamespace": True}
    assert patches["KubeletConfiguration"]["failCgroupV1"] is False
    assert patches["KubeProxyConfiguration"]["conntrack"]["maxPerCore"] == 0


def test_prometheus_scrapes_the_three_kinds_of_pods() -> None:
    """Gateways, queue-proxies and the operator."""
    jobs = {job["job_name"]: job for job in prometheus.configuration()["scrape_configs"]}
    assert jobs["kourier"]["metrics_path"] == "/stats/prometheus"
    assert jobs["kourier"]["scrape_interval"] == "2s"
    assert jobs["relevo"]["honor_labels"] is True
    assert set(jobs) == {"kourier", "queue-proxy", "relevo"}
    assert all(rule["target_label"] for job in jobs.values() for rule in job["relabel_configs"] if "action" not in rule)


def test_the_operators_namespace_admits_the_restricted_level_only() -> None:
    """So that a pod of ours that asks for more is seen here and not on a user's cluster."""
    assert own.namespace()["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_prometheus_may_only_read_pods() -> None:
    """Discovery needs no more; in particular no Secret."""
    (role,) = [d for d in prometheus.documents("i", {}) if d["kind"] == "ClusterRole"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]


def test_prometheus_is_admitted_under_restricted_pod_security() -> None:
    """Nobody's user, no privileges, a read-only root."""
    (deployment,) = [d for d in prometheus.documents("i", {}) if d["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_changed_rules_replace_the_pod() -> None:
    """A mounted file is read at the start only."""

    def annotation(rules: dict[str, str]) -> object:
        (deployment,) = [d for d in prometheus.documents("i", rules) if d["kind"] == "Deployment"]
        return deployment["spec"]["template"]["metadata"]["annotations"]

    assert annotation({"a": "1"}) != annotation({"a": "2"})
    assert annotation({"a": "1"}) == annotation({"a": "1"})
