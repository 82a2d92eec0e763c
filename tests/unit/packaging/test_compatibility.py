"""Which candidate may replace which model, and what changed between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relevo import errors
from relevo.packaging import check_candidate, load_package, save_package
from relevo.packaging.compare import Change, changes
from tests.unit.packaging.conftest import make_result


@pytest.fixture
def stable(pristine: Path):
    """The package that is served."""
    return load_package(pristine)


def test_a_retrained_model_may_replace_the_old(stable, make: Callable[..., Path]) -> None:
    """The same questions and the same classes, another model: go."""
    check_candidate(stable, load_package(make("2", estimator=make_result(seed=1).estimator)))


def test_the_same_model_is_nothing_to_roll_out(stable, make: Callable[..., Path]) -> None:
    """A new version number does not make a new model."""
    with pytest.raises(errors.BadInput, match="the same model") as refused:
        check_candidate(stable, load_package(make("2")))
    assert "nothing to roll out" in refused.value.next_step


def test_other_feature_names_are_refused(stable, make: Callable[..., Path]) -> None:
    """The third number of a request must mean the same to both."""
    with pytest.raises(errors.BadInput, match="feature 3 is 'z', not 'c'"):
        check_candidate(stable, load_package(make("2", feature_names=("a", "b", "z"))))


def test_another_number_of_features_is_refused(stable, make: Callable[..., Path], result) -> None:
    """A request for one would be an error for the other."""
    from sklearn.tree import DecisionTreeClassifier

    narrow = DecisionTreeClassifier().fit(result.x_train[:, :2], [0, 1, 2] * 30)
    folder = make(
        "2", estimator=narrow, feature_names=("a", "b"), x_train=result.x_train[:, :2], x_test=result.x_test[:, :2]
    )
    with pytest.raises(errors.BadInput, match="takes 2 features, not 3"):
        check_candidate(stable, load_package(folder))


def test_other_classes_are_refused(stable, tmp_path: Path) -> None:
    """An answer must mean the same to the caller."""
    other = save_package(tmp_path / "2", make_result(classes=(0, 1, 7)), name="blobs", version="2")
    with pytest.raises(errors.BadInput, match="its classes are 0, 1, 7, not 0, 1, 2"):
        check_candidate(stable, other)


def test_changes_name_what_differs_and_nothing_else(stable, make: Callable[..., Path]) -> None:
    """The report shows differences of metrics and parameters, with their size."""
    candidate = load_package(
        make("2", parameters={"trees": 16}, metrics={"test": {"accuracy": 0.95, "failed_rows": 0.0}})
    )
    found = changes(stable.metadata, candidate.metadata)
    assert Change("parameters", "trees", 8, 16) in found
    accuracy = next(change for change in found if change.name == "test accuracy")
    assert accuracy.difference == pytest.approx(0.05)
    assert Change("metrics", "baseline accuracy", 0.3, None) in found
    assert all(change.name != "test failed_rows" for change in found)
    assert changes(stable.metadata, stable.metadata) == ()
