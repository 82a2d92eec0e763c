"""The local package store, `RELEVO_HOME/packages/NAME/VERSION`, and what a `storageUri` means on this machine.

`oci://ANY.HOST/REPO/NAME:VERSION` is looked up here by NAME and VERSION, so that the manifest which a cluster takes works
without a registry.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from relevo import errors
from relevo.packaging.manifest import MANIFEST
from relevo.packaging.metadata import NAME_PATTERN, VERSION_PATTERN

__all__ = ["PackageRef", "home_folder", "list_packages", "package_folder", "resolve"]

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)


@dataclass(frozen=True, slots=True, order=True)
class PackageRef:
    """A package in the store."""

    name: str
    version: str
    folder: Path


def home_folder() -> Path:
    """`RELEVO_HOME`, or `.relevo` in the current folder."""
    return Path(os.environ.get("RELEVO_HOME") or ".relevo").absolute()


def package_folder(home: Path, name: str, version: str) -> Path:
    """Where the store keeps a package, there or not.

    Raises:
        errors.BadInput: the name or the version cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise errors.BadInput(
            f"model name {name!r}: must be lower-case letters, digits and '-', at most 63, with a letter or digit at both ends"
        )
    if not _VERSION.fullmatch(version):
        raise errors.BadInput(
            f"version {version!r}: must be letters, digits, '.', '_' and '-', at most 128, not starting with '.' or '-'"
        )
    return home / "packages" / name / version


def list_packages(home: Path, name: str | None = None) -> list[PackageRef]:
    """What the store holds, by name and then version, versions in natural order (2 before 10). What is no package is left out."""
    root = home / "packages"
    found = [
        PackageRef(file.parent.parent.name, file.parent.name, file.parent)
        for file in root.glob(f"{name or '*'}/*/{MANIFEST}")
        if not file.parent.name.startswith(".")
    ]
    return sorted(found, key=lambda ref: (ref.name, _natural(ref.version)))


def _natural(version: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", version)]


def resolve(storage_uri: str, home: Path) -> Path:
    """The folder that a `storageUri` names. Says nothing of what is in it: `load_package` does.

    Raises:
        errors.BadInput: another scheme than file:// or oci://, no tag, or no such package.
    """
    scheme = storage_uri.partition("://")[0] if "://" in storage_uri else ""
    match scheme:
        case "file":
            return _resolve_file(storage_uri)
        case "oci":
            return _resolve_oci(storage_uri, home)
        case _:
            raise errors.BadInput(
                f"storageUri {storage_uri!r}: must begin with file:// or oci://",
                next_step="For example oci://dev.local/iris:1, which is looked up in the local package store.",
            )


def _resolve_file(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise errors.BadInput(f"storageUri {uri!r}: file:// takes an absolute path, as in file:///models/iris-1")
    folder = Path(unquote(parts.path))
    if not folder.is_dir():
        raise errors.BadInput(
            f"storageUri {uri!r}: there is no folder {folder}", next_step="Make a package with `relevo train`."
        )
    return folder


def _resolve_oci(uri: str, home: Path) -> Path:
    repository = uri.removeprefix("oci://")
    if "@" in repository:
        raise errors.BadInput(
            f"storageUri {uri!r}: a digest cannot be looked up in the local package store; name a tag"
        )
    last = repository.rpartition("/")[2]
    name, colon, version = last.partition(":")
    if not colon or not version or "/" not in repository:
        raise errors.BadInput(
            f"storageUri {uri!r}: must be oci://HOST/NAME:VERSION, with a version after the colon",
            next_step="For example oci://dev.local/iris:1.",
        )
    folder = package_folder(home, name, version)
    if not folder.is_dir():
        versions = [ref.version for ref in list_packages(home, name)]
        there = f"has {name} in versions {', '.join(versions)}" if versions else f"has no version of {name}"
        raise errors.BadInput(
            f"storageUri {uri!r}: no package {name}:{version}; the store {home / 'packages'} {there}",
            next_step=f"Make it with `relevo train {name} --version {version}`.",
        )
    return folder
