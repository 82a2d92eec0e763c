"""Tree ensembles as ONNX that answers as scikit-learn does to the last bit: `tree_graph`. `export` puts the steps before them in front.

skl2onnx rounds thresholds and leaves to float32, so that a row next to a threshold goes the other way and a close vote falls otherwise.
Here one `TreeEnsemble` operator of float64 compares what scikit-learn compares (forests and gradient boosting round their input to float32
first, histogram boosting does not) and adds what scikit-learn adds, in the same order, and the division, link and vote follow in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "SCORES", "Splits", "is_tree_ensemble", "splits_of", "tree_graph"]

CLASSES, SCORES = "label", "probabilities"
"""The graph's outputs. A regressor has the first only, and its values are in it."""
_DOUBLE = 11  # onnx.TensorProto.DOUBLE
_FLOAT = 1
_LESS_OR_EQUAL, _SUM, _AS_IT_IS = 0, 1, 0
_OPSET, _ML_OPSET, _IR = 17, 5, 10

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Splits:
    """One tree. Node 0 is the root and a child comes after its parent; `left` is below zero at leaves.

    `values` has shape [nodes, targets]: what a leaf adds to each target.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Values
    missing_left: NDArray[np.bool_]
    values: Values
    first_target: int = 0


@dataclass(slots=True)
class _Nodes:
    """All trees, as the operator's attributes have them."""

    roots: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    true_child: list[int] = field(default_factory=list)
    true_is_leaf: list[int] = field(default_factory=list)
    false_child: list[int] = field(default_factory=list)
    false_is_leaf: list[int] = field(default_factory=list)
    leaf_target: list[int] = field(default_factory=list)
    leaf_weight: list[float] = field(default_factory=list)

    def add_constant(self, value: float, target: int) -> None:
        """A tree that adds `value` whatever the row."""
        one = np.array([[value]])
        nothing = np.array([-1])
        self.add(Splits(nothing, nothing, nothing, one[0], nothing > 0, one), value=one[:, 0], target=[target])

    def add(self, tree: Splits, *, value: Values, target: list[int]) -> None:
        """One tree that adds `value[leaf]` to `target[leaf]`, or to `target[0]` if all leaves add to the same."""
        inner = _worth_asking(tree, value if len(target) == 1 else None)
        first = len(self.feature)
        place = np.cumsum(inner) - 1 + first
        self.roots.append(first)
        if not inner[0]:  # the operator has no tree without a question
            self.feature.append(0)
            self.threshold.append(0.0)
            self.missing_left.append(0)
            for child, is_leaf in ((self.true_child, self.true_is_leaf), (self.false_child, self.false_is_leaf)):
                child.append(self._leaf(0, value, target))
                is_leaf.append(1)
            return
        for node in np.flatnonzero(inner):
            self.feature.append(int(tree.feature[node]))
            self.threshold.append(float(tree.threshold[node]))
            self.missing_left.append(int(tree.missing_left[node]))
            sides = (
                (tree.left[node], self.true_child, self.true_is_leaf),
                (tree.right[node], self.false_child, self.false_is_leaf),
            )
            for child, children, is_leaf in sides:
                children.append(int(place[child]) if inner[child] else self._leaf(int(child), value, target))
                is_leaf.append(0 if inner[child] else 1)

    def _leaf(self, node: int, value: Values, target: list[int]) -> int:
        # Below a node at which nothing is asked all leaves have the same value: the node's first leaf will do.
        self.leaf_target.append(target[0] if len(target) == 1 else target[node])
        self.leaf_weight.append(float(value[node]))
        return len(self.leaf_weight) - 1


def _worth_asking(tree: Splits, value: Values | None) -> NDArray[np.bool_]:
    """The inner nodes that a row may come to and that decide something. With `value`, its constant subtrees are cut (in place)."""
    inner = tree.left >= 0
    if value is None:
        return inner
    asked = inner.copy()
    for node in np.flatnonzero(inner)[::-1]:
        left, right = tree.left[node], tree.right[node]
        if not asked[left] and not asked[right] and value[left] == value[right]:
            asked[node] = False
            value[node] = value[left]
    reached = np.zeros(len(inner), bool)
    reached[0] = True
    for node in np.flatnonzero(asked):
        if reached[node]:
            reached[tree.left[node]] = reached[tree.right[node]] = True
    return asked & reached


def is_tree_ensemble(estimator: Any) -> bool:
    """Whether `tree_graph` knows this kind of estimator: one with several outputs is left to scikit-learn if it classifies."""
    kind = type(estimator).__name__
    if kind in _FORESTS or kind in _TREES:
        return not (hasattr(estimator, "classes_") and estimator.n_outputs_ > 1)
    if kind in _BOOSTING:
        return type(estimator.init_).__name__ in ("DummyClassifier", "DummyRegressor", "str")
    if kind in _HISTOGRAM:
        return not any(predictor.nodes["is_categorical"].any() for row in estimator._predictors for predictor in row)
    return False


_FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier", "RandomForestRegressor", "ExtraTreesRegressor")
_TREES = ("DecisionTreeClassifier", "ExtraTreeClassifier", "DecisionTreeRegressor", "ExtraTreeRegressor")
_BOOSTING = ("GradientBoostingClassifier", "GradientBoostingRegressor")
_HISTOGRAM = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def splits_of(estimator: Any) -> list[Splits]:
    """The trees of an ensemble, in the order in which scikit-learn adds them up."""
    kind = type(estimator).__name__
    if kind in _HISTOGRAM:
        return [_histogram_tree(p.nodes, k) for row in estimator._predictors for k, p in enumerate(row)]
    if kind in _BOOSTING:
        rate = estimator.learning_rate
        return [_tree(t.tree_, rate, k) for row in estimator.estimators_ for k, t in enumerate(row)]
    return [_tree(t.tree_) for t in getattr(estimator, "estimators_", [estimator])]


def _tree(tree: Any, rate: float = 1.0, first_target: int = 0) -> Splits:
    # [nodes, outputs, classes]: one of the last two is 1.
    values = rate * tree.value.reshape(tree.node_count, -1)
    missing = tree.missing_go_to_left.astype(bool)
    return Splits(tree.children_left, tree.children_right, tree.feature, tree.threshold, missing, values, first_target)


def _histogram_tree(nodes: Any, first_target: int) -> Splits:
    leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    missing = nodes["missing_go_to_left"].astype(bool)
    feature = nodes["feature_idx"].astype(np.int64)
    return Splits(left, right, feature, nodes["num_threshold"], missing, nodes["value"][:, None], first_target)


def _collected(estimator: Any, targets: int) -> _Nodes:
    nodes = _Nodes()
    for target, start in enumerate(_start(estimator)):
        nodes.add_constant(float(start), target)
    for tree in splits_of(estimator):
        leaves = tree.left < 0
        width = tree.values.shape[1]
        if width > 1 and ((tree.values[leaves] != 0).sum(axis=1) == 1).all():
            # Each leaf speaks for one class, as in a tree grown to its end: one tree does for all.
            best = np.abs(tree.values).argmax(axis=1)
            nodes.add(tree, value=tree.values[np.arange(len(best)), best], target=best.tolist())
            continue
        for column in range(width):
            nodes.add(tree, value=tree.values[:, column].copy(), target=[tree.first_target + column])
    if max(nodes.leaf_target) >= targets:
        raise AssertionError("a tree adds to a target that is not there")
    return nodes


def _start(estimator: Any) -> Values:
    """What is there before the first tree adds to it, [targets]; nothing for what starts at zero."""
    kind = type(estimator).__name__
    if kind in _HISTOGRAM:
        return np.ravel(estimator._baseline_prediction)
    if kind in _BOOSTING:
        return np.ravel(estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32)))
    return np.empty(0)


@dataclass(slots=True)
class _Graph:
    """Nodes and constants of a graph under construction."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def add(self, operator: str, *inputs: Any, output: str | None = None, **attributes: Any) -> str:
        """Add a node; an input that is no name becomes a constant. Returns the output's name."""
        from onnx import helper

        name = output or f"{operator.lower()}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def _constant(self, value: Any) -> str:
        from onnx import helper, numpy_helper

        name = f"constant_{len(self.constants)}"
        array = np.asarray(value)
        if array.dtype.kind in "OUS":
            text = [str(item).encode() for item in array.ravel()]
            self.constants.append(helper.make_tensor(name, 8, array.shape, text))  # TensorProto.STRING
        else:
            self.constants.append(numpy_helper.from_array(array, name))
        return name


def tree_graph(estimator: Any, input_name: str) -> Any:
    """An ONNX model of a fitted tree ensemble: float64 rows [rows, features] in, `CLASSES` and `SCORES` out.

    A classifier's outputs are its classes [rows] and float64 probabilities [rows, classes], a regressor's its values, float64 [rows]
    or [rows, outputs].
    """
    from onnx import helper

    kind = type(estimator).__name__
    graph = _Graph()
    rows = input_name
    if kind not in _HISTOGRAM:
        rows = graph.add("Cast", graph.add("Cast", rows, to=_FLOAT), to=_DOUBLE)
    targets = _targets(estimator, kind)
    sums = _add_ensemble(graph, rows, _collected(estimator, targets), targets)
    if kind in _FORESTS:
        sums = graph.add("Div", sums, np.float64(len(estimator.estimators_)))
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        _add_values(graph, estimator, sums, targets)
    elif kind in _FORESTS or kind in _TREES:
        _add_classes(graph, classes, graph.add("ArgMax", sums, axis=1, keepdims=0))
        graph.add("Identity", sums, output=SCORES)
    else:
        _add_boosted_classes(graph, estimator, sums, strictly=kind in _HISTOGRAM)
    outputs = [
        helper.make_tensor_value_info(
            CLASSES, _class_type(classes), [None] if targets == 1 or classes is not None else [None, targets]
        )
    ]
    if classes is not None:
        outputs.append(helper.make_tensor_value_info(SCORES, _DOUBLE, [None, len(classes)]))
    taken = helper.make_tensor_value_info(input_name, _DOUBLE, [None, estimator.n_features_in_])
    made = helper.make_graph(graph.nodes, "trees", [taken], outputs, graph.constants)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    return helper.make_model(made, opset_imports=opsets, ir_version=_IR)


def _targets(estimator: Any, kind: str) -> int:
    if kind in _BOOSTING or kind in _HISTOGRAM:
        return int(estimator.n_trees_per_iteration_)
    classes = getattr(estimator, "classes_", None)
    return int(estimator.n_outputs_) if classes is None else len(classes)


def _class_type(classes: Any) -> int:
    if classes is None:
        return _DOUBLE
    return 8 if np.asarray(classes).dtype.kind in "OUS" else 7  # STRING, INT64


def _add_ensemble(graph: _Graph, rows: str, nodes: _Nodes, targets: int) -> str:
    from onnx import numpy_helper

    return graph.add(
        "TreeEnsemble",
        rows,
        domain="ai.onnx.ml",
        n_targets=targets,
        aggregate_function=_SUM,
        post_transform=_AS_IT_IS,
        tree_roots=nodes.roots,
        nodes_featureids=nodes.feature,
        nodes_splits=numpy_helper.from_array(np.array(nodes.threshold), "splits"),
        nodes_modes=numpy_helper.from_array(np.full(len(nodes.feature), _LESS_OR_EQUAL, np.uint8), "modes"),
        nodes_missing_value_tracks_true=nodes.missing_left,
        nodes_truenodeids=nodes.true_child,
        nodes_trueleafs=nodes.true_is_leaf,
        nodes_falsenodeids=nodes.false_child,
        nodes_falseleafs=nodes.false_is_leaf,
        leaf_targetids=nodes.leaf_target,
        leaf_weights=numpy_helper.from_array(np.array(nodes.leaf_weight), "weights"),
    )


def _add_classes(graph: _Graph, classes: Any, index: str) -> None:
    found = np.asarray(classes)
    graph.add("Gather", found if found.dtype.kind in "OUS" else found.astype(np.int64), index, output=CLASSES)


def _add_values(graph: _Graph, estimator: Any, sums: str, targets: int) -> None:
    link = type(estimator._loss.link).__name__ if hasattr(estimator, "_loss") else "IdentityLink"
    if link == "LogLink":
        sums = graph.add("Exp", sums)
    elif link != "IdentityLink":
        raise NotImplementedError(f"a regressor with {link}")
    graph.add(
        "Squeeze" if targets == 1 else "Identity", sums, *([np.array([1])] if targets == 1 else []), output=CLASSES
    )


def _add_boosted_classes(graph: _Graph, estimator: Any, sums: str, *, strictly: bool) -> None:
    link = type(estimator._loss.link).__name__
    if link == "MultinomialLogit":
        _add_classes(graph, estimator.classes_, graph.add("ArgMax", sums, axis=1, keepdims=0))
        graph.add("Softmax", sums, axis=1, output=SCORES)
        return
    score: Callable[[str], str] = {
        "LogitLink": lambda raw: raw,
        "HalfLogitLink": lambda raw: graph.add("Mul", raw, np.float64(2)),
    }[link]
    one = graph.add("Squeeze", sums, np.array([1]))
    second = graph.add("Greater" if strictly else "GreaterOrEqual", one, np.float64(0))
    _add_classes(graph, estimator.classes_, graph.add("Cast", second, to=7))
    likely = graph.add("Sigmoid", score(sums))
    graph.add("Concat", graph.add("Sub", np.float64(1), likely), likely, axis=1, output=SCORES)
