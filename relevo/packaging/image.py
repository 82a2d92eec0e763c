"""A model package as a container image, KServe's "modelcar": the package in /models and a shell, so that a cluster needs no storage server.

Docker builds it. `load` brings it into the nodes of a kind cluster, as a cluster on this machine can pull from nowhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from relevo import errors
from relevo.packaging.package import Package

__all__ = ["BASES", "build_image", "default_tag", "kind_nodes", "load_image"]

BASES = ("dev.local/busybox:bookworm", "docker.io/library/busybox:1.37")
"""What a package is laid on: anything with sh, cp, ln and sleep. The first is made by `make cluster IMAGES=source`."""

_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def default_tag(name: str, version: str) -> str:
    """`dev.local/NAME:VERSION`, the image that the samples name. Knative asks no registry about dev.local."""
    return f"dev.local/{name}:{version}"


def build_image(package: Package, tag: str, base: str | None = None) -> str:
    """Build the image of a package; the same package makes the same image.

    Args:
        package: a verified package.
        tag: HOST/REPOSITORY:TAG.
        base: what to lay it on; without it the first of `BASES` that Docker has, or the last, which Docker pulls.

    Returns:
        The image's ID.

    Raises:
        errors.BadInput: the tag cannot be one, or Docker is not installed.
        errors.Transient: Docker does not answer or failed, in its own words.
    """
    if not _REFERENCE.fullmatch(tag):
        raise errors.BadInput(f"tag {tag!r}: must be REPOSITORY:TAG, as in dev.local/iris:1")
    meta = package.metadata
    base = base or next((image for image in BASES if _has(image)), BASES[-1])
    labels = {"org.opencontainers.image.title": meta.name, "org.opencontainers.image.version": meta.version}
    dockerfile = f"FROM {base}\nCOPY models /models\n" + "".join(f'LABEL {k}="{v}"\n' for k, v in labels.items())
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text(dockerfile)
        _copy_readable(package.folder, context / "models")
        return _docker("build", "--quiet", "--tag", tag, str(context)).strip()


def kind_nodes(cluster: str) -> list[str]:
    """The containers that are the nodes of a kind cluster of this machine; none where there is no such cluster."""
    label = f"label=io.x-k8s.kind.cluster={cluster}"
    return _docker("ps", "--filter", label, "--format", "{{.Names}}").split()


def load_image(tag: str, cluster: str) -> list[str]:
    """Bring an image from Docker into every node of a kind cluster.

    Returns:
        The nodes' names.

    Raises:
        errors.BadInput: there is no kind cluster of that name on this machine.
        errors.Transient: Docker does not answer or failed.
    """
    nodes = kind_nodes(cluster)
    if not nodes:
        raise errors.BadInput(
            f"kind cluster {cluster!r}: none of that name runs on this machine",
            next_step="Start it with `make cluster`, or push the image where your cluster pulls from (`docker push`).",
        )
    for node in nodes:
        importer = ["docker", "exec", "--interactive", node, "ctr", "--namespace", "k8s.io", "images", "import"]
        with subprocess.Popen(["docker", "save", tag], stdout=subprocess.PIPE) as saving:
            _run([*importer, "--all-platforms", "--digests", "-"], stdin=saving)
        if saving.returncode:
            raise errors.Transient(f"image {tag}: `docker save` failed with exit code {saving.returncode}")
    return nodes


def _copy_readable(source: Path, target: Path) -> None:
    """A copy that any user of a container may read, whatever the modes here."""
    shutil.copytree(source, target)
    target.chmod(0o755)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _has(image: str) -> bool:
    try:
        _docker("image", "inspect", "--format", "{{.Id}}", image)
    except errors.Transient:
        return False
    return True


def _docker(*arguments: str) -> str:
    return _run(["docker", *arguments])


def _run(command: Sequence[str], stdin: subprocess.Popen[bytes] | None = None) -> str:
    try:
        done = subprocess.run(command, stdin=stdin.stdout if stdin else None, capture_output=True, check=False)
    except FileNotFoundError:
        raise errors.BadInput(
            "Docker is not installed, and it builds the images", next_step="Install Docker."
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise errors.Transient(
            f"`{' '.join(command[:3])}` failed: {said[-1]}", next_step="See that Docker runs (`docker info`)."
        )
    return done.stdout.decode()
