"""A small package, made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from relevo.packaging import TrainingResult, save_package
from relevo.packaging.metadata import DataInfo


def make_result(*, seed: int = 0, classes: tuple[int, ...] = (0, 1, 2)) -> TrainingResult:
    """A small forest on three separable blobs."""
    rng = np.random.default_rng(seed)
    y = np.repeat(classes, 30)
    x = rng.normal(size=(len(y), 3)) + 2 * np.repeat(np.arange(len(classes)), 30)[:, None]
    model = Pipeline([("scale", StandardScaler()), ("forest", RandomForestClassifier(8, random_state=seed))]).fit(x, y)
    return TrainingResult(
        estimator=model,
        feature_names=("a", "b", "c"),
        data=DataInfo(name="blobs", digest="sha256:0", train_rows=90, validation_rows=0, test_rows=30),
        x_train=x,
        x_test=x[::3],
        y_test=y[::3],
        metrics={"test": {"accuracy": 0.9, "failed_rows": 0.0}, "baseline": {"accuracy": 0.3}},
        parameters={"trees": 8},
    )


@pytest.fixture(scope="session")
def result() -> TrainingResult:
    """What a training run hands over."""
    return make_result()


@pytest.fixture(scope="session")
def pristine(result: TrainingResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that no test changes."""
    return save_package(tmp_path_factory.mktemp("packages") / "1", result, name="blobs", version="1").folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the package that a test may spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "package"))


@pytest.fixture
def make(tmp_path: Path, result: TrainingResult) -> Callable[..., Path]:
    """Write a further package; keyword arguments replace fields of the training result."""

    def write(version: str, **changes: object) -> Path:
        return save_package(tmp_path / version, replace(result, **changes), name="blobs", version=version).folder  # type: ignore[arg-type]

    return write
