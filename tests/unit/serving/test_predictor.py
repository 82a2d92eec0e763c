"""Two runtimes for one model: which of them answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from relevo.packaging import Package, TrainingResult, load_package, save_package, speed
from relevo.packaging.metadata import DataInfo
from relevo.serving import predictor as module
from relevo.serving.predictor import Predictor, load_large, load_predictor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Boosting, for which scikit-learn was found to be faster from 10 rows on."""
    monkeypatch.setattr(speed, "sklearn_from_rows", lambda *_: 10)
    result = TrainingResult(
        estimator=GradientBoostingClassifier(n_estimators=5, random_state=0).fit(X, Y),
        feature_names=("a", "b", "c"),
        data=DataInfo(name="d", digest="sha256:0", train_rows=60, validation_rows=0, test_rows=60),
        x_train=X,
        x_test=X,
        y_test=Y,
        metrics={},
        parameters={},
    )
    made = save_package(tmp_path / "p", result, name="m", version="1")
    assert load_package(made.folder).metadata.sklearn_from_rows == 10
    return made


def test_small_requests_stay_with_onnx_runtime_and_large_ones_do_once_it_can(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before scikit-learn is there ONNX Runtime answers all; afterwards only what is smaller than the package says. The same comes back."""
    asked: list[int] = []
    made = module._sklearn

    def watched(given: Package) -> Predictor:
        found = made(given)
        answer = found.answer
        monkeypatch.setattr(found, "answer", lambda rows, **how: (asked.append(len(rows)), answer(rows, **how))[1])
        return found

    monkeypatch.setattr(module, "_sklearn", watched)
    found = load_predictor(package)
    before = found.answer(X, probabilities=True)
    assert asked == []
    load_large(package, found)
    asked.clear()
    after = found.answer(X, probabilities=True)
    found.answer(X[:9], probabilities=False)
    assert asked == [60]
    assert before[0].tolist() == after[0].tolist()
    np.testing.assert_allclose(before[1], after[1], rtol=0, atol=1e-15)
    assert found.seconds(9) < float("inf")
    assert found.seconds(10) < float("inf")


def test_a_package_with_one_runtime_loads_nothing_more(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn is not imported for packages that do not want it."""
    about = package.metadata.model_copy(update={"sklearn_from_rows": None})
    alone = Package(package.folder, about, package.digests)
    found = load_predictor(alone)
    monkeypatch.setattr(module, "_sklearn", lambda _: pytest.fail("loaded"))
    load_large(alone, found)
