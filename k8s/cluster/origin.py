"""Where images and manifests come from: the seam between IMAGES=registry and IMAGES=source. All else is common."""

from __future__ import annotations

from typing import Protocol

from k8s.cluster.manifests import Document
from k8s.cluster.published import Published
from k8s.cluster.settings import Images, Settings
from k8s.cluster.source import Source

__all__ = ["Origin", "origin_of"]


class Origin(Protocol):
    """One way to come by everything.

    Attributes:
        busybox: the image on which model images are built.
        prometheus: Prometheus' image.
        node_patches: kubeadm patches that the node image needs.
    """

    busybox: str
    prometheus: str
    node_patches: list[str]

    @property
    def base(self) -> str:
        """Debian's image, on which relevo's own are built."""
        ...

    def download(self) -> None:
        """Fetch beforehand what `node_image` takes long to fetch. What fails here is said there."""
        ...

    def node_image(self) -> str:
        """kind's node image; what must be built, is."""
        ...

    def knative(self) -> list[Document]:
        """Knative Serving's and Kourier's manifests."""
        ...

    def kserve_chart(self, chart: str) -> list[str]:
        """Helm's arguments that name one of KServe's charts."""
        ...


def origin_of(settings: Settings) -> Origin:
    """The origin that the settings name."""
    return Source(settings.cache) if settings.images is Images.SOURCE else Published(settings.cache)
