"""Does the ONNX form answer as scikit-learn does? Asked on the rows where they are most likely to differ.

Rows: the test set; random rows within (and somewhat beyond) the training ranges; rows next to the split thresholds of tree
ensembles, where one rounding decides the class; and rows on both sides of class boundaries, found by bisection, for any estimator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo.packaging.metadata import LARGEST_PROBABILITY_DIFFERENCE, Parity
from relevo.packaging.session import open_session
from relevo.packaging.trees import is_tree_ensemble, splits_of

__all__ = ["Prober", "boundary_rows", "check_parity", "onnx_prober", "probe_rows", "sklearn_prober", "threshold_rows"]

Rows = NDArray[np.float64]
Answer = tuple[NDArray[Any], NDArray[np.float64] | None]
Prober = Callable[[Rows], Answer]
"""Classes [rows], and probabilities [rows, classes] where the model has them."""

_RANDOM_ROWS = 2000
_ROWS_ONE_BY_ONE = 300
_THRESHOLD_ROWS = 6000
_BOUNDARY_PAIRS = 40
_BISECTIONS = 60
_VALUE_TOLERANCE = 1e-12


def sklearn_prober(estimator: Any) -> Prober:
    """How scikit-learn answers."""

    def answer(rows: Rows) -> Answer:
        probabilities = estimator.predict_proba(rows) if hasattr(estimator, "predict_proba") else None
        return estimator.predict(rows), probabilities

    return answer


def onnx_prober(model: bytes) -> Prober:
    """How ONNX Runtime answers."""
    session = open_session(model)
    name = session.get_inputs()[0].name

    def answer(rows: Rows) -> Answer:
        labels, *scores = session.run(None, {name: rows})
        return labels, np.asarray(scores[0], dtype=np.float64) if scores else None

    return answer


def check_parity(reference: Prober, other: Prober, rows: Rows) -> Parity:
    """Compare two forms of one model row by row; `reason` describes the first difference in words."""
    if isinstance(_answer(reference, rows), str) and len(rows) > _ROWS_ONE_BY_ONE:
        # The model raises on some rows, so each must be asked alone, which is slow: a sample has to do.
        rows = np.random.default_rng(0).permutation(rows)[:_ROWS_ONE_BY_ONE]
    differing, largest, reason = 0, 0.0, ""
    for chunk in np.array_split(rows, max(1, len(rows) // 500)):
        count, difference, why = _compare(reference, other, chunk)
        differing, largest, reason = differing + count, max(largest, difference), reason or why
    if not reason and largest > LARGEST_PROBABILITY_DIFFERENCE:
        reason = f"their probabilities differ by up to {largest:.2g}"
    return Parity(
        checked=True,
        rows=len(rows),
        differing_classes=differing,
        largest_probability_difference=largest,
        reason=reason,
    )


def _compare(reference: Prober, other: Prober, rows: Rows) -> tuple[int, float, str]:
    expected, actual = _answer(reference, rows), _answer(other, rows)
    if isinstance(expected, str) or isinstance(actual, str):
        if len(rows) == 1:
            if isinstance(expected, str) and isinstance(actual, str):
                return 0, 0.0, ""
            who, why = ("scikit-learn", expected) if isinstance(expected, str) else ("ONNX Runtime", actual)
            return 1, 0.0, f"only {who} raises: {why}"
        # One bad row spoils a whole batch: halve it until each row's own answer is known.
        middle = len(rows) // 2
        left, right = _compare(reference, other, rows[:middle]), _compare(reference, other, rows[middle:])
        return left[0] + right[0], max(left[1], right[1]), left[2] or right[2]
    differs = _differs(np.asarray(expected[0]), np.asarray(actual[0]))
    difference = 0.0
    if expected[1] is not None and actual[1] is not None:
        difference = float(np.abs(expected[1] - actual[1]).max(initial=0.0))
    why = ""
    if differs.any():
        first = int(differs.argmax())
        why = f"scikit-learn says {expected[0][first]}, ONNX Runtime says {actual[0][first]} for {rows[first].tolist()[:8]}"
    return int(differs.sum()), difference, why


def _differs(expected: NDArray[Any], actual: NDArray[Any]) -> NDArray[np.bool_]:
    """Row by row; the values of a regressor may differ in what `exp` and `log` of two libraries round differently."""
    if expected.shape != actual.shape:
        return np.ones(len(expected), bool)
    if expected.dtype.kind == "f" and actual.dtype.kind == "f":
        different = ~np.isclose(expected, actual, rtol=_VALUE_TOLERANCE, atol=_VALUE_TOLERANCE, equal_nan=True)
    else:
        different = expected.astype(str) != actual.astype(str)
    return np.asarray(different.reshape(len(different), -1).any(axis=1))


def _answer(prober: Prober, rows: Rows) -> Answer | str:
    try:
        return prober(rows)
    except Exception as error:  # any exception is an answer here: does the other form raise too?
        return f"{type(error).__name__}: {str(error)[:200]}"


def probe_rows(estimator: Any, x_train: Rows, x_test: Rows, *, seed: int = 0) -> Rows:
    """The rows to compare on, shape [rows, features]. Where training rows had missing values, some of these have."""
    rng = np.random.default_rng(seed)
    low, high = np.nanmin(x_train, axis=0), np.nanmax(x_train, axis=0)
    margin = 0.1 * (high - low)
    random = rng.uniform(low - margin, high + margin, (_RANDOM_ROWS, x_train.shape[1]))
    # Values as they occur, freely combined: real data is often on a grid (tenths, whole numbers) that uniform rows never hit.
    shuffled = np.column_stack([rng.choice(column, _RANDOM_ROWS) for column in x_train.T])
    near = threshold_rows(estimator, x_test, rng)
    classifies = hasattr(estimator, "classes_")
    boundary = boundary_rows(estimator, np.concatenate([x_test, random[:200]]), rng) if classifies else x_test[:0]
    return np.concatenate([x_test, random, shuffled, near, boundary]).astype(np.float64)


def threshold_rows(estimator: Any, x_test: Rows, rng: np.random.Generator) -> Rows:
    """Test rows with one value moved onto, just below and just above a split threshold, in float32 and in float64.

    Empty for anything but tree ensembles whose thresholds can be carried back to the input (every earlier step has
    `inverse_transform`).
    """
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    *before, last = steps
    if not is_tree_ensemble(last) or not all(hasattr(s, "inverse_transform") for s in before):
        return np.empty((0, x_test.shape[1]))
    trees = splits_of(last)
    splits = np.concatenate([np.column_stack([t.feature, t.threshold])[t.left >= 0] for t in trees])
    splits = splits[np.isfinite(splits[:, 1])]
    if len(splits) == 0:
        return np.empty((0, x_test.shape[1]))
    splits = splits[rng.permutation(len(splits))[: _THRESHOLD_ROWS // 5]]
    feature, threshold = splits[:, 0].astype(int), splits[:, 1]
    index = np.arange(len(splits))
    base = x_test[rng.integers(len(x_test), size=len(splits))]
    inside = _apply(before, base, "transform")
    inside[index, feature] = threshold
    at = _apply(reversed(before), inside, "inverse_transform")[index, feature]
    single = at.astype(np.float32)
    moved = []
    for value in (at, np.nextafter(at, np.inf), single, np.nextafter(single, np.float32(np.inf)),
                  np.nextafter(single, np.float32(-np.inf))):  # fmt: skip
        rows = base.copy()
        rows[index, feature] = value
        moved.append(rows)
    return np.concatenate(moved)


def _apply(steps: Any, rows: Rows, method: str) -> Rows:
    for step in steps:
        rows = getattr(step, method)(rows)
    return np.array(rows, dtype=np.float64)


def boundary_rows(estimator: Any, candidates: Rows, rng: np.random.Generator) -> Rows:
    """Pairs of rows, as near to each other as floats can be, between which the class changes. Empty if the model raises on them."""
    try:
        classes = np.asarray(estimator.predict(candidates))
    except Exception:  # a model that raises on some rows is compared row by row elsewhere
        return np.empty((0, candidates.shape[1]))
    first, second = rng.integers(len(candidates), size=(2, _BOUNDARY_PAIRS * 4))
    apart = np.flatnonzero(classes[first] != classes[second])[:_BOUNDARY_PAIRS]
    left, right = candidates[first[apart]].copy(), candidates[second[apart]].copy()
    if len(apart) == 0:
        return np.empty((0, candidates.shape[1]))
    left_class = classes[first[apart]]
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        try:
            same = np.asarray(estimator.predict(middle)) == left_class
        except Exception:
            return np.empty((0, candidates.shape[1]))
        left[same], right[~same] = middle[same], middle[~same]
    return np.concatenate([left, right])
