"""Where a model comes from: the commit, the libraries, the data."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["data_digest", "git_commit", "library_versions"]

_LIBRARIES = ("joblib", "numpy", "onnx", "onnxruntime", "relevo", "scikit-learn", "scipy", "skl2onnx")
_GIT_TIMEOUT_SECONDS = 5


def git_commit(folder: Path) -> str | None:
    """The commit that is checked out around `folder`, with "-dirty" if tracked files differ from it; None outside a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=_GIT_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit yet: then there is none to tell
        return ""
    return done.stdout.strip()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that a model's behaviour depends on."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def data_digest(x: NDArray[Any], y: NDArray[Any]) -> str:
    """SHA-256 over rows, labels, their shapes and types: equal for equal data on every machine."""
    digest = hashlib.sha256()
    for array in (x, y):
        if array.dtype.kind == "f":
            portable = np.ascontiguousarray(array, dtype="<f8")
        elif array.dtype.kind in "iub":
            portable = np.ascontiguousarray(array, dtype="<i8")
        else:
            portable = np.ascontiguousarray(array.astype(np.str_).astype("<U64"))
        digest.update(f"{portable.dtype.str}{portable.shape}".encode())
        digest.update(portable.tobytes())
    return f"sha256:{digest.hexdigest()}"
