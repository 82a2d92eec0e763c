"""Shared files: whole or not at all, one writer at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from relevo import errors
from relevo.platforms.local import files


def test_a_failed_write_leaves_the_old_content_and_no_rest(tmp_path, monkeypatch):
    """A full disk is transient, the path is named, and the folder holds what it held before."""
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(errors.Transient, match=r"a\.json: cannot write: No space left"):
        files.write_json(path, {"a": 2}, durable=True)
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("number", "kind"), [(errno.EROFS, errors.Permanent), (errno.EACCES, errors.Permanent)])
def test_a_read_only_disk_is_permanent(tmp_path, monkeypatch, number, kind):
    """Trying again is of no use, and the message says where."""

    def refuse(_self, _target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(kind, match=r"b\.json: cannot write"):
        files.write_atomic(tmp_path / "b.json", "x")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_json_is_named_and_what_is_absent_is_nothing(tmp_path):
    """No file is None; a broken one is an error."""
    assert files.read_json(tmp_path / "none.json") is None
    (tmp_path / "broken.json").write_text('{"a":')
    with pytest.raises(errors.Permanent, match=r"broken\.json: is not JSON"):
        files.read_json(tmp_path / "broken.json")


def test_a_lock_has_one_holder_and_is_seen_by_others(tmp_path):
    """A second taker waits and then says so; asking does not take."""
    path = tmp_path / "lock"
    assert not files.is_locked(path)
    with files.exclusive(path):
        assert files.is_locked(path)
        assert files.try_lock(path) is None
        with pytest.raises(errors.Transient, match="another relevo command"), files.exclusive(path, wait_seconds=0.02):
            pass
    assert not files.is_locked(path)
    with files.exclusive(path):
        pass
