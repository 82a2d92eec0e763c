"""The fast path and KServe's application, given the same requests: they must answer the same and count the same."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from model import train
from relevo.packaging import load_package
from relevo.serving import application, front
from relevo.serving.revision import Revision

pytestmark = pytest.mark.component

ROW = [5.1, 3.5, 1.4, 0.2]
ONE_ROW = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}
JSON = [(b"content-type", b"application/json")]
PATH = "/v2/models/iris/infer"
MODELS = {
    "onnx": ["--trees", "16"],
    "sklearn": ["--trees", "4", "--runtime", "sklearn"],
    "raises": ["--categories", "strict", "--train-share", "0.6"],
}


@dataclass
class Answer:
    """What came back, and what the server counted meanwhile."""

    status: int
    kind: bytes
    body: Any
    counted: list[float]
    fast: bool


class Served:
    """One package behind both paths, called as uvicorn calls them."""

    def __init__(self, folder: Path) -> None:
        self.package = load_package(folder)
        self.revision = Revision("iris", self.package, "iris-predictor-00007")
        self.revision.load()
        app = application.build(self.revision)
        self.passed_on = 0
        self.fast = front.wrap(self._count(app), self.revision)
        self.slow = front.wrap(app, self.revision, fast=False)

    def _count(self, app: Any) -> Any:
        async def counted(*arguments: Any) -> None:
            self.passed_on += 1
            await app(*arguments)

        return counted

    async def ask(self, app: Any, body: bytes, path: str, headers: list[tuple[bytes, bytes]]) -> Answer:
        """Call `app` once."""
        sent: list[Any] = []
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return parts.pop(0) if parts else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [*headers, (b"content-length", b"%d" % len(body))], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        before, passed_on = list(self.revision.tallies.row), self.passed_on
        await app(scope, receive, send)
        changed = [after - was for after, was in zip(self.revision.tallies.row, before, strict=True)]
        answered = dict(sent[0]["headers"])
        body = json.loads(b"".join(message.get("body", b"") for message in sent[1:]))
        assert int(answered[b"content-length"]) == sum(len(m.get("body", b"")) for m in sent[1:])
        return Answer(sent[0]["status"], answered[b"content-type"], body, counts(changed), passed_on == self.passed_on)


def counts(row: list[float]) -> list[float]:
    """The changes that do not depend on how long things took: each histogram's count, then all the counters."""
    width, stages = 16, 3
    histograms = [sum(row[s * width : (s + 1) * width - 1]) for s in range(stages)]
    return [*histograms, *row[stages * width :]]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all requests of this module."""
    running = asyncio.new_event_loop()
    yield running
    running.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    """One of each: ONNX Runtime, scikit-learn, and a model that raises on some valid rows."""
    folder = tmp_path_factory.mktemp("packages")
    for name, arguments in MODELS.items():
        assert train.main(["iris", "--version", "1", "--output", str(folder / name), *arguments]) == 0
    return {name: Served(folder / name) for name in MODELS}


numbers = st.one_of(
    st.floats(0, 8).map(lambda value: round(value, 1)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -0.0, 1e30, 1.0000000000000001e30, 1e31, -1e30, 2**53 + 1, 5e-324, 1e308, 10**310]),
)
anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["x", "FP64"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
names = st.sampled_from(["predict", "predict_proba"])


@st.composite
def valid(draw: st.DrawFn) -> dict[str, Any]:
    """A request that is right, or nearly."""
    rows = draw(st.sampled_from([1, 1, 1, 2, 5, 40]))
    values = (
        draw(st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=rows, max_size=rows))
        if rows < 6
        else [ROW] * rows
    )
    if draw(st.booleans()):
        values = [[min(max(float(v), 0.1), 8.0) if abs(v) < 1e300 else 1.0 for v in row] for row in values]
    datatype = draw(st.sampled_from(["FP64", "FP64", "FP32", "INT64", "UINT8", "fp64", "BOOL", "BYTES"]))
    if datatype.startswith(("INT", "UINT")) and draw(st.booleans()):
        values = [[float(int(v)) if abs(v) < 1e300 else v for v in row] for row in values]
    flat = [value for row in values for value in row]
    request: dict[str, Any] = {
        "inputs": [
            {"name": "x", "shape": [rows, 4], "datatype": datatype, "data": flat if draw(st.booleans()) else values}
        ]
    }
    options = {
        "id": st.one_of(st.text(max_size=8), st.none(), st.integers()),
        "parameters": st.one_of(
            st.none(), st.just({}), st.booleans().map(lambda b: {"predict_proba": b}),
            st.dictionaries(
                st.sampled_from(["predict_proba", "content_type", "a"]),
                st.one_of(st.booleans(), st.text(max_size=3), st.integers()),
                max_size=2,
            ),
        ),
        "outputs": st.one_of(
            st.none(), st.lists(names.map(lambda name: {"name": name}), max_size=3),
            st.just([{"name": "predict", "parameters": {"binary_data": False}}]), st.just([{"name": "z"}]),
        ),
        "extra": anything,
    }  # fmt: skip
    for field in draw(st.sets(st.sampled_from(sorted(options)), max_size=2)):
        request[field] = draw(options[field])
    return request


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in `value` something could be changed."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*path, key)
        yield from places(child, (*path, key))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A request as bytes: right, or with one thing changed in it, or with its bytes spoilt."""
    request = copy.deepcopy(draw(valid()))
    spoil = draw(st.sampled_from(["", "", "", "node", "node", "drop", "bytes", "cut", "twice"]))
    if spoil in ("node", "drop"):
        *path, last = draw(st.sampled_from(list(places(request))))
        parent = request
        for key in path:
            parent = parent[key]
        if spoil == "node":
            parent[last] = draw(anything)
        else:
            del parent[last]
    ascii_ = draw(st.booleans())
    text = json.dumps(request, ensure_ascii=ascii_, indent=draw(st.sampled_from([None, 1])))
    body = text.encode("utf-8", "surrogatepass")
    position = draw(st.integers(0, len(body)))
    match spoil:
        case "bytes":
            body = body[:position] + draw(st.binary(min_size=1, max_size=3)) + body[position + 1 :]
        case "cut":
            body = body[:position]
        case "twice":
            body = body[:-1] + b',"id":"again","inputs":' + json.dumps(request["inputs"]).encode() + b"}"
    return body


kinds = st.sampled_from(
    [
        *[JSON] * 8,
        [(b"content-type", b"application/json; charset=utf-8")],
        [(b"content-type", b"application/json; charset=latin-1")],
        [(b"content-type", b"application/vnd.x+json")],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/octet-stream")],
        [],
        [*JSON, (b"inference-header-content-length", b"10")],
        [*JSON, (b"content-type", b"text/plain")],
    ]
)
paths = st.sampled_from(
    [*[PATH] * 8, "/v2/models/iris/versions/iris-predictor-00007/infer", "/v2/models/iris/versions/9/infer"]
)


def compare(served: Served, loop: asyncio.AbstractEventLoop, body: bytes, path: str, headers: Any) -> Answer:
    """Ask both paths and hold them to be the same."""
    quick = loop.run_until_complete(served.ask(served.fast, body, path, headers))
    slow = loop.run_until_complete(served.ask(served.slow, body, path, headers))
    for answer in (quick, slow):
        if answer.status == 200 and not _gives_id(body):
            answer.body["id"] = "generated"
    same = (quick.status, quick.kind, quick.body) == (slow.status, slow.kind, slow.body)
    assert same, f"{body!r} gives\n{quick.status} {quick.body} fast, but\n{slow.status} {slow.body}"
    assert quick.counted == slow.counted
    assert slow.status in (200, 400, 404) or (slow.status == 500 and "the model failed" in slow.body["error"])
    return quick


def _gives_id(body: bytes) -> bool:
    return bool(json.loads(body).get("id"))


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(body=bodies(), path=paths, headers=kinds)
@example(body=b"", path=PATH, headers=JSON)
@example(
    body=json.dumps({**ONE_ROW, "outputs": [{"name": "predict"}, {"name": "predict"}]}).encode(),
    path=PATH,
    headers=JSON,
)
@example(body=b"[" * 5000, path=PATH, headers=JSON)
@example(body=b'\xef\xbb\xbf{"inputs":[]}', path=PATH, headers=JSON)
@example(
    body=json.dumps(ONE_ROW).encode("utf-16"),
    path=PATH,
    headers=JSON,
)
@example(
    body=b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,4],"q":"\xff"}]}',
    path=PATH,
    headers=JSON,
)
@example(
    body=b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,%s]}]}' % (b"9" * 5000),
    path=PATH,
    headers=JSON,
)
@example(
    body=b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,1e999]}]}', path=PATH, headers=JSON
)
@example(body=b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,NaN]}]}', path=PATH, headers=JSON)
@example(
    body=b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"INT8","data":[1e0,2.0,3,4]}]}', path=PATH, headers=JSON
)
@example(
    body=b'{"id":"\\u0000\\"\\\\","inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[[1,2,3,4]]}]}',
    path=PATH,
    headers=JSON,
)
def test_both_paths_answer_and_count_the_same(
    served: dict[str, Served], loop: asyncio.AbstractEventLoop, model: str, body: bytes, path: str, headers: Any
) -> None:
    """Whatever is sent: the same status, the same JSON to the last digit, the same counts."""
    answer = compare(served[model], loop, body, path, headers)
    event(f"{answer.status} {'fast' if answer.fast else 'passed on'}")


@pytest.mark.parametrize("model", MODELS)
def test_ordinary_requests_take_the_fast_path(
    served: dict[str, Served], loop: asyncio.AbstractEventLoop, model: str
) -> None:
    """The comparison means something only if the fast path answers: every held-out row, alone and all together, does take it."""
    held = served[model].package.heldout().x
    statuses = set()
    for rows in [*held[:, np.newaxis], held]:
        for more in ({}, {"parameters": {"predict_proba": True}}, {"outputs": [{"name": "predict_proba"}], "id": "a"}):
            item = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
            answer = compare(served[model], loop, json.dumps({"inputs": [item], **more}).encode(), PATH, JSON)
            assert answer.fast
            statuses.add(answer.status)
    assert statuses == ({200, 500} if model == "raises" else {200})
