"""`make cluster` and its relatives, from the first check to the operator: the order of things, and what goes beside what."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from k8s.cluster import docker, kindcluster, own, preflight, tools
from k8s.cluster.cache import locked
from k8s.cluster.commands import run
from k8s.cluster.install import install
from k8s.cluster.kube import Kube
from k8s.cluster.origin import Origin, origin_of
from k8s.cluster.progress import say
from k8s.cluster.settings import Images, Settings

__all__ = ["build", "down", "up"]


def up(settings: Settings) -> None:
    """Have the cluster running with everything on it; what is there already is used.

    Raises:
        RelevoError: something is missing or fails, with the next step where there is one.
    """
    preflight.check_docker()
    with locked(settings.cache, f"cluster-{settings.name}"):
        if not docker.nodes(settings.name):
            preflight.check(settings)
        _tools(settings)
        kind, kubectl, helm = tools.kind(), tools.kubectl(), tools.helm()
        kube = Kube(kubectl, settings.context)
        origin = origin_of(settings)
        if kindcluster.take_over(kind, settings, kube):
            say(f"Using the cluster {settings.name}, which runs already")
        else:
            kindcluster.create(kind, settings, origin.node_image(), origin.node_patches)
        # The one builds and copies, the other mostly waits for pods.
        with ThreadPoolExecutor(1) as pool:
            loaded = pool.submit(_load_own, settings, origin)
            install(kube, origin, helm, settings.repository)
            changed = loaded.result()
        installed = own.install_operator(settings, helm)
        if installed and any("operator" in image for image in changed):
            own.restart_operator(settings, kubectl)
    say(f"Ready. Context {settings.context}; the gateway is at http://127.0.0.1:{settings.gateway_port}")


def down(settings: Settings) -> None:
    """Delete the cluster. Images and the cache stay."""
    preflight.check_docker()
    with locked(settings.cache, f"cluster-{settings.name}"):
        if docker.nodes(settings.name):
            _tools(settings)
        deleted = kindcluster.delete(tools.kind(), settings.name) if docker.nodes(settings.name) else False
    say(f"Deleted the cluster {settings.name}" if deleted else f"There is no cluster {settings.name}")


def build(settings: Settings) -> None:
    """Build relevo's images, and bring them into the cluster where it runs."""
    preflight.check_docker()
    images = own.build_images(settings.repository, origin_of(settings).base)
    for node in docker.nodes(settings.name):
        docker.load(images, node)
        say(f"{', '.join(images)} are in {node}")


def _tools(settings: Settings) -> None:
    """Building from source means these as well; with registries, those of the machine do."""
    if settings.images is Images.SOURCE:
        with ThreadPoolExecutor(1) as pool:
            list(pool.map(lambda name: tools.install(settings.cache, name), ("kind", "helm", "kubectl")))


def _load_own(settings: Settings, origin: Origin) -> list[str]:
    images = own.build_images(settings.repository, origin.base)
    if origin.busybox not in images and not docker.image_id(origin.busybox):
        run(["docker", "pull", "--quiet", origin.busybox])
    return docker.load(images, settings.node)
