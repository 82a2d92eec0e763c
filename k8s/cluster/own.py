"""relevo's own part: its two images, and its operator by the chart charts/relevo."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

from k8s.cluster import docker
from k8s.cluster.commands import run
from k8s.cluster.kube import Kube
from k8s.cluster.manifests import Document
from k8s.cluster.progress import step
from k8s.cluster.settings import Settings

__all__ = ["build_images", "image_names", "install_operator", "namespace"]

_TARGETS = ("server", "operator")
_NAMESPACE = "relevo-system"


def image_names() -> dict[str, str]:
    """The two images' names, by the Dockerfile's targets."""
    return {target: f"dev.local/relevo-{target}:{version('relevo')}" for target in _TARGETS}


def build_images(repository: Path, base: str) -> list[str]:
    """Build both images; Docker's own cache knows what has changed. Their names.

    Args:
        repository: the checkout, with its Dockerfile.
        base: Debian's image.
    """
    arguments = {"BASE": base}
    if index := os.environ.get("PIP_INDEX_URL"):
        arguments["PIP_INDEX_URL"] = index
    names = image_names()
    with step("Building relevo's images: model server and operator"):
        for target, name in names.items():
            docker.build(name, repository / "Dockerfile", repository, target=target, arguments=arguments)
    return list(names.values())


def namespace() -> Document:
    """The operator's namespace, which admits only pods of the restricted level: operator and load must fit it."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE, "labels": labels}}


def install_operator(settings: Settings, kube: Kube, helm: Path) -> bool:
    """Install or upgrade relevo's operator by its chart and wait for it. Whether the checkout has the chart."""
    chart = settings.repository / "charts/relevo"
    if not (chart / "Chart.yaml").exists():
        return False
    with step("Installing relevo's operator"):
        kube.apply([namespace()])
        common = ["--kube-context", settings.context, "--namespace", _NAMESPACE]
        values = settings.repository / "k8s/cluster/relevo-values.yaml"
        # A changed image under the same name must change the pods too.
        changed = rf"operator.podAnnotations.relevo\.dev/image={docker.image_id(image_names()['operator'])}"
        options = [
            "--set-string",
            changed,
            "--wait",
            "--timeout",
            "180s",
            "--values",
            str(values),
        ]
        run([helm, "upgrade", "--install", "relevo", chart, *common, *options])
    return True
