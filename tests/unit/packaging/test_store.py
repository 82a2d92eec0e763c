"""Looking packages up by name and version."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relevo import errors
from relevo.packaging import list_packages, package_folder, resolve


@pytest.fixture
def home(pristine: Path, tmp_path: Path) -> Path:
    """A store with blobs in versions 1, 2 and 10."""
    for version in ("10", "2", "1"):
        shutil.copytree(pristine, tmp_path / "packages" / "blobs" / version)
    (tmp_path / "packages" / "blobs" / ".half-written").mkdir()
    return tmp_path


def test_versions_are_listed_in_natural_order(home: Path) -> None:
    """10 comes after 2, and what is no package is left out."""
    assert [ref.version for ref in list_packages(home)] == ["1", "2", "10"]
    assert list_packages(home, "other") == []


@pytest.mark.parametrize("uri", ["oci://dev.local/blobs:2", "oci://r.example:5000/team/models/blobs:2"])
def test_an_image_is_looked_up_by_name_and_version_whatever_its_registry(home: Path, uri: str) -> None:
    """The manifest that a cluster takes works here with no registry."""
    assert resolve(uri, home) == home / "packages" / "blobs" / "2"


def test_a_file_uri_is_the_folder(home: Path) -> None:
    """file:// names the folder itself."""
    folder = home / "packages" / "blobs" / "1"
    assert resolve(f"file://{folder}", home) == folder


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://bucket/iris", "must begin with file:// or oci://"),
        ("/models/iris", "must begin with file:// or oci://"),
        ("", "must begin with file:// or oci://"),
        ("oci://dev.local/blobs", "with a version after the colon"),
        ("oci://dev.local/blobs:", "with a version after the colon"),
        ("oci://blobs:1", "must be oci://HOST/NAME:VERSION"),
        ("oci://localhost:5000/blobs", "with a version after the colon"),
        ("oci://dev.local/blobs@sha256:00", "a digest cannot be looked up"),
        ("oci://dev.local/..:1", "model name"),
        ("oci://dev.local/blobs:..", "version"),
        ("file://relative/path", "takes an absolute path"),
        ("file:///no/such/folder", "there is no folder"),
    ],
)
def test_what_cannot_be_resolved_is_refused_with_a_reason(home: Path, uri: str, reason: str) -> None:
    """Every storageUri that names nothing here says what is wrong with it."""
    with pytest.raises(errors.BadInput, match=reason):
        resolve(uri, home)


def test_a_missing_version_lists_those_there_are(home: Path) -> None:
    """The message tells what could have been meant, and how to make what was."""
    with pytest.raises(errors.BadInput, match="has blobs in versions 1, 2, 10") as refused:
        resolve("oci://dev.local/blobs:3", home)
    assert refused.value.next_step == "Make it with `relevo train blobs --version 3`."


@pytest.mark.parametrize("version", ["../2", "", "a/b", "-x"])
def test_no_version_leads_out_of_the_store(home: Path, version: str) -> None:
    """A version is one path component."""
    with pytest.raises(errors.BadInput):
        package_folder(home, "blobs", version)
