"""The kind node image built from source: Debian, kind's base files, Kubernetes, and every image of the cluster already in its containerd.

With the images inside, a new cluster loads nothing but relevo's own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from k8s.cluster import docker
from k8s.cluster.cache import digest
from k8s.cluster.commands import pipe, run, succeeds
from k8s.cluster.progress import step
from k8s.cluster.versions import KUBERNETES

__all__ = ["build_node_image"]

_RECIPE = Path(__file__).parent / "node"
_IMPORT = """
set -e
containerd >/tmp/containerd.log 2>&1 & daemon=$!
tries=0
until ctr version >/dev/null 2>&1; do
  tries=$((tries + 1)); [ $tries -lt 150 ] || { cat /tmp/containerd.log >&2; exit 1; }
  sleep 0.2
done
ctr --namespace k8s.io images import --no-unpack - >/dev/null
kill $daemon; wait $daemon || true
rm -rf /tmp/*
"""


def build_node_image(base: str, kind_files: Path, node_program: Path, kubectl: Path, images: Sequence[str]) -> str:
    """Build the node image, unless Docker holds one made from the same.

    Args:
        base: Debian's image.
        kind_files: `images/base/files` of kind's module.
        node_program: the binary that is every Kubernetes program of a node.
        kubectl: kubectl, which kind calls in the node.
        images: the images to hold.

    Returns:
        The image's name.
    """
    ids = [f"{image}={docker.image_id(image)}" for image in images]
    programs = [
        str(path) for path in (kind_files, node_program, kubectl)
    ]  # their folders are named by version and digest
    key = digest(_RECIPE, _IMPORT, docker.image_id(base) or "", *programs, *ids)
    tag = f"dev.local/node:{KUBERNETES}-{key}"
    if docker.image_id(tag):
        return tag
    with step("Building the node image"):
        bare = f"dev.local/node-bare:{KUBERNETES}"
        with tempfile.TemporaryDirectory() as folder:
            context = Path(folder)
            shutil.copytree(_RECIPE, context, dirs_exist_ok=True)
            _copy_writable(kind_files, context / "files")
            (context / "programs").mkdir()
            shutil.copy(node_program, context / "programs/node")
            shutil.copy(kubectl, context / "programs/kubectl")
            docker.build(bare, context / "Dockerfile", context, arguments={"BASE": base, "KUBERNETES": KUBERNETES})
        _bake(bare, tag, images)
    for old in docker.tags("dev.local/node"):
        if old != tag:
            docker.remove(old)
    return tag


def _copy_writable(source: Path, target: Path) -> None:
    """Go's module cache is read-only; the copy's owner may change it."""
    shutil.copytree(source, target)
    target.chmod(0o755)
    for path in target.rglob("*"):
        executable = path.is_dir() or path.parent.name == "bin"
        path.chmod(0o755 if executable else 0o644)
    shutil.rmtree(target / "LICENSES", ignore_errors=True)


def _bake(bare: str, tag: str, images: Sequence[str]) -> None:
    """Import images into the containerd of a container of `bare`, and keep that as `tag`."""
    container = "relevo-node-build"
    succeeds(["docker", "rm", "--force", container])
    options = ["--detach", "--privileged", "--name", container, "--entrypoint", "sleep"]
    run(["docker", "run", *options, bare, "infinity"])
    try:
        pipe(["docker", "save", *images], ["docker", "exec", "--interactive", container, "sh", "-c", _IMPORT])
        entry = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
        run(["docker", "commit", "--change", entry, "--change", "CMD []", container, tag])
    finally:
        succeeds(["docker", "rm", "--force", container])
