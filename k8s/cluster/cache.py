"""The cache outside the repository: `built/NAME-KEY/` holds what a build made, whole or not at all.

A key is a digest of everything that the result depends on: versions, lock files, recipes. A build writes into a folder beside its final
place and is renamed when it is done, so that one that was interrupted is never taken for a result.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["digest", "keep", "kept", "locked"]


def digest(*parts: str | bytes | Path) -> str:
    """Twelve hexadecimal digits over texts and the contents of files and folders."""
    total = hashlib.sha256()
    for part in parts:
        for content in _contents(part):
            total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:12]


def _contents(part: str | bytes | Path) -> Iterator[bytes]:
    match part:
        case str():
            yield part.encode()
        case bytes():
            yield part
        case _ if part.is_dir():
            for file in sorted(path for path in part.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
                yield str(file.relative_to(part)).encode()
                yield file.read_bytes()
        case _:
            yield part.read_bytes()


@contextmanager
def locked(cache: Path, name: str) -> Iterator[None]:
    """Hold a name for one process at a time. The system lets go of it when the process ends, however it ends."""
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def keep(cache: Path, name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of a build's result, from the cache where it is there. Older results of the same name go.

    Args:
        cache: the cache's folder.
        name: what is built; one lock each.
        key: the digest of what the result depends on.
        build: writes the result into the empty folder that it is given.
    """
    final = _place(cache, name, key)
    built = final.parent
    with locked(cache, name):
        if final.is_dir():
            return final
        built.mkdir(parents=True, exist_ok=True)
        for leftover in built.glob(f".{name}@*"):
            shutil.rmtree(leftover, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}@", dir=built))
        work.chmod(0o755)
        try:
            build(work)
            os.replace(work, final)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        for other in built.glob(f"{name}-????????????"):
            if other != final:
                shutil.rmtree(other, ignore_errors=True)
    return final


def kept(cache: Path, name: str, key: str) -> bool:
    """Whether the cache holds the result of a build."""
    return _place(cache, name, key).is_dir()


def _place(cache: Path, name: str, key: str) -> Path:
    return cache / "built" / f"{name}-{key}"
