"""Where a model comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from relevo.packaging import provenance


def test_the_digest_is_of_the_values_not_of_how_they_lie_in_memory() -> None:
    """Byte order and memory layout do not change it; a value or a shape does."""
    x, y = np.arange(6.0).reshape(2, 3), np.array([0, 1])
    digest = provenance.data_digest(x, y)
    assert digest == provenance.data_digest(np.asfortranarray(x).astype(">f8"), y.astype(np.int32))
    assert digest != provenance.data_digest(x.reshape(3, 2), y)
    assert digest != provenance.data_digest(x + 1e-9, y)
    assert digest != provenance.data_digest(x, y[::-1])


def test_the_commit_says_when_files_had_been_changed(tmp_path: Path) -> None:
    """None outside a repository, the commit in a clean one, "-dirty" in a changed one."""
    assert provenance.git_commit(tmp_path) is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "a")
    commit = git("rev-parse", "HEAD")
    assert provenance.git_commit(tmp_path) == commit
    (tmp_path / "a").write_text("2")
    assert provenance.git_commit(tmp_path) == f"{commit}-dirty"
