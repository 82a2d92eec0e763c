"""Reading packages, and refusing those that were touched."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
import pytest

from relevo import errors
from relevo.packaging import load_package
from relevo.packaging.manifest import MANIFEST, write_manifest

FILES = ("model.joblib", "model.onnx", "metadata.json", "heldout.npz", "MODEL_CARD.md")


def test_a_package_gives_back_what_was_put_in(pristine: Path, result) -> None:
    """Metadata, estimator, held-out rows and card survive the round trip."""
    package = load_package(pristine)
    assert package.metadata.classes == (0, 1, 2)
    assert package.metadata.feature_names == ("a", "b", "c")
    assert package.metadata.runtime == "onnx"
    heldout = package.heldout()
    np.testing.assert_array_equal(heldout.x, result.x_test)
    np.testing.assert_array_equal(heldout.y, result.y_test)
    assert heldout.feature_names == ("a", "b", "c")
    np.testing.assert_array_equal(package.estimator().predict(heldout.x), result.estimator.predict(heldout.x))
    assert package.card.startswith("# blobs, version 1\n")


def test_every_file_is_in_the_manifest(pristine: Path) -> None:
    """No file of a package is left without a digest."""
    assert set(json.loads((pristine / MANIFEST).read_text())["files"]) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_refused_by_file_name_before_anything_is_opened(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flipped bit in any file is found by its digest; joblib never opens it."""
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("joblib opened a tampered file"))
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(errors.BadInput, match=f"{name} has digest") as refused:
        load_package(folder).estimator()
    assert "relevo train" in refused.value.next_step


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    """A file that the manifest lists must be there."""
    (folder / name).unlink()
    with pytest.raises(errors.BadInput, match=f"{name} is missing"):
        load_package(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_by_name(folder: Path, name: str) -> None:
    """A file that was cut off, as by a broken copy, is found."""
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(errors.BadInput, match=name):
        load_package(folder)


def test_an_extra_file_is_refused_by_name(folder: Path) -> None:
    """What the manifest does not list does not belong in a package."""
    (folder / "extra.pkl").write_bytes(b"?")
    with pytest.raises(errors.BadInput, match=r"extra\.pkl is not in its manifest"):
        load_package(folder)


def test_a_symbolic_link_is_refused(folder: Path) -> None:
    """A link could point at another file by the time that it is opened."""
    outside = folder.parent / "outside.joblib"
    (folder / "model.joblib").rename(outside)
    (folder / "model.joblib").symlink_to(outside)
    with pytest.raises(errors.BadInput, match=r"model\.joblib is not a regular file"):
        load_package(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 9, "files": {}}', '{"format":1,"files":{"a":3}}']
)
def test_a_broken_manifest_is_bad_input(folder: Path, text: str) -> None:
    """A manifest that cannot be read is the package's fault, told as such."""
    (folder / MANIFEST).write_text(text)
    with pytest.raises(errors.BadInput, match=r"manifest\.json cannot be read"):
        load_package(folder)


@pytest.mark.parametrize(
    "change", [{"runtime": "pmml"}, {"classes": []}, {"name": "No"}, {"surprise": 1}, {"format": 2}]
)
def test_metadata_of_another_shape_is_bad_input_even_with_right_digests(folder: Path, change: dict) -> None:
    """A package from another version of relevo is refused with the field's name."""
    file = folder / "metadata.json"
    content = json.loads(file.read_text())
    if change == {"classes": []}:
        del content["classes"]
    else:
        content |= change
    file.write_text(json.dumps(content))
    (folder / MANIFEST).unlink()
    write_manifest(folder)
    with pytest.raises(errors.BadInput, match=rf"metadata\.json: .*{next(iter(change))}"):
        load_package(folder)


def test_a_folder_that_is_no_package_is_bad_input(tmp_path: Path) -> None:
    """Neither a missing folder nor an empty one is read as a package."""
    with pytest.raises(errors.BadInput, match="no such folder"):
        load_package(tmp_path / "nowhere")
    with pytest.raises(errors.BadInput, match=r"manifest\.json is missing"):
        load_package(tmp_path)


def test_an_estimator_that_does_not_unpickle_is_bad_input(folder: Path) -> None:
    """A file that joblib cannot read names the scikit-learn that it was made with."""
    (folder / "model.joblib").write_bytes(b"no pickle")
    (folder / MANIFEST).unlink()
    write_manifest(folder)
    with pytest.raises(errors.BadInput, match=r"model\.joblib does not load") as refused:
        load_package(folder).estimator()
    assert "scikit-learn" in refused.value.next_step
