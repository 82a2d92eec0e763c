"""`relevo.serving.arrival`: a package that comes after the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from relevo import errors
from relevo.packaging.manifest import MANIFEST
from relevo.serving.arrival import wait_for_package

LATER = {"MODEL_INIT_MODE": "async"}


def test_nobody_said_later(tmp_path: Path) -> None:
    """Without KServe's word the folder must be there now: nothing is waited for."""
    wait_for_package(tmp_path / "missing", {}, sleep=pytest.fail)


def test_is_there(tmp_path: Path) -> None:
    """A package that is there is not waited for."""
    (tmp_path / MANIFEST).touch()
    wait_for_package(tmp_path, LATER, sleep=pytest.fail)


def test_comes_as_a_link(tmp_path: Path) -> None:
    """The package may appear under way, as KServe's link to another container's files."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / MANIFEST).touch()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (tmp_path / "link").symlink_to(tmp_path / "models")

    wait_for_package(tmp_path / "link", LATER, sleep=sleep)
    assert len(waits) == 3


def test_never_comes(tmp_path: Path) -> None:
    """After the time is up it is an error that trying again may mend, and says where to look."""
    with pytest.raises(errors.Transient, match="after 1 s") as caught:
        wait_for_package(tmp_path, LATER, timeout_seconds=1, sleep=lambda _: None)
    assert "/models" in caught.value.next_step
