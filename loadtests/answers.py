"""What an answer to one V2 request of one row says: the predicted class, or what is wrong with it. Neighbours: `rows`, `tally`."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from loadtests.rows import class_name

__all__ = ["Answer", "read_answer"]

_OUTPUT = "predict"


@dataclass(frozen=True, slots=True)
class Answer:
    """A predicted class, or the problem; never both."""

    predicted: str = ""
    problem: str = ""


def read_answer(status: int, body: bytes) -> Answer:
    """Read the class from the output "predict", or from the first output where none has that name.

    Everything but a 200 with exactly one value is a problem: the rows are valid, so a 4xx is the model's fault too.
    """
    if status != 200:
        return Answer(problem=f"HTTP {status}")
    try:
        outputs = orjson.loads(body)["outputs"]
        output = next((output for output in outputs if output["name"] == _OUTPUT), outputs[0])
        data = output["data"]
    except orjson.JSONDecodeError:
        return Answer(problem="the answer is not JSON")
    except (KeyError, TypeError, IndexError, ValueError):
        return Answer(problem="the answer is not a V2 inference response")
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], str | int | float):
        return Answer(problem="the answer does not have one prediction for one row")
    return Answer(predicted=class_name(data[0]))
