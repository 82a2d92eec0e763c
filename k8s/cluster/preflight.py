"""Looks, before anything is begun, at what the machine must have: Docker, memory, disk; for IMAGES=source Go and debootstrap too."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from k8s.cluster import debian, docker
from k8s.cluster.commands import find
from k8s.cluster.gomodules import go
from k8s.cluster.settings import Images, Settings
from relevo.errors import BadInput

__all__ = ["check", "check_docker"]

_GIB = 1024**3
_MEMORY_GIB = 4
_DISK_GIB = {Images.REGISTRY: 8, Images.SOURCE: 14}
"""What a first `make cluster` leaves on the disk, and some room."""


def check_docker() -> None:
    """Docker is there and answers.

    Raises:
        BadInput: it is not, or does not.
    """
    find("docker", "Install Docker (on Debian: `apt-get install docker.io`).")
    if docker.answers():
        return
    by_hand = "or, on a machine without systemd, `make docker`"
    raise BadInput(
        "Docker is not running, or not for this user.", next_step=f"Start it with `systemctl start docker`, {by_hand}."
    )


def check(settings: Settings) -> None:
    """Everything that a new cluster needs, each missing thing in one sentence with the next step.

    Raises:
        BadInput: something is missing.
    """
    check_docker()
    free_gib = psutil.virtual_memory().available / _GIB
    if free_gib < _MEMORY_GIB:
        raise BadInput(
            f"The cluster needs {_MEMORY_GIB} GiB of memory, and {free_gib:.1f} GiB are free.",
            next_step="End other programs, or use a larger machine.",
        )
    settings.cache.mkdir(parents=True, exist_ok=True)
    for folder in {settings.cache, _existing(docker.root_folder())}:
        free_gib = shutil.disk_usage(folder).free / _GIB
        if free_gib < _DISK_GIB[settings.images]:
            raise BadInput(
                f"The cluster needs {_DISK_GIB[settings.images]} GiB of disk, and {folder} has {free_gib:.1f} GiB free.",
                next_step="Make room (`docker system df`), or move the cache with RELEVO_CACHE=FOLDER.",
            )
    if settings.images is Images.SOURCE:
        go()
        if not docker.image_id(debian.BASE):
            debian.needs()


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that this machine has: Docker may run elsewhere."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
