"""Docker, by its command line: is it there, build an image, know whether an image is there, bring images into a kind node."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from k8s.cluster.commands import pipe, run, succeeds
from relevo.errors import Permanent

__all__ = ["KEY", "answers", "build", "ensure", "image_id", "key_of", "load", "nodes", "remove", "root_folder", "tags"]

KEY = "relevo.dev/key"
"""The label that says what an image was made from."""
_LOADED = "/kind/loaded"
"""The folder in a node that says which image was last loaded under a name."""


def answers() -> bool:
    """Whether the Docker daemon answers."""
    return succeeds(["docker", "version", "--format", "{{.Server.Version}}"])


def root_folder() -> Path:
    """Where the daemon keeps its images, to know what room is there."""
    return Path(run(["docker", "info", "--format", "{{.DockerRootDir}}"]).strip())


def image_id(image: str) -> str | None:
    """An image's ID, or None where Docker has no such image."""
    try:
        return run(["docker", "image", "inspect", "--format", "{{.Id}}", image]).strip()
    except Permanent:
        return None


def key_of(image: str) -> str | None:
    """What an image was made from, or None where Docker has no such image."""
    try:
        return run(["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{KEY}"}}}}', image]).strip()
    except Permanent:
        return None


def ensure(tag: str, key: str, dockerfile: str | Path, context: Path | None, **options: Any) -> bool:
    """`build`, unless Docker holds the image made from the same. Whether it was built."""
    if key_of(tag) == key:
        return False
    build(tag, dockerfile, context, label=f"{KEY}={key}", **options)
    return True


def build(
    tag: str,
    dockerfile: str | Path,
    context: Path | None,
    *,
    target: str | None = None,
    arguments: Mapping[str, str] | None = None,
    label: str | None = None,
) -> None:
    """Build an image. Builds see the host's network, as some of them run where containers have none.

    Args:
        tag: the image's name.
        dockerfile: the text of a Dockerfile, or the path of one.
        context: the folder that it may copy from; None for none.
        target: the stage to stop at.
        arguments: build arguments.
        label: NAME=VALUE.
    """
    options: list[str | Path] = ["--quiet", "--network", "host", "--tag", tag]
    options += ["--target", target] if target else []
    options += ["--label", label] if label else []
    for name, value in (arguments or {}).items():
        options += ["--build-arg", f"{name}={value}"]
    # The builder that every Docker has. BuildKit runs containers itself, past the runtime that a restricted machine needs.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    with tempfile.TemporaryDirectory() as empty:
        if isinstance(dockerfile, str):
            file = Path(empty) / "Dockerfile"
            file.write_text(dockerfile)
        else:
            file = dockerfile
        run(["docker", "build", *options, "--file", file, context or empty], env=environment)


def tags(repository: str) -> list[str]:
    """The images that Docker holds of a repository, as NAME:TAG."""
    return run(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]).split()


def remove(image: str) -> None:
    """Take a name from an image, and the image with its last name, unless a container still needs it."""
    succeeds(["docker", "image", "rm", image])


def nodes(cluster: str) -> list[str]:
    """The containers that are a kind cluster's nodes, running or not."""
    label = f"label=io.x-k8s.kind.cluster={cluster}"
    return run(["docker", "ps", "--all", "--filter", label, "--format", "{{.Names}}"]).split()


def load(images: Sequence[str], node: str) -> list[str]:
    """Bring those images from Docker into a node's containerd that it does not hold yet; layers that they share go once.

    Returns:
        The names of the images that were loaded.
    """
    wanted = {image: image_id(image) for image in images}
    held = run(
        ["docker", "exec", node, "sh", "-c", f"mkdir -p {_LOADED} && cd {_LOADED} && grep -s . * /dev/null || true"]
    )
    there = dict(line.split(":", 1) for line in held.splitlines())
    missing = [image for image, id_ in wanted.items() if there.get(_file(image)) != id_]
    if missing:
        importer = ["docker", "exec", "--interactive", node, "ctr", "--namespace", "k8s.io", "images", "import"]
        pipe(
            ["docker", "save", *missing], [*importer, "--all-platforms", "--digests", "--snapshotter", "overlayfs", "-"]
        )
        notes = "; ".join(f"echo {wanted[image]} >{_LOADED}/{_file(image)}" for image in missing)
        run(["docker", "exec", node, "sh", "-c", notes])
    return missing


def _file(image: str) -> str:
    return image.replace("/", "_").replace(":", "_")
