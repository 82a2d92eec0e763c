"""Large bodies: decoded beside the event loop, refused with the reason, and never given to KServe's application."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from model import train
from relevo.serving.large import LARGE_BODY_BYTES, LargeBodies
from relevo.serving.limits import MAX_BODY_BYTES, MAX_OTHER_BODY_BYTES
from tests.component.both_paths import BINARY, JSON, LENGTH, PATH, Served
from tests.component.test_serving_kinds import package

pytestmark = pytest.mark.component

FILL = MAX_BODY_BYTES - 1000
INPUT = {"name": "x", "shape": [10_000, 4], "datatype": "FP64"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    """A model of numbers and one of texts."""
    folder = tmp_path_factory.mktemp("packages")
    assert train.main(["iris", "--version", "1", "--output", str(folder / "iris"), "--trees", "8"]) == 0
    return {"numbers": Served(folder / "iris"), "text": Served(package(folder, "text"))}


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop."""
    running = asyncio.new_event_loop()
    yield running
    running.close()


def numbers(rows: int, *, spaces: int = 0) -> bytes:
    """A right request in JSON."""
    item = INPUT | {"shape": [rows, 4], "data": [5.123456789, 3.5, 1.4, 0.2] * rows}
    return json.dumps({"inputs": [item]}).encode() + b" " * spaces


ROWS = b'{"inputs":[{"name":"x","shape":[4000000,4],"datatype":"FP64","data":[1'
TEXTS = b'{"inputs":[{"name":"review","shape":[1],"datatype":"BYTES","data":['
WRONG: dict[str, tuple[str, bytes, str]] = {
    "too many values": ("numbers", ROWS + b",1" * (FILL // 2) + b"]}]}", "more values"),
    "empty lists": ("numbers", b"[" + b"[]," * (FILL // 3) + b"[]]", "more values"),
    "a long number": ("numbers", ROWS + b",2,3," + b"9" * FILL + b"]}]}", "body"),
    "deep nesting": ("numbers", b"[" * FILL, "body"),
    "a long string": ("numbers", b'{"inputs":"' + b"a" * FILL + b'"}', "Expected `array`"),
    "an unknown field": ("numbers", b'{"inputs":[],"a":"' + b"a" * FILL + b'"}', "unknown field"),
    "another input": ("numbers", numbers(10_000).replace(b'"x"', b'"y"'), "called 'x'"),
    "too many rows": ("numbers", numbers(10_001), "10001 rows"),
    "no UTF-8": ("numbers", b'{"id":"\xff' + b"a" * FILL + b'"}', "body"),
    "texts that are lists": ("text", TEXTS + b"[]," * (FILL // 3) + b"[]]}]}", "array"),
    "texts that are numbers": ("text", TEXTS + b"1" + b",1" * (FILL // 2) + b"]}]}", "values"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_large_wrong_body_is_refused_without_kserve(
    served: dict[str, Served], loop: asyncio.AbstractEventLoop, case: str
) -> None:
    """400 with the reason, counted as invalid, whatever 16 MiB it is."""
    model, body, reason = WRONG[case]
    both = served[model]
    answer = loop.run_until_complete(both.ask(both.fast, body, PATH, JSON))
    assert (answer.status, answer.fast) == (400, True)
    assert reason in answer.body["error"]
    assert sum(answer.counted) == 1


def test_a_large_right_body_is_answered(served: dict[str, Served], loop: asyncio.AbstractEventLoop) -> None:
    """As many rows as are taken, in JSON and as bytes; padded to the limit; and a long text."""
    both = served["numbers"]
    assert len(numbers(10_000)) > LARGE_BODY_BYTES
    right = loop.run_until_complete(both.ask(both.fast, numbers(10_000, spaces=2**23), PATH, JSON))
    assert (right.status, right.body["outputs"][0]["shape"]) == (200, [10_000])
    raw = np.tile([5.1, 3.5, 1.4, 0.2], 10_000).tobytes()
    head = json.dumps({"inputs": [INPUT | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    headers = [*BINARY, (LENGTH, b"%d" % len(head))]
    binary = loop.run_until_complete(both.ask(both.fast, head + raw, PATH, headers))
    assert binary.body["outputs"][0]["data"] == right.body["outputs"][0]["data"]
    cut = loop.run_until_complete(both.ask(both.fast, head + raw[:-1], PATH, headers))
    assert (cut.status, cut.fast) == (400, True)
    text = {"name": "review", "shape": [1], "datatype": "BYTES", "data": ["good, " * 10**6]}
    words = served["text"]
    answer = loop.run_until_complete(words.ask(words.fast, json.dumps({"inputs": [text]}).encode(), PATH, JSON))
    assert answer.body["outputs"][0]["data"] == ["up"]


@pytest.mark.parametrize("path", ["/v1/models/iris:predict", "/predict", PATH])
def test_what_is_decoded_on_the_loop_may_not_be_as_large(
    served: dict[str, Served], loop: asyncio.AbstractEventLoop, path: str
) -> None:
    """The other protocols, and V2 in another content type, are answered 413 from 1 MiB on."""
    headers = [(b"content-type", b"application/vnd.x+json")] if path == PATH else JSON
    both = served["numbers"]
    for app in (both.fast, both.slow):
        answer = loop.run_until_complete(both.ask(app, b" " * (MAX_OTHER_BODY_BYTES + 1), path, headers))
        assert answer.status == 413


def test_the_event_loop_goes_on_while_a_body_is_decoded(
    served: dict[str, Served], loop: asyncio.AbstractEventLoop
) -> None:
    """What decodes waits here for the loop to run: it would wait for ever if it held it."""
    revision = served["numbers"].revision
    ran = threading.Event()

    class Waits:
        """In place of the fast path."""

        def understood(self, body: bytes, json_length: int) -> Any:
            assert ran.wait(60)
            return body

    async def run() -> bytes:
        task = asyncio.ensure_future(LargeBodies(revision, Waits()).understood(b"{}", 0))  # type: ignore[arg-type]
        loop.call_later(0.01, ran.set)
        return await task  # type: ignore[return-value]

    assert loop.run_until_complete(run()) == b"{}"
