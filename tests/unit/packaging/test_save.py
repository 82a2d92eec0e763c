"""Writing packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from relevo import errors
from relevo.packaging import load_package, manifest, save_package


def test_a_model_without_onnx_form_says_why_and_is_served_by_scikit_learn(make, result) -> None:
    """What skl2onnx cannot express is packaged all the same, with the reason."""
    steps = [("square", FunctionTransformer(np.square)), ("tree", DecisionTreeClassifier())]
    model = Pipeline(steps).fit(result.x_train, np.repeat([0, 1, 2], 30))
    package = load_package(make("2", estimator=model))
    assert package.onnx_path is None
    assert package.metadata.runtime == "sklearn"
    assert "FunctionTransformer" in package.metadata.runtime_reason
    assert not package.metadata.parity.checked


def test_runtime_onnx_is_refused_where_there_is_no_onnx_form(make, result) -> None:
    """Asking for ONNX Runtime never gives a model that answers otherwise than scikit-learn."""
    model = Pipeline([("f", FunctionTransformer(np.square)), ("t", DecisionTreeClassifier())])
    model.fit(result.x_train, np.repeat([0, 1, 2], 30))
    with pytest.raises(errors.BadInput, match="runtime onnx"):
        make("2", estimator=model, runtime="onnx")


def test_string_classes_survive(make, result) -> None:
    """Labels may be words."""
    y = np.repeat(["setosa", "versicolor", "virginica"], 30)
    model = DecisionTreeClassifier(random_state=0).fit(result.x_train, y)
    package = load_package(make("2", estimator=model, y_test=y[::3]))
    assert package.metadata.classes == ("setosa", "versicolor", "virginica")
    assert package.metadata.parity.holds
    assert package.heldout().y.tolist() == y[::3].tolist()


def test_an_existing_package_is_kept_unless_told_otherwise(folder: Path, result) -> None:
    """Versions are not overwritten by accident."""
    before = load_package(folder).digests
    with pytest.raises(errors.BadInput, match="exists already"):
        save_package(folder, result, name="blobs", version="1")
    assert load_package(folder).digests == before


def test_replace_leaves_the_new_package_alone(folder: Path, result) -> None:
    """Replacing leaves neither the old package nor a temporary folder behind."""
    changed = replace(result, parameters={"trees": 9})
    package = save_package(folder, changed, name="blobs", version="1", replace=True)
    assert package.metadata.parameters == {"trees": 9}
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, result, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk gives a message and no half package."""

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write_manifest", full)
    with pytest.raises(errors.Transient, match="No space left"):
        save_package(tmp_path / "1", result, name="blobs", version="1")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_replacing_keeps_the_old_package(folder: Path, result, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written does not cost what was there."""

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write_manifest", full)
    with pytest.raises(errors.Transient):
        save_package(folder, result, name="blobs", version="1", replace=True)
    assert load_package(folder).metadata.version == "1"


@pytest.mark.parametrize(("name", "version"), [("Iris", "1"), ("-x", "1"), ("iris", "a b"), ("iris", ".1"), ("", "1")])
def test_names_that_a_cluster_would_refuse_are_refused(tmp_path: Path, result, name: str, version: str) -> None:
    """A name must do for an InferenceService and a version for an image tag."""
    with pytest.raises(errors.BadInput):
        save_package(tmp_path / "p", result, name=name, version=version)
    assert list(tmp_path.iterdir()) == []


def test_an_unfitted_estimator_is_bad_input(tmp_path: Path, result) -> None:
    """Only a fitted classifier can be packaged."""
    with pytest.raises(errors.BadInput, match="not a fitted classifier"):
        save_package(tmp_path / "p", replace(result, estimator=DecisionTreeClassifier()), name="blobs", version="1")


def test_reference_histograms_count_every_training_row(pristine: Path, result) -> None:
    """Drift is measured against all of the training data, per feature."""
    for feature, column in zip(load_package(pristine).metadata.input.features, result.x_train.T, strict=True):
        assert sum(feature.reference.counts) == len(column)
        assert (feature.minimum, feature.maximum) == (column.min(), column.max())
