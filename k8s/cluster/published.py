"""IMAGES=registry: the published images, manifests and charts, in pinned versions. What the node needs it pulls itself."""

from __future__ import annotations

from pathlib import Path

import httpx

from k8s.cluster.cache import digest, keep
from k8s.cluster.manifests import Document, read
from k8s.cluster.progress import step
from k8s.cluster.versions import (
    KNATIVE_RELEASE,
    KSERVE,
    PUBLISHED_BUSYBOX,
    PUBLISHED_DEBIAN,
    PUBLISHED_NODE,
    PUBLISHED_PROMETHEUS,
)
from relevo.errors import BadInput, Transient

__all__ = ["REGISTRIES", "Published", "check_registries"]

REGISTRIES = ("https://registry-1.docker.io/v2/", "https://gcr.io/v2/", "https://ghcr.io/v2/", "https://quay.io/v2/")
"""Where the images and charts are."""
_RELEASES = "https://github.com/knative"
_MANIFESTS = (
    f"{_RELEASES}/serving/releases/download/{KNATIVE_RELEASE}/serving-crds.yaml",
    f"{_RELEASES}/serving/releases/download/{KNATIVE_RELEASE}/serving-core.yaml",
    f"{_RELEASES}-extensions/net-kourier/releases/download/{KNATIVE_RELEASE}/kourier.yaml",
)


def check_registries(registries: tuple[str, ...] = REGISTRIES, timeout_seconds: float = 6.0) -> None:
    """Ask every registry whether it is one: 200, or 401 for a login.

    Raises:
        BadInput: one does not answer so; the next step is to build from source.
    """
    for url in registries:
        host = httpx.URL(url).host
        try:
            answer = httpx.get(url, timeout=timeout_seconds)
        except httpx.HTTPError as error:
            raise _no_registry(host, str(error) or type(error).__name__) from None
        if answer.status_code not in (200, 401):
            raise _no_registry(host, f"HTTP status {answer.status_code}")


def _no_registry(host: str, reason: str) -> BadInput:
    return BadInput(
        f"The container registry {host} does not answer ({reason}).",
        next_step="Build everything from source with `make cluster IMAGES=source`.",
    )


class Published:
    """Names what is published."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.base = PUBLISHED_DEBIAN
        self.prometheus = PUBLISHED_PROMETHEUS
        self.busybox = PUBLISHED_BUSYBOX
        self.node_patches: list[str] = []

    def download(self) -> None:
        """Nothing: kind and the node pull by themselves."""

    def node_image(self) -> str:
        """kind's own node image."""
        check_registries()
        return PUBLISHED_NODE

    def knative(self) -> list[Document]:
        """Knative Serving's and Kourier's release manifests, which name their images by digest."""

        def build(folder: Path) -> None:
            with step(f"Downloading {KNATIVE_RELEASE}'s manifests"):
                for number, url in enumerate(_MANIFESTS):
                    (folder / f"{number}.yaml").write_text(_download(url))

        folder = keep(self.cache, "knative-manifests", digest(*_MANIFESTS), build)
        return [document for file in sorted(folder.glob("*.yaml")) for document in read(file.read_text())]

    def kserve_chart(self, chart: str) -> list[str]:
        """Where Helm finds one of KServe's charts."""
        return [f"oci://ghcr.io/kserve/charts/{chart}", "--version", KSERVE]


def _download(url: str) -> str:
    try:
        answer = httpx.get(url, timeout=60, follow_redirects=True)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise Transient(f"{url}: cannot be downloaded ({error}).") from None
    return answer.text
