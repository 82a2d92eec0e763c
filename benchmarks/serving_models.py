"""The models that servers are compared by, and the requests that each server is asked. Used by `benchmarks.serving`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving_load import Load
from relevo.packaging import Package, TrainingResult, save_package
from relevo.packaging.metadata import DataInfo

__all__ = ["FORMS", "MODELS", "Question", "make_package"]

FORMS = ("JSON", "binary")
PATH = "/v2/models/model/infer"
_WORDS = 2000
_WORDS_IN_A_TEXT = 20


def _forest(trees: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(trees, random_state=0, n_jobs=1)


def _boosting() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(random_state=0)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)


MODELS: dict[str, Callable[[], Any]] = {
    "rf100": lambda: _forest(100),
    "rf500": lambda: _forest(500),
    "boosting": _boosting,
    "logistic": _logistic,
    "text": _logistic,
}
"""Classifiers of iris, scaled first, but for "text": TF-IDF and a logistic regression."""


def _texts(count: int) -> Any:
    """Texts of made-up words, common ones more often."""
    rng = np.random.default_rng(0)
    words = [f"word{index}" for index in range(_WORDS)]
    share = 1 / np.arange(1, _WORDS + 1)
    picked = rng.choice(_WORDS, (count, _WORDS_IN_A_TEXT), p=share / share.sum())
    return np.array([" ".join(words[index] for index in text) for text in picked], dtype=object)


def make_package(folder: Path, model: str) -> Package:
    """A package of that model, trained on two thirds of its rows."""
    from sklearn.datasets import load_iris
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if model == "text":
        x: Any = _texts(600)
        y = np.array([len(text.split("word1")) % 2 for text in x])
        first, names = TfidfVectorizer(), ["review"]
    else:
        x, y = load_iris(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(x))
        x, y = x[order], y[order]
        first, names = StandardScaler(), ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    cut = len(x) * 2 // 3
    estimator = make_pipeline(first, MODELS[model]()).fit(x[:cut], y[:cut])
    accuracy = {"accuracy": float(estimator.score(x[cut:], y[cut:]))}
    result = TrainingResult(
        estimator=estimator,
        feature_names=tuple(names),
        data=DataInfo(
            name=model, digest="sha256:" + "0" * 64, train_rows=cut, validation_rows=0, test_rows=len(x) - cut
        ),
        x_train=x[:cut],
        x_test=x[cut:],
        y_test=y[cut:],
        metrics={"validation": accuracy, "test": accuracy, "baseline": accuracy},
        parameters={},
    )
    return save_package(folder / model, result, name="model", version="1")


@dataclass(frozen=True, slots=True)
class Question:
    """The held-out rows, repeated to this many, in this form."""

    package: Package
    rows: int
    form: str

    def load(self, server: str, port: int) -> Load:
        """The request to this server. MLServer has no binary tensors over REST: it gets its JSON."""
        x = self.package.heldout().x
        x = np.resize(x, (self.rows, *x.shape[1:]))
        takes = self.package.metadata.input
        item: dict[str, Any] = {"name": takes.name, "shape": list(x.shape), "datatype": takes.datatype}
        if self.form == "binary" and server != "mlserver":
            raw = _bytes(x)
            head = json.dumps({"inputs": [item | {"parameters": {"binary_data_size": len(raw)}}],
                               "parameters": {"binary_data_output": True}}).encode()  # fmt: skip
            headers = (
                ("content-type", "application/octet-stream"),
                ("inference-header-content-length", str(len(head))),
            )
            return Load(port, PATH, head + raw, headers)
        item["data"] = x.ravel().tolist()
        if takes.kind == "text" and server == "mlserver":
            item["parameters"] = {"content_type": "str"}
        return Load(port, PATH, json.dumps({"inputs": [item]}).encode())


def _bytes(x: Any) -> bytes:
    if x.ndim == 2:
        return bytes(x.tobytes())
    texts = [str(text).encode() for text in x]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
