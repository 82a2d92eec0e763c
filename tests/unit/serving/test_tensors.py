"""From requests to rows."""

from __future__ import annotations

import numpy as np
import pytest

from relevo.serving.limits import MAX_ROWS
from relevo.serving.refusals import InvalidRequest
from relevo.serving.tensors import Tensor, rows_from_lists, rows_from_tensors
from tests.unit.serving.about import about

ABOUT = about()


def infer(*inputs: Tensor):
    """The rows that a request with these inputs gives."""
    return rows_from_tensors(inputs, ABOUT)


def test_flat_and_nested_data_mean_the_same() -> None:
    """V2 allows a tensor's values flat or row by row."""
    flat = infer(Tensor("x", [2, 2], "FP32", [1.0, 2, 3, 4]))
    nested = infer(Tensor("x", [2, 2], "FP32", [[1.0, 2], [3, 4]]))
    np.testing.assert_array_equal(flat, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(flat, nested)


def test_one_input_per_feature_is_taken_in_any_order() -> None:
    """Columns may come as inputs of their own, of shape [rows] or [rows, 1]."""
    rows = infer(Tensor("b", [2], "INT32", [3, 4]), Tensor("a", [2, 1], "FP64", [1.0, 2.0]))
    np.testing.assert_array_equal(rows, [[1, 3], [2, 4]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint16"])
def test_binary_tensors_of_every_numeric_type_are_read(dtype: str) -> None:
    """Raw bytes are little-endian values of the declared type."""
    names = {"f": "FP", "i": "INT", "u": "UINT"}
    array = np.array([[1, 2], [3, 4]], dtype=dtype)
    datatype = f"{names[array.dtype.kind]}{array.dtype.itemsize * 8}"
    item = Tensor("x", [2, 2], datatype, raw=array.tobytes())
    np.testing.assert_array_equal(infer(item), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Tensor("y", [1, 2], "FP64", [1, 2]), "takes one input called 'x'"),
        (Tensor("x", [1, 3], "FP64", [1, 2, 3]), r"must be \[rows, 2\]"),
        (Tensor("x", [2], "FP64", [1, 2]), r"must be \[rows, 2\]"),
        (Tensor("x", [-1, 2], "FP64", [1, 2]), "-1 rows"),
        (Tensor("x", [0, 2], "FP64", []), "0 rows"),
        (Tensor("x", [MAX_ROWS + 1, 2], "FP64", []), "rows, must be 1 to"),
        (Tensor("x", [2, 2], "FP64", [1, 2]), "needs 4"),
        (Tensor("x", [1, 2], "BYTES", ["a", "b"]), "not numeric"),
        (Tensor("x", [1, 2], "BOOL", [True, False]), "not numeric"),
        (Tensor("x", [1, 2], "FP64", ["1", "2"]), "is a string"),
        (Tensor("x", [1, 2], "FP64", [None, 2]), "is null"),
        (Tensor("x", [1, 2], "FP64", [True, 2]), "is a boolean"),
        (Tensor("x", [1, 2], "FP64", [{}, 2]), "is an object"),
        (Tensor("x", [1, 2], "FP64", [float("nan"), 2]), "feature 'a': nan is not finite"),
        (Tensor("x", [1, 2], "FP64", [1, float("inf")]), "feature 'b': inf is not finite"),
        (Tensor("x", [1, 2], "FP64", [1, 1e31]), "is beyond"),
        (Tensor("x", [1, 2], "FP64", [1, 10**400]), "whole number that FP64 cannot"),
        (Tensor("x", [1, 2], "INT64", [1, 1.5]), "not all values are whole numbers"),
        (Tensor("x", [1, 2], "FP64", [[1], 2]), "mixes values and lists"),
        (Tensor("x", [1, 2], "FP64", [[[1, 2]]]), "nested deeper"),
        (Tensor("x", [1, 2], "FP64", None), "has no data"),
    ],
)
def test_what_the_model_does_not_take_is_refused_with_field_and_reason(item: Tensor, reason: str) -> None:
    """Nothing that numpy would silently convert reaches the model."""
    with pytest.raises(InvalidRequest, match=reason):
        infer(item)


def test_a_raw_tensor_must_be_as_long_as_its_shape_says() -> None:
    """Bytes that are too few or too many are no tensor."""
    item = Tensor("x", [1, 2], "FP64", raw=b"\0" * 15)
    with pytest.raises(InvalidRequest, match="has 15 bytes, but shape"):
        infer(item)


@pytest.mark.parametrize(
    "value", [None, [], {}, "a", [1, 2], [[1]], [[1, 2], [1]], [[1, "2"]], [[1, None]], [[1, [2]]]]
)
def test_lists_that_are_no_rows_are_refused(value: object) -> None:
    """V1 bodies are held to the same rules."""
    with pytest.raises(InvalidRequest, match="instances"):
        rows_from_lists(value, "instances", ABOUT)
