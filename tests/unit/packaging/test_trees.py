"""Trees, forests and boosting in ONNX: as scikit-learn to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import ensemble, tree
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from relevo.packaging import export, parity, trees

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(150, 4)), 1)
CLASSES = np.digitize(X[:, 0] + X[:, 1] * X[:, 2], [-0.5, 0.7])
WORDS = np.array(["low", "middle", "high"])[CLASSES]
VALUES = X[:, 0] * 3 + X[:, 1] ** 2
CLASSIFIERS: dict[str, tuple[Any, Any]] = {
    "tree": (tree.DecisionTreeClassifier(random_state=0), WORDS),
    "forest": (ensemble.RandomForestClassifier(30, random_state=0), CLASSES),
    "shallow forest": (ensemble.RandomForestClassifier(30, max_depth=3, random_state=0), CLASSES),
    "extra trees": (ensemble.ExtraTreesClassifier(30, min_samples_leaf=4, random_state=0), WORDS),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0), CLASSES),
    "boosting of two": (ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0), CLASSES > 0),
    "exponential boosting": (ensemble.GradientBoostingClassifier(loss="exponential", n_estimators=20), CLASSES > 0),
    "boosting from zero": (ensemble.GradientBoostingClassifier(init="zero", n_estimators=20), CLASSES),
    "histogram boosting": (ensemble.HistGradientBoostingClassifier(max_iter=20), WORDS),
    "histogram boosting of two": (ensemble.HistGradientBoostingClassifier(max_iter=20), CLASSES > 0),
    "a single leaf": (tree.DecisionTreeClassifier(), np.zeros(150, int)),
}
REGRESSORS: dict[str, tuple[Any, Any]] = {
    "tree": (tree.DecisionTreeRegressor(max_depth=5, random_state=0), VALUES),
    "forest": (ensemble.RandomForestRegressor(30, random_state=0), VALUES),
    "forest of two outputs": (ensemble.RandomForestRegressor(30, random_state=0), np.column_stack([VALUES, X[:, 3]])),
    "boosting": (ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0), VALUES),
    "histogram boosting": (ensemble.HistGradientBoostingRegressor(max_iter=20), VALUES),
    "poisson": (ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=20), VALUES - VALUES.min()),
}


def answers(estimator: Any, target: Any, *, scaled: bool) -> tuple[Any, Any, Any]:
    """The fitted pipeline, rows that are hard for it, and what ONNX Runtime says of them."""
    steps = [("scale", StandardScaler())] if scaled else []
    fitted = Pipeline([*steps, ("trees", estimator)]).fit(X, target)
    rows = np.concatenate([X, RNG.uniform(-3, 3, (300, 4)), parity.threshold_rows(fitted, X, np.random.default_rng(1))])
    return fitted, rows, parity.onnx_prober(export.to_onnx_bytes(fitted, n_features=4, input_name="x"))(rows)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_are_scikit_learns_next_to_every_threshold(name: str, scaled: bool) -> None:
    """The same class on every row, and for forests the very same probabilities; a link's exp and log may differ in the last bit."""
    fitted, rows, (labels, scores) = answers(*CLASSIFIERS[name], scaled=scaled)
    assert len(rows) > 450 or name == "a single leaf"
    assert labels.tolist() == fitted.predict(rows).tolist()
    np.testing.assert_allclose(scores, fitted.predict_proba(rows), rtol=0, atol=0 if "boost" not in name else 1e-15)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", REGRESSORS)
def test_values_are_scikit_learns_to_the_last_bit(name: str, scaled: bool) -> None:
    """Nothing of a regression is rounded to float32."""
    fitted, rows, (values, scores) = answers(*REGRESSORS[name], scaled=scaled)
    assert scores is None
    np.testing.assert_allclose(values, fitted.predict(rows), rtol=1e-14 if name == "poisson" else 0)


@pytest.mark.parametrize("name", ["forest", "histogram boosting"])
def test_missing_values_go_where_scikit_learn_sends_them(name: str) -> None:
    """Trees that were trained on missing values answer rows that have some."""
    holes = X.copy()
    holes[RNG.random(X.shape) < 0.3] = np.nan
    estimator, target = CLASSIFIERS[name]
    fitted = type(estimator)(**estimator.get_params()).fit(holes, target)
    labels, _ = parity.onnx_prober(export.to_onnx_bytes(fitted, n_features=4, input_name="x"))(holes)
    assert labels.tolist() == fitted.predict(holes).tolist()


def test_what_is_not_known_is_left_to_others() -> None:
    """Several classifying outputs, categorical splits and a start by another model are not claimed."""
    two = np.column_stack([CLASSES, CLASSES > 0])
    categorical = ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features=[0], max_bins=80)
    others = [
        ensemble.RandomForestClassifier(3).fit(X, two),
        categorical.fit(np.column_stack([CLASSES, X[:, 1:]]), CLASSES),
        ensemble.GradientBoostingClassifier(init=tree.DecisionTreeClassifier(), n_estimators=3).fit(X, CLASSES),
        tree.DecisionTreeClassifier,
    ]
    assert not any(trees.is_tree_ensemble(other) for other in others)
