"""What a model answers, told from the fitted estimator: classes or values, one output or several, with probabilities or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from relevo import errors
from relevo.packaging.metadata import Classes

__all__ = ["Outputs", "outputs_of"]

_QUANTILES = np.linspace(0.1, 0.9, 9)


@dataclass(frozen=True, slots=True)
class Outputs:
    """As `Metadata` has them."""

    task: Literal["classification", "regression"]
    classes: Classes = ()
    targets: tuple[str, ...] = ()
    target_classes: tuple[Classes, ...] = ()
    value_edges: tuple[float, ...] = ()
    probabilities: bool = False


def outputs_of(estimator: Any, x_test: Any, y_test: Any, target_names: tuple[str, ...], name: str) -> Outputs:
    """Describe the answers of a fitted classifier or regressor, of one output or of as many as `y_test` has columns.

    Raises:
        errors.BadInput: it is neither, is not fitted, or its outputs have classes of several kinds.
    """
    from sklearn.base import is_regressor

    width = np.asarray(y_test).shape[1] if np.ndim(y_test) == 2 else 0
    targets = (target_names or tuple(f"output_{i}" for i in range(width))) if width else ()
    if len(targets) != width:
        raise errors.BadInput(f"model {name}: target_names has {len(targets)} names, but y_test {width} columns")
    if is_regressor(estimator):
        return Outputs("regression", targets=targets, value_edges=_edges(estimator, x_test, name) if not width else ())
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise errors.BadInput(
            f"model {name}: the estimator is not a fitted classifier (it has no classes_) and no fitted regressor"
        )
    likely = hasattr(estimator, "predict_proba")
    if not width:
        return Outputs("classification", classes=tuple(np.asarray(classes).tolist()), probabilities=likely)
    # A list of classes per output, or one array of outputs that are each on or off.
    each = [tuple(np.asarray(c).tolist()) for c in classes] if isinstance(classes, list) else [(0, 1)] * width
    if len({type(c[0]) is str for c in each}) > 1:
        raise errors.BadInput(
            f"model {name}: some of its outputs are texts and some are numbers",
            next_step="Give all outputs classes of one kind, or package one model per output.",
        )
    return Outputs(
        "classification",
        targets=targets,
        target_classes=tuple(each),
        probabilities=likely and len({len(c) for c in each}) == 1,
    )


def _edges(estimator: Any, x_test: Any, name: str) -> tuple[float, ...]:
    from sklearn.exceptions import NotFittedError

    try:
        values = np.asarray(estimator.predict(x_test), np.float64)
    except NotFittedError as error:
        raise errors.BadInput(f"model {name}: the estimator is not fitted: {error}") from error
    except Exception:  # it raises on some row of the test set: then its values are not counted by size
        return ()
    return tuple(np.unique(np.quantile(values, _QUANTILES)).tolist())
