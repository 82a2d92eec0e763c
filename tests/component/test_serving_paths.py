"""The fast path and KServe's application, given the same requests: they must answer the same and count the same."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from model import train
from tests.component.both_paths import BINARY, JSON, LENGTH, PATH, Served, compare

pytestmark = pytest.mark.component

ROW = [5.1, 3.5, 1.4, 0.2]
ONE_ROW = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}
MODELS = {
    "onnx": ["--trees", "16"],
    "sklearn": ["--trees", "4", "--runtime", "sklearn"],
    "raises": ["--categories", "strict", "--train-share", "0.6"],
}


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


@st.composite
def binary_requests(draw: st.DrawFn) -> tuple[bytes, Any]:
    """A request with its tensor as bytes, and its headers: right, or with lengths that lie, or with values that are none."""
    rows = draw(st.sampled_from([1, 1, 3, 40]))
    values = np.array(draw(st.lists(st.floats(0, 8, width=16), min_size=4 * rows, max_size=4 * rows)))
    values[0] = draw(st.sampled_from([1.0, 1.0, 1.0, -1.0, np.nan, np.inf, 1e31]))
    datatype, dtype = draw(
        st.sampled_from(
            [("FP64", "<f8")] * 4
            + [("FP32", "<f4"), ("FP16", "<f2"), ("INT8", "<i1"), ("UINT64", "<u8"), ("BYTES", "<f8")]
        )
    )
    with np.errstate(all="ignore"):
        raw = (values if dtype[1] == "f" else np.nan_to_num(values, posinf=1) % 100).astype(dtype).tobytes()
    lie = draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1, 8]))
    size: Any = draw(st.sampled_from([len(raw)] * 6 + [len(raw) + lie, -1, True, "8", None]))
    item = {"name": "x", "shape": [rows, 4], "datatype": datatype, "parameters": {"binary_data_size": size}}
    request: dict[str, Any] = {"inputs": [item]}
    flags = st.fixed_dictionaries(
        {}, optional={name: st.sampled_from([True, True, False, 1]) for name in ("binary_data_output", "predict_proba")}
    )
    own = st.sampled_from(
        [{}, {"parameters": {"binary_data": True}}, {"parameters": {"binary_data": False}}, {"parameters": {"a": 1}}]
    )
    request |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "parameters": flags,
                "outputs": st.lists(st.builds(lambda name, more: {"name": name, **more}, names, own), max_size=2),
                "id": st.text(max_size=3),
            },
        )
    )
    head = json.dumps(request).encode()
    length = len(head) + draw(st.sampled_from([0] * 8 + [1, -1, 10**6]))
    kind = draw(st.sampled_from([BINARY] * 6 + [[], JSON, [(b"content-type", b"application/octet-stream; a=b")]]))
    return head + raw[: len(raw) - max(lie, 0)] + b"!" * max(-lie, 0), [*kind, (LENGTH, b"%d" % length)]


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(request=binary_requests())
def test_both_paths_read_and_write_the_same_bytes(
    served: dict[str, Served], loop: asyncio.AbstractEventLoop, model: str, request: tuple[bytes, Any]
) -> None:
    """Tensors as bytes, asked and answered: the same status, the same JSON, the same bytes behind it, the same counts."""
    answer = compare(served[model], loop, request[0], PATH, request[1])
    event(f"{answer.status} {'fast' if answer.fast else 'passed on'}")


def test_binary_requests_take_the_fast_path(served: dict[str, Served], loop: asyncio.AbstractEventLoop) -> None:
    """All held-out rows as bytes, with every form of answer."""
    held = served["onnx"].package.heldout().x
    item = {"name": "x", "shape": list(held.shape), "datatype": "FP64", "parameters": {"binary_data_size": held.nbytes}}
    outputs = [{"name": "predict", "parameters": {"binary_data": True}}, {"name": "predict_proba"}]
    for more in ({}, {"parameters": {"binary_data_output": True, "predict_proba": True}}, {"outputs": outputs}):
        head = json.dumps({"inputs": [item], **more}).encode()
        answer = compare(served["onnx"], loop, head + held.tobytes(), PATH, [*BINARY, (LENGTH, b"%d" % len(head))])
        assert (answer.status, answer.fast) == (200, True)
