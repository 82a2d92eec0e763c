"""Packages of all kinds of models: what they take and answer is told from the training run, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from relevo import errors
from relevo.packaging import TrainingResult, check_candidate, load_package, save_package
from relevo.packaging.speed import one_job, sklearn_from_rows

Make = Callable[..., Path]
RNG = np.random.default_rng(0)


def frame() -> pandas.DataFrame:
    """Numbers, whole numbers, truth values and texts, with holes."""
    rows = 60
    return pandas.DataFrame(
        {
            "age": np.where(RNG.random(rows) < 0.2, np.nan, RNG.integers(20, 60, rows)),
            "visits": RNG.integers(0, 9, rows),
            "member": RNG.random(rows) < 0.5,
            "city": np.where(RNG.random(rows) < 0.2, None, RNG.choice(["Bern", "Lyon"], rows)),
        }
    )


def test_a_frame_keeps_its_columns_types_and_holes(make: Make, result: TrainingResult) -> None:
    """The held-out rows come back as the frame that was tested, and scikit-learn serves it."""
    x = frame()
    y = np.arange(60) % 2
    encode = make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=None), OneHotEncoder())
    columns = make_column_transformer((SimpleImputer(), ["age", "visits"]), (encode, ["city"]))
    model = make_pipeline(columns, LogisticRegression()).fit(x, y)
    about = load_package(make("2", estimator=model, feature_names=tuple(x), x_train=x, x_test=x, y_test=y))
    assert about.metadata.input.kind == "frame"
    assert [(f.datatype, f.missing) for f in about.metadata.input.features] == [
        ("FP64", "nan"), ("INT64", "no"), ("BOOL", "no"), ("BYTES", "none")
    ]  # fmt: skip
    assert about.metadata.runtime == "sklearn"
    held = about.heldout().x
    pandas.testing.assert_frame_equal(held, x)
    assert about.estimator().predict(held).tolist() == model.predict(x).tolist()


def test_a_column_of_other_things_is_refused(make: Make) -> None:
    """A list in a column is no text: the message names the column."""
    x = frame().assign(city=[["Bern"]] * 60)
    with pytest.raises(errors.BadInput, match="column 'city'"):
        make("2", feature_names=tuple(x), x_train=x, x_test=x)


def test_texts(make: Make) -> None:
    """One input of BYTES."""
    texts = np.array(["good film", "bad film", "so good", "so bad"] * 5, dtype=object)
    y = np.array(["up", "down"] * 10)
    model = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(texts, y)
    made = make("2", estimator=model, feature_names=("review",), x_train=texts, x_test=texts, y_test=y)
    package = load_package(made)
    assert (package.metadata.input.kind, package.metadata.input.name) == ("text", "review")
    assert package.metadata.classes == ("down", "up")
    assert package.heldout().x.tolist() == texts.tolist()
    assert "review" in package.card


def test_a_regressor_has_no_classes_and_is_served_by_onnx_runtime(make: Make, result: TrainingResult) -> None:
    """Its values are the same to the last bit, and are counted between the deciles of the test set."""
    y = result.x_train @ np.array([1.0, -2.0, 0.5])
    package = load_package(
        make("2", estimator=RandomForestRegressor(8).fit(result.x_train, y), y_test=y[::3], metrics={})
    )
    about = package.metadata
    assert (about.task, about.classes, about.runtime, about.probabilities) == ("regression", (), "onnx", False)
    assert len(about.value_edges) == 9
    assert "regressor" in package.card


def test_several_outputs(make: Make, result: TrainingResult) -> None:
    """A classifier's are named and know their classes; a regressor's are named."""
    y = np.column_stack([np.arange(90) % 2, np.arange(90) % 3])
    forest = RandomForestClassifier(4).fit(result.x_train, y)
    about = load_package(make("2", estimator=forest, y_test=y[::3], target_names=("a", "b"))).metadata
    assert (about.targets, about.target_classes) == (("a", "b"), ((0, 1), (0, 1, 2)))
    assert not about.probabilities  # two and three classes do not make one tensor
    values = RandomForestRegressor(4).fit(result.x_train, y)
    about = load_package(make("3", estimator=values, y_test=y[::3])).metadata
    assert (about.task, about.targets, about.runtime) == ("regression", ("output_0", "output_1"), "onnx")


def test_numbers_with_holes(make: Make, result: TrainingResult) -> None:
    """A feature that was missing in training may be missing in requests; the ONNX form is compared with holes too."""
    x = result.x_train.copy()
    x[RNG.random(x.shape) < 0.2] = np.nan
    model = HistGradientBoostingClassifier(max_iter=5).fit(x, np.repeat([0, 1, 2], 30))
    about = load_package(make("2", estimator=model, x_train=x, x_test=x[::3])).metadata
    assert [feature.missing for feature in about.input.features] == ["nan"] * 3
    assert about.runtime == "onnx"


def test_what_cannot_be_rolled_out_yet_is_refused_by_name(
    tmp_path: Path, result: TrainingResult, pristine: Path
) -> None:
    """A rollout compares classes of one output; other models are served only."""
    values = replace(result, estimator=RandomForestRegressor(2).fit(result.x_train, np.arange(90)))
    package = save_package(tmp_path / "2", values, name="blobs", version="2")
    with pytest.raises(errors.BadInput, match="task is regression"):
        check_candidate(load_package(pristine), package)
    with pytest.raises(errors.BadInput, match="compares classifiers"):
        check_candidate(package, package)


class _Slow:
    """An estimator that is faster than any other, or far slower."""

    def __init__(self, loops: int) -> None:
        self.loops = loops

    def predict(self, x: Any) -> Any:
        return sum(range(self.loops))


def test_the_faster_runtime_is_chosen_by_measuring() -> None:
    """What costs nothing is chosen from the first row on, what costs much never."""
    from relevo.packaging import export

    x = RNG.normal(size=(50, 3))
    model = RandomForestClassifier(50, random_state=0).fit(x, np.arange(50) % 2)
    form = export.to_onnx_bytes(model, n_features=3, input_name="x")
    assert sklearn_from_rows(_Slow(0), form, x) == 1
    assert sklearn_from_rows(_Slow(3_000_000), form, x) is None


def test_one_job_reaches_into_pipelines() -> None:
    """No step keeps its own pool of threads."""
    pipeline = make_pipeline(SimpleImputer(), RandomForestClassifier(n_jobs=4))
    assert one_job(pipeline).steps[-1][1].n_jobs == 1
