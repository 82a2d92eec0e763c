"""Whether files changed since they were last looked at: `Watched`. A renewed Secret, which is a switched symbolic link, counts too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["Watched"]


class Watched:
    """Some files, looked at together."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether one of them is another than at the last call; the first call compares with when this was made."""
        now = self._look()
        changed, self._seen = now != self._seen, now
        return changed

    def _look(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(_look(path) for path in self._paths)


def _look(path: Path) -> tuple[int, ...] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return (seen.st_ino, seen.st_mtime_ns, seen.st_size, seen.st_dev)
