"""Reading the rows that are replayed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from loadtests.rows import class_name, read_rows
from relevo.errors import BadInput


def body(payload: bytes) -> dict[str, object]:
    head, _, rest = payload.partition(b"\r\n\r\n")
    assert head == b"Content-Length: %d" % len(rest)
    document: dict[str, object] = orjson.loads(rest)
    return document


def test_npz_rows_become_v2_requests_with_their_labels(tmp_path: Path) -> None:
    """Each row is one tensor of shape [1, features], exact to the last bit, and keeps its label."""
    x = np.array([[0.1, 2.0], [1e-300, -3.5]])
    np.savez(tmp_path / "heldout.npz", x=x, y=np.array([0, 2]), feature_names=np.array(["a", "b"]))
    rows = read_rows(tmp_path / "heldout.npz", input_name="x")
    assert [row.label for row in rows] == ["0", "2"]
    tensors = [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": values} for values in x.tolist()]
    assert [body(row.payload) for row in rows] == [{"inputs": [tensor]} for tensor in tensors]


def test_csv_rows_equal_npz_rows(tmp_path: Path) -> None:
    """The same rows in a CSV file, with y anywhere among the columns, make the same requests and labels."""
    (tmp_path / "r.csv").write_text("a,y,b\n0.5,1,2\n3,0,4.25\n")
    np.savez(tmp_path / "r.npz", x=np.array([[0.5, 2], [3, 4.25]]), y=np.array([1.0, 0.0]))
    assert read_rows(tmp_path / "r.csv", input_name="x") == read_rows(tmp_path / "r.npz", input_name="x")


def test_rows_may_have_no_labels(tmp_path: Path) -> None:
    """Without y there are predictions and no right or wrong."""
    (tmp_path / "r.csv").write_text("a,b\n0.5,2\n")
    np.savez(tmp_path / "r.npz", x=np.ones((1, 2)))
    assert [read_rows(tmp_path / name, input_name="x")[0].label for name in ("r.csv", "r.npz")] == [None, None]


@pytest.mark.parametrize(
    ("value", "name"),
    [(1, "1"), (1.0, "1"), (np.float32(2), "2"), (np.int64(3), "3"), ("a", "a"), (0.5, "0.5"), (b"c", "c")],
)
def test_equal_classes_have_equal_names(value: object, name: str) -> None:
    """A label and a prediction of the same class compare equal, however each is typed."""
    assert class_name(value) == name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no rows"),
        ("a,y\n", "no rows"),
        ("a,y\n1,2,3\n", "line 2 has 3 fields"),
        ("a,y\n1,0\nx,0\n", "line 3"),
        ("a,y\nnan,0\n", "row 0 holds a number that is not finite"),
        ("y\n0\n", "shape"),
    ],
)
def test_a_bad_csv_file_is_refused_with_its_line(tmp_path: Path, content: str, reason: str) -> None:
    """The message names the file and where in it the trouble is."""
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(BadInput, match=reason) as refused:
        read_rows(tmp_path / "bad.csv", input_name="x")
    assert "bad.csv" in str(refused.value)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"rows": np.ones((2, 2))}, "no array x"),
        ({"x": np.ones(3)}, "shape"),
        ({"x": np.ones((0, 3))}, "shape"),
        ({"x": np.ones((2, 2)), "y": np.ones(3)}, "y has shape"),
        ({"x": np.array([[1.0, np.inf]])}, "not finite"),
        ({"x": np.array([["a", "b"]])}, "cannot be read"),
        ({"x": np.array([[object()]], dtype=object)}, "cannot be read"),
    ],
)
def test_a_bad_npz_file_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], reason: str) -> None:
    """Missing arrays, wrong shapes and pickled objects are refused by name; nothing in the file is ever executed."""
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=reason):
        read_rows(tmp_path / "bad.npz", input_name="x")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 truncated"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no archive is bad input, not a traceback; so are a single array and a missing file."""
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read"):
        read_rows(tmp_path / "bad.npz", input_name="x")
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(BadInput, match="one array"):
        read_rows(tmp_path / "one.npy", input_name="x")
    with pytest.raises(BadInput, match="no such file"):
        read_rows(tmp_path / "none.npz", input_name="x")
