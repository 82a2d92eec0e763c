"""Digests: `manifest.json` names every file of a package and its SHA-256, so that a changed byte is found before anything is opened."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from relevo import errors

__all__ = ["MANIFEST", "Manifest", "digest_of", "read_manifest", "verify", "write_manifest"]

MANIFEST = "manifest.json"
_REBUILD = (
    "The package was changed after it was made. Rebuild it with `relevo train`, or restore it from where it came."
)
_SHA256_HEX = r"^[0-9a-f]{64}$"


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    files: dict[str, str]
    """SHA-256 in hexadecimal by file name. Packages are flat: no name has a slash."""


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path) -> Manifest:
    """Digest every file that stands in `folder` and write its manifest."""
    manifest = Manifest(files={file.name: digest_of(file) for file in sorted(folder.iterdir())})
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a package's manifest.

    Raises:
        errors.BadInput: there is no such folder, no manifest in it, or it cannot be read as one.
    """
    if not folder.is_dir():
        raise errors.BadInput(
            f"model package {folder}: no such folder", next_step="Make a package with `relevo train`."
        )
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise errors.BadInput(
            f"model package {folder}: {MANIFEST} is missing", next_step=f"Is this a model package? {_REBUILD}"
        ) from None
    except (OSError, ValidationError) as error:
        raise errors.BadInput(
            f"model package {folder}: {MANIFEST} cannot be read: {_first_reason(error)}", next_step=_REBUILD
        ) from None


def verify(folder: Path) -> Manifest:
    """Compare every file with the manifest; opens nothing but to digest it.

    Raises:
        errors.BadInput: a file is changed, missing, or not in the manifest. The message names it.
    """
    manifest = read_manifest(folder)
    present = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    for name in sorted(set(manifest.files) - present):
        raise errors.BadInput(f"model package {folder}: {name} is missing, its manifest lists it", next_step=_REBUILD)
    for name in sorted(present - set(manifest.files)):
        raise errors.BadInput(f"model package {folder}: {name} is not in its manifest", next_step=_REBUILD)
    for name, expected in manifest.files.items():
        file = folder / name
        if file.is_symlink() or not file.is_file():
            raise errors.BadInput(f"model package {folder}: {name} is not a regular file", next_step=_REBUILD)
        try:
            actual = digest_of(file)
        except OSError as error:
            raise errors.BadInput(f"model package {folder}: {name} cannot be read: {error.strerror}") from None
        if actual != expected:
            raise errors.BadInput(
                f"model package {folder}: {name} has digest {actual[:12]}... but its manifest says {expected[:12]}...",
                next_step=_REBUILD,
            )
    return manifest


def _first_reason(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
