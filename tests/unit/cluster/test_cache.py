"""The cache of builds: whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from k8s.cluster.cache import digest, keep


def test_the_same_key_builds_once(tmp_path: Path) -> None:
    """A result in the cache is used as it is."""
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "result").write_text("x")

    first = keep(tmp_path, "thing", digest("1"), build)
    assert keep(tmp_path, "thing", digest("1"), build) == first
    assert len(built) == 1


def test_another_key_builds_again_and_the_old_result_goes(tmp_path: Path) -> None:
    """The cache holds one result of a name, and leaves other names alone, also those that begin with it."""
    other = keep(tmp_path, "thing-two", digest("1"), lambda folder: None)
    old = keep(tmp_path, "thing", digest("1"), lambda folder: None)
    new = keep(tmp_path, "thing", digest("2"), lambda folder: None)
    assert not old.exists()
    assert new.exists()
    assert other.exists()


def test_a_build_that_failed_leaves_nothing(tmp_path: Path) -> None:
    """What failed is not a result, and what an interrupted one left behind goes at the next."""
    leftover = tmp_path / "built/.thing@dead"
    leftover.mkdir(parents=True)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        keep(tmp_path, "thing", digest("1"), fail)
    assert list((tmp_path / "built").iterdir()) == []


def test_two_at_once_build_once(tmp_path: Path) -> None:
    """The second waits for the first, and finds its result."""
    built = []

    def build(folder: Path) -> None:
        built.append(folder)

    threads = [threading.Thread(target=keep, args=(tmp_path, "thing", digest("1"), build)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_the_digest_sees_names_and_contents(tmp_path: Path) -> None:
    """A file changed, renamed or added in a folder changes its digest; compiled Python does not."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "a").write_text("1")
    seen = [digest(folder)]
    (folder / "a").write_text("2")
    seen.append(digest(folder))
    (folder / "a").rename(folder / "b")
    seen.append(digest(folder))
    (folder / "c").write_text("")
    seen.append(digest(folder))
    assert len(set(seen)) == 4
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x").write_text("x")
    assert digest(folder) == seen[-1]
    assert digest("ab", "c") != digest("a", "bc")
