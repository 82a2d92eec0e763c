"""Files that several processes share: replaced whole or not at all, and locked while one of them reads, changes and writes.

Used by the supervisor and by the platform; knows nothing of either.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relevo import errors

__all__ = ["exclusive", "is_locked", "read_json", "remove", "storage_error", "try_lock", "write_atomic", "write_json"]

_MAY_PASS = {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.EIO}


def storage_error(doing: str, path: Path, error: OSError) -> errors.Transient | errors.Permanent:
    """Say which path could not be used. A full disk may pass, a read-only one does not."""
    why = error.strerror or str(error)
    if error.errno in _MAY_PASS:
        return errors.Transient(f"{path}: cannot {doing}: {why}", next_step="Free some space, then try again.")
    return errors.Permanent(
        f"{path}: cannot {doing}: {why}", next_step="Make it writable, or set RELEVO_HOME elsewhere."
    )


def write_atomic(path: Path, text: str, *, durable: bool = False) -> None:
    """Replace `path` by `text` in one rename, so that a reader sees the old content or the new, never a part.

    `durable` also waits for the disk, for what has to survive a power cut.

    Raises:
        errors.Transient, errors.Permanent: the path cannot be written; the old content is untouched.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise storage_error("write", path, error) from error


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """`write_atomic` of `value` as indented JSON."""
    write_atomic(path, json.dumps(value, indent=1) + "\n", durable=durable)


def read_json(path: Path) -> Any:
    """The JSON value in `path`, or None where there is no such file.

    Raises:
        errors.Permanent: the file is there and is not JSON, or cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error("read", path, error) from error
    except ValueError as error:
        raise errors.Permanent(
            f"{path}: is not JSON ({error})", next_step="`relevo down` removes it; `relevo up` then writes it anew."
        ) from error


def remove(path: Path) -> None:
    """Delete a file if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error("delete", path, error) from error


def try_lock(path: Path) -> int | None:
    """Take the exclusive lock on `path`: a file descriptor that holds it until closed, or None where somebody else does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise storage_error("open", path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """True where some process holds the exclusive lock. Two who ask at the same time do not disturb each other."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error("open", path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def exclusive(path: Path, *, wait_seconds: float = 30.0) -> Iterator[None]:
    """Hold the lock on `path` for the body.

    Raises:
        errors.Transient: somebody else held it for all of `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise errors.Transient(
                f"{path}: another relevo command has held this lock for {wait_seconds:.0f} s",
                next_step="Wait for it to end, then try again.",
            )
        time.sleep(0.005)
    try:
        yield
    finally:
        os.close(descriptor)
