"""Debian's base image by debootstrap, and programs out of single Debian packages: where no registry can be asked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from k8s.cluster import docker
from k8s.cluster.cache import digest, keep, locked
from k8s.cluster.commands import find, run, succeeds
from k8s.cluster.progress import step
from relevo.errors import BadInput

__all__ = ["BASE", "base_image", "needs", "program"]

BASE = "dev.local/debian:bookworm-slim"
_SUITE = "bookworm"
_PACKAGES = "ca-certificates,iptables,conntrack,kmod,nftables,netbase"
_LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man", "var/log")
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def needs() -> None:
    """Check what `base_image` needs.

    Raises:
        BadInput: it is not there.
    """
    find("debootstrap", "Install it (`apt-get install debootstrap`).")
    if os.geteuid() != 0:
        raise BadInput(
            "IMAGES=source runs debootstrap, which only root can.", next_step="Run `sudo make cluster IMAGES=source`."
        )


def base_image(cache: Path) -> str:
    """Make the base image of every other one, with this machine's certificate authorities, so that pip works inside a build.

    `DEBIAN_MIRROR` names another mirror than deb.debian.org.
    """
    mirror = os.environ.get("DEBIAN_MIRROR") or "http://deb.debian.org/debian"
    authorities = _AUTHORITIES.read_bytes() if _AUTHORITIES.exists() else b""
    key = digest(_SUITE, _PACKAGES, str(_LEFT_OUT), mirror, authorities)

    def build(folder: Path) -> None:
        needs()
        root = folder / "root"
        with step("Installing a Debian base with debootstrap"):
            # In a mount namespace of its own: what it mounts goes with it, however it ends.
            debootstrap = [
                "unshare",
                "--mount",
                str(find("debootstrap", "")),
                "--variant=minbase",
                f"--include={_PACKAGES}",
            ]
            run([*debootstrap, _SUITE, root, mirror])
        for path in _LEFT_OUT:
            shutil.rmtree(root / path, ignore_errors=True)
            (root / path).mkdir(parents=True)
        if authorities:
            (root / _AUTHORITIES.relative_to("/")).write_bytes(authorities)
        run(["tar", "-C", root, "-cf", folder / "root.tar", "."])
        shutil.rmtree(root)

    with locked(cache, "debian-image"):
        if docker.key_of(BASE) != key:
            rootfs = keep(cache, "debian", key, build) / "root.tar"
            run(["docker", "import", "--change", f"LABEL {docker.KEY}={key}", rootfs, BASE])
    return BASE


def program(cache: Path, package: str, path: str) -> Path:
    """One file of a Debian package, which is downloaded and unpacked but not installed; needs no root.

    Args:
        cache: the cache's folder.
        package: the package's name.
        path: the file's path in it, without the leading slash.
    """

    def build(folder: Path) -> None:
        with step(f"Downloading Debian's {package}"):
            _download(package, folder)
        (archive,) = folder.glob("*.deb")
        run(["dpkg-deb", "--extract", archive, folder])
        archive.unlink()

    find("apt-get", f"Install {package} yourself.")
    return keep(cache, f"debian-{package}", digest(package, path), build) / path


def _download(package: str, folder: Path) -> None:
    command = ["apt-get", "download", "-qq", package]
    if not succeeds(command, cwd=folder, timeout_seconds=300):
        # A fresh machine has no lists of packages yet.
        run(["apt-get", "update", "-qq"])
        run(command, cwd=folder)
