"""Reading the answer to one row."""

from __future__ import annotations

import orjson
import pytest

from loadtests.answers import Answer, read_answer


def outputs(*named: tuple[str, object]) -> bytes:
    return orjson.dumps({"outputs": [{"name": name, "data": data} for name, data in named]})


@pytest.mark.parametrize(
    ("body", "predicted"),
    [
        (outputs(("predict", [2])), "2"),
        (outputs(("predict_proba", [0.1, 0.9]), ("predict", [1])), "1"),
        (outputs(("label", ["setosa"])), "setosa"),
        (outputs(("predict", [1.0])), "1"),
    ],
)
def test_the_class_is_read_from_predict_or_else_the_first_output(body: bytes, predicted: str) -> None:
    """The output "predict" is the class, wherever it stands; a server that names it otherwise is understood too."""
    assert read_answer(200, body) == Answer(predicted=predicted)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, outputs(("predict", [1]))),
        (400, b"{}"),
        (204, b""),
        (200, b""),
        (200, b"\xff"),
        (200, b"[]"),
        (200, b"null"),
        (200, b"{}"),
        (200, b'{"outputs": []}'),
        (200, b'{"outputs": {}}'),
        (200, b'{"outputs": [1]}'),
        (200, b'{"outputs": [{"name": "predict"}]}'),
        (200, outputs(("predict", []))),
        (200, outputs(("predict", [1, 2]))),
        (200, outputs(("predict", [[1]]))),
        (200, outputs(("predict", [None]))),
        (200, outputs(("predict", 1))),
    ],
)
def test_any_other_answer_is_a_problem(status: int, body: bytes) -> None:
    """Our rows are valid: whatever is not a 200 with one prediction is an error of the model, in words, and no class."""
    answer = read_answer(status, body)
    assert answer.problem
    assert not answer.predicted
