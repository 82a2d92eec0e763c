"""Finding where the ONNX form and scikit-learn part."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from relevo.packaging import export, parity

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = (X.sum(axis=1) > 0).astype(int)


@pytest.fixture(scope="module")
def forest() -> Pipeline:
    """A scaler and a forest."""
    return Pipeline([("s", StandardScaler()), ("f", RandomForestClassifier(8, random_state=0))]).fit(X, Y)


def test_the_exported_forest_agrees_next_to_its_thresholds(forest: Pipeline) -> None:
    """With the cast to float32 the export answers as scikit-learn does where one rounding decides."""
    model = export.to_onnx_bytes(forest, n_features=3, input_name="x")
    rows = parity.probe_rows(forest, X, X)
    found = parity.check_parity(parity.sklearn_prober(forest), parity.onnx_prober(model), rows)
    assert found.holds, found.reason
    assert found.largest_probability_difference < 1e-6


def test_an_export_that_compares_in_float64_is_caught(forest: Pipeline) -> None:
    """The rows near thresholds show the rounding which plain skl2onnx gets wrong: the check can fail."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType

    plain = to_onnx(forest, initial_types=[("x", DoubleTensorType([None, 3]))], options={id(forest): {"zipmap": False}})
    rows = parity.threshold_rows(forest, X, np.random.default_rng(0))
    found = parity.check_parity(parity.sklearn_prober(forest), parity.onnx_prober(plain.SerializeToString()), rows)
    assert found.differing_classes > 0
    assert "ONNX Runtime says" in found.reason


def test_raising_on_one_side_only_is_a_difference() -> None:
    """A row that scikit-learn refuses and the other form answers counts, and only that row."""

    def strict(rows):
        if (rows[:, 0] > 5).any():
            raise ValueError("unknown category")
        return np.zeros(len(rows), dtype=int), None

    rows = np.zeros((40, 1))
    rows[[3, 17]] = 9
    lenient = lambda rows: (np.zeros(len(rows), dtype=int), None)  # noqa: E731
    found = parity.check_parity(strict, lenient, rows)
    assert found.differing_classes == 2
    assert "only scikit-learn raises" in found.reason
    assert parity.check_parity(strict, strict, rows).holds


def test_probabilities_are_compared() -> None:
    """The largest difference is recorded even where the classes agree, and one beyond float32's rounding is no parity."""
    one = lambda rows: (np.zeros(len(rows)), np.tile([0.7, 0.3], (len(rows), 1)))  # noqa: E731
    two = lambda rows: (np.zeros(len(rows)), np.tile([0.6, 0.4], (len(rows), 1)))  # noqa: E731
    found = parity.check_parity(one, two, np.zeros((5, 1)))
    assert not found.holds
    assert found.largest_probability_difference == pytest.approx(0.1)
    assert "probabilities" in found.reason
    assert parity.check_parity(one, one, np.zeros((5, 1))).holds


def test_boundary_rows_lie_on_both_sides_of_a_class_boundary(forest: Pipeline) -> None:
    """Bisection ends at neighbouring rows of different classes, for any estimator."""
    rows = parity.boundary_rows(forest, X, np.random.default_rng(1))
    left, right = np.split(rows, 2)
    assert len(left) > 0
    assert (forest.predict(left) != forest.predict(right)).all()
    assert np.abs(left - right).max() < 1e-9


def test_estimators_without_thresholds_have_no_threshold_rows() -> None:
    """What is no tree ensemble yields none, rather than an error."""
    model = LogisticRegression().fit(X, Y)
    assert parity.threshold_rows(model, X, np.random.default_rng(0)).shape == (0, 3)
