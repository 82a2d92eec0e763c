"""`make cluster` and its relatives, from the first check to the operator: the order of things, and what goes beside what."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from k8s.cluster import docker, kindcluster, own, preflight, tools
from k8s.cluster.cache import locked
from k8s.cluster.commands import run
from k8s.cluster.install import install
from k8s.cluster.kube import Kube
from k8s.cluster.origin import Origin, origin_of
from k8s.cluster.progress import say
from k8s.cluster.settings import Images, Settings

__all__ = ["build", "down", "prepare", "up"]


def up(settings: Settings) -> None:
    """Have the cluster running with everything on it; what is there already is used.

    Raises:
        RelevoError: something is missing or fails, with the next step where there is one.
    """
    preflight.check_docker()
    with locked(settings.cache, f"cluster-{settings.name}"):
        settings = _as_it_is(settings)
        if not docker.nodes(settings.name):
            preflight.check(settings)
            kindcluster.check_port(settings.gateway_port)
        origin = origin_of(settings)
        with _beside(settings, origin) as (pool, own_images):
            _tools(settings)
            kind, kubectl, helm = tools.kind(), tools.kubectl(), tools.helm()
            kube = Kube(kubectl, settings.context)
            if kindcluster.take_over(kind, settings, kube):
                say(f"Using the cluster {settings.name}, which runs already")
            else:
                kindcluster.create(kind, settings, origin.node_image(), origin.node_patches)
            loaded = pool.submit(lambda: docker.load(own_images.result(), settings.node))
            install(kube, origin, helm, settings.repository)
            loaded.result()
        own.install_operator(settings, kube, helm)
        kindcluster.mark_complete(settings)
    say(f"Ready. Context {settings.context}; the gateway is at http://127.0.0.1:{settings.gateway_port}")


def prepare(settings: Settings) -> None:
    """Build all that a new cluster takes, and begin none: `up` is then a matter of a minute or two."""
    preflight.check(settings)
    origin = origin_of(settings)
    with _beside(settings, origin) as (_, own_images):
        _tools(settings)
        origin.node_image()
        own_images.result()
    say("All is there that a new cluster takes")


def down(settings: Settings) -> None:
    """Delete the cluster. Images and the cache stay."""
    preflight.check_docker()
    with locked(settings.cache, f"cluster-{settings.name}"):
        deleted = kindcluster.delete(tools.kind(), settings.name) if docker.nodes(settings.name) else False
    say(f"Deleted the cluster {settings.name}" if deleted else f"There is no cluster {settings.name}")


def build(settings: Settings) -> None:
    """Build relevo's images, and bring them into the cluster where it runs."""
    preflight.check_docker()
    settings = _as_it_is(settings)
    images = own.build_images(settings.repository, origin_of(settings).base)
    for node in docker.nodes(settings.name):
        docker.load(images, node)
        say(f"{', '.join(images)} are in {node}")


def _as_it_is(settings: Settings) -> Settings:
    """A cluster that exists keeps to where its images came from, whatever IMAGES says."""
    used = kindcluster.origin_in_use(settings)
    if used is None or used is settings.images:
        return settings
    say(f"The cluster {settings.name} was made with IMAGES={used}, and stays so")
    return replace(settings, images=used)


@contextmanager
def _beside(settings: Settings, origin: Origin) -> Iterator[tuple[ThreadPoolExecutor, Future[list[str]]]]:
    """Let what waits for the network go beside what keeps the processors busy: Go's modules, and relevo's own images."""
    with ThreadPoolExecutor(2) as pool:
        pool.submit(origin.download)
        yield pool, pool.submit(lambda: _build_own(settings, origin))


def _tools(settings: Settings) -> None:
    """Building from source means these as well; with registries, those of the machine do."""
    if settings.images is Images.SOURCE:
        for name in ("kind", "helm", "kubectl"):
            tools.install(settings.cache, name)


def _build_own(settings: Settings, origin: Origin) -> list[str]:
    """relevo's images; and what model images are laid on, which `relevo package image` looks for."""
    if not docker.image_id(origin.busybox) and settings.images is Images.REGISTRY:
        run(["docker", "pull", "--quiet", origin.busybox])
    return own.build_images(settings.repository, origin.base)
