"""Wrong REST requests, by the bytes: `rest_case`. Used by `benchmarks.serving_fuzz` and its test.

A case knows how strict its answer must be: WRONG is answered 4xx, EITHER may be a request that happens to be right.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

__all__ = ["EITHER", "RIGHT", "WRONG", "Case", "Target", "large_case", "rest_case"]

RIGHT, WRONG, EITHER = "right", "wrong", "either"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Target:
    """The model: its name, its revision, its one input and how many columns that has."""

    name: str
    revision: str
    input: str = "x"
    columns: int = 4

    @property
    def infer(self) -> str:
        """The path."""
        return f"/v2/models/{self.name}/infer"


@dataclass(frozen=True, slots=True)
class Case:
    """One request: what it is called, its bytes, and what may be answered. The connection of one with an `end` is not used again."""

    kind: str
    wire: bytes
    expected: str = EITHER
    end: bool = False
    cut: bool = False
    """The client ends before its request does: no answer is as good as one."""
    more: tuple[bytes, int] = (b"", 0)
    """Bytes that are sent so many times after `wire`."""
    method: str = field(default="POST")


def rest_case(random: Random, target: Target) -> Case:
    """One case, chosen at random."""
    return random.choices(_MAKERS, _WEIGHTS)[0](random, target)


def _request(
    path: str,
    body: bytes,
    content_type: str | None = _JSON,
    headers: tuple[tuple[str, str], ...] = (),
    method: str = "POST",
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: fuzz", f"content-length: {len(body)}"]
    lines += [f"content-type: {content_type}"] if content_type is not None else []
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def _valid(random: Random, target: Target) -> dict[str, Any]:
    rows = random.choice([1, 1, 1, 2, 3, 20])
    data: list[Any] = [[round(random.uniform(0, 8), 2) for _ in range(target.columns)] for _ in range(rows)]
    if random.random() < 0.5:
        data = [value for row in data for value in row]
    found: dict[str, Any] = {
        "inputs": [
            {
                "name": target.input,
                "shape": [rows, target.columns],
                "datatype": random.choice(["FP64", "FP32"]),
                "data": data,
            }
        ]
    }
    if random.random() < 0.3:
        found["id"] = str(random.randrange(1000))
    if random.random() < 0.2:
        found["outputs"] = [{"name": "predict"}]
    if random.random() < 0.2:
        found["parameters"] = {"note": "a"}
    return found


_STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**31,
    -(2**63),
    2**64,
    10**30,
    1e308,
    -0.0,
    5e-324,
    "",
    "x",
    "FP64",
    "FP16",
    "BOOL",
    "BYTES",
    "INT8",
    "UINT64",
    "fp64",
    "NaN",
    "\0",
    "\ud800",
    "é" * 50,
    "a" * 5000,
    [],
    {},
    [[]],
    [None],
    [[[1.0]]],
    [1, [2]],
    {"a": {"b": []}},
    [0, 4],
    [-1, 4],
    [4, 1],
    [1, 4, 1],
    [10**9, 4],
    [1e9, 4],
    [2**62, 4],
    [True, 4],
    ["1", 4],
)


def _strange(random: Random) -> Any:
    return copy.deepcopy(random.choice(_STRANGE))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        found.append((*path, key))
        found += _places(child, (*path, key))
    return found


def _changed(random: Random, target: Target) -> Case:
    """A right request with one or two things in it replaced, left out or added."""
    request = _valid(random, target)
    for _ in range(random.choice([1, 1, 2])):
        places = _places(request)
        if not places:
            break
        *path, last = random.choice(places)
        parent: Any = request
        for key in path:
            parent = parent[key]
        what = random.random()
        if what < 0.7:
            parent[last] = _strange(random)
        elif what < 0.85:
            del parent[last]
        elif isinstance(parent, dict):
            parent[random.choice(["extra", "data", "shape", "name", ""])] = _strange(random)
        else:
            parent.insert(random.randrange(len(parent) + 1), _strange(random))
    text = json.dumps(request, ensure_ascii=random.random() < 0.7).encode("utf-8", "surrogatepass")
    return Case("one thing changed", _request(target.infer, text))


def _inputs(random: Random, target: Target) -> Case:
    """Missing, doubled, unknown and extra inputs, and shapes that disagree with the data."""
    request = _valid(random, target)
    item = request["inputs"][0]
    extra = {**item, "name": "another"}
    wrong: list[Any] = [
        [],
        [extra],
        [item, extra],
        [item, item],
        [{**item, "shape": [item["shape"][0] + 1, target.columns]}],
        [{**item, "shape": [item["shape"][0], target.columns + 1]}],
        [{**item, "shape": [target.columns]}],
        [{**item, "data": []}],
        [{**item, "datatype": random.choice(["BOOL", "BYTES", "FP8", "", "INT64x", None, 7])}],
        None,
        {},
        "inputs",
        [[]],
        [None],
        [{**item, "shape": [20_000, target.columns], "data": [1.0] * (20_000 * target.columns)}]
        if random.random() < 0.02
        else [],
    ]
    return Case(
        "inputs and shapes", _request(target.infer, json.dumps({"inputs": random.choice(wrong)}).encode()), WRONG
    )


def _numbers(random: Random, target: Target) -> Case:
    """Among right numbers one that is none, or none that a model can compute with."""
    bad = random.choice(
        [
            "NaN",
            "Infinity",
            "-Infinity",
            "1e999",
            "-1e999",
            "1e31",
            "9" * 400,
            "1e400",
            "null",
            '"1"',
            "true",
            "[]",
            "0x10",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "--1",
            "1_0",
            "9" * 5000,
        ]
    )
    values = ["1.5"] * (target.columns - 1)
    values.insert(random.randrange(target.columns), bad)
    text = f'{{"inputs":[{{"name":"{target.input}","shape":[1,{target.columns}],"datatype":"FP64","data":[{",".join(values)}]}}]}}'
    return Case("numbers", _request(target.infer, text.encode()), WRONG)


def _bytes(random: Random, target: Target) -> Case:
    """The bytes of a right request, spoilt: cut, overwritten, not UTF-8, another encoding."""
    text = json.dumps(_valid(random, target)).encode()
    at = random.randrange(len(text))
    spoilt = [
        text[:at],
        text[at:],
        text + text,
        text[:at] + random.randbytes(random.choice([1, 2, 8])) + text[at + 1 :],
        text[:at] + b"\xff\xfe" + text[at:],
        text[:at] + b"\0" + text[at:],
        text.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + text,
        text + b"\xed\xa0\x80",
        text.replace(b'"', b"'"),
        random.randbytes(random.randrange(200)),
        b"\xc0\x80" * 20,
    ]
    return Case("bytes", _request(target.infer, random.choice(spoilt)))


def _nested(random: Random, target: Target) -> Case:
    depth = random.choice([3, 64, 500, 1100, 20_000, 100_000])
    opening, closing = random.choice([("[", "]"), ('{"a":', "}")])
    text = opening * depth + "1" + closing * depth
    place = random.choice(
        [
            '{{"inputs":{0}}}',
            "{0}",
            '{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP64","data":{0}}}]}}',
            '{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,4],"parameters":{{"a":{0}}}}}]}}',
        ]
    )
    path = random.choice([target.infer, f"/v1/models/{target.name}:predict", "/predict"])
    return Case("deep nesting", _request(path, place.format(text).encode()))


def _binary(random: Random, target: Target) -> Case:
    """Binary tensors whose lengths lie, and that are cut."""
    raw = random.randbytes(8 * target.columns) if random.random() < 0.5 else b"\0" * (8 * target.columns)
    item: dict[str, Any] = {
        "name": target.input,
        "shape": [1, target.columns],
        "datatype": "FP64",
        "parameters": {"binary_data_size": len(raw)},
    }
    head: dict[str, Any] = {"inputs": [item]}
    what = random.randrange(9)
    if what == 0:
        item["parameters"]["binary_data_size"] = random.choice([0, -1, 31, 33, 10**12, "32", None, 32.0, True, 2**63])
    elif what == 1:
        raw = raw[: random.randrange(len(raw))]
    elif what == 2:
        item["datatype"] = random.choice(["BYTES", "FP16", "FP32", "BOOL", "INT8", "NO", ""])
    elif what == 3:
        item["shape"] = random.choice([[2, 4], [4], [], [-1, 4], [1, 4, 1], [10**12, 4], None])
    elif what == 4:
        item["data"] = [1.0] * target.columns
    elif what == 5:
        head["outputs"] = [
            {"name": "predict", "parameters": {"binary_data": random.choice([True, False, 1, "x", None])}}
        ]
    elif what == 6:
        head["parameters"] = {"binary_data_output": random.choice([True, 1, "yes"])}
    text = json.dumps(head).encode()
    length: Any = len(text)
    if what == 7:
        length = random.choice(
            [0, -1, 1, len(text) - 1, len(text) + 1, len(text) + len(raw), 10**20, "x", "", "1e3", "0x10"]
        )
    elif what == 8:
        text = text[: random.randrange(len(text))]
    headers = (("inference-header-content-length", str(length)),) * random.choice([1, 1, 1, 2])
    return Case(
        "binary tensors",
        _request(
            target.infer,
            text + raw,
            random.choice(["application/octet-stream", "application/octet-stream", None]),
            headers,
        ),
    )


def _types(random: Random, target: Target) -> Case:
    body = json.dumps(_valid(random, target)).encode()
    kind = random.choice(
        [
            None,
            "",
            "text/plain",
            "application/xml",
            "multipart/form-data",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "application/x-www-form-urlencoded",
            "application/json, text/plain",
            "a" * 2000,
            "application/cloudevents+json",
            "json",
        ]
    )
    headers = random.choice(
        [(), (("content-encoding", "gzip"),), (("accept", "x/y"),), (("ce-specversion", "1.0"), ("ce-id", "1"))]
    )
    return Case("content types", _request(target.infer, body, kind, headers))


def _simple(random: Random, target: Target) -> Case:
    """V1 and the beginner's path."""
    path, key = random.choice([(f"/v1/models/{target.name}:predict", "instances"), ("/predict", "features")])
    row: list[Any] = [1.0] * target.columns
    row[random.randrange(target.columns)] = _strange(random)
    body = random.choice(
        [
            {key: [row]},
            {key: row},
            {key: _strange(random)},
            _strange(random),
            {},
            {"other": [row]},
            {key: [row] * 3 + [[1.0]]},
        ]
    )
    text = json.dumps(body).encode()
    return Case(
        "V1 and /predict", _request(path, text[: random.randrange(len(text) + 1)] if random.random() < 0.2 else text)
    )


def _paths(random: Random, target: Target) -> Case:
    method = random.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD"])
    path = random.choice(
        [
            "/nowhere",
            "/v2/models/none/infer",
            f"/v2/models/{target.name}/versions/9/infer",
            f"{target.infer}/",
            f"/v2/models/{target.name}%2finfer",
            "//",
            "/../../etc/passwd",
            "/v2/models/%00/infer",
            "/v2/models/%ff/infer",
            "/v2/models//infer",
            f"/v2/repository/models/{target.name}/unload",
            f"/v1/models/{target.name}:explain",
            f"{target.infer}?x=" + "y" * 3000,
            "/v2/models/" + "a" * 3000,
            "/%",
            "/v2/health/live/x",
            "/predict/x",
            f"/v2/models/{target.name}/generate",
            f"/v2/models/{target.name}/versions/{'9' * 500}",
            "/openapi.json/x",
        ]
    )
    return Case("paths and methods", _request(path, b"{}", method=method), method=method)


def _framing(random: Random, target: Target) -> Case:
    """Requests whose framing lies; behind each hides a second one that must never be answered."""
    start = f"POST {target.infer} HTTP/1.1\r\nhost: fuzz\r\ncontent-type: {_JSON}\r\n".encode()
    hidden = b"GET /hidden HTTP/1.1\r\nhost: fuzz\r\n\r\n"
    size = len(hidden)
    chunked = b"transfer-encoding: chunked\r\n"
    wire = random.choice(
        [
            start + b"content-length: %d\r\n" % size + chunked + b"\r\n0\r\n\r\n" + hidden,
            start + chunked + b"content-length: %d\r\n\r\n0\r\n\r\n" % size + hidden,
            start + b"content-length: 0\r\ncontent-length: %d\r\n\r\n" % size + hidden,
            start + b"content-length: 0, %d\r\n\r\n" % size + hidden,
            start + b"content-length: +%d\r\n\r\n" % size + hidden,
            start + b"content-length: -1\r\n\r\n" + hidden,
            start + b"content-length: 0x10\r\n\r\n" + hidden,
            start + b"content-length: %s\r\n\r\n" % (b"9" * 30) + hidden,
            start + b"content-length : 5\r\n\r\n" + hidden,
            start + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + hidden,
            start + b"transfer-encoding: xchunked\r\ncontent-length: 1\r\n\r\n" + hidden,
            start + chunked + chunked[:-2] + b", chunked\r\n\r\nzz\r\n" + hidden,
            start + chunked + b"\r\n-1\r\n" + hidden,
            start + chunked + b"\r\nffffffffffffffff1\r\n" + hidden,
            start + chunked + b"\r\n5\r\nabc\r\n0\r\n\r\n" + hidden,
            start + chunked + b"\r\n3\r\nabcdef\r\n0\r\n\r\n" + hidden,
            start + chunked + b"\r\n3;" + b"x" * random.choice([10, 400_000]) + b"\nabc" + hidden,
            start + b"x y: z\r\n\r\n" + hidden,
            start + b"x\0: z\r\n\r\n" + hidden,
            start + b"no colon\r\n\r\n" + hidden,
            start + b" folded: first\r\n\r\n" + hidden,
            b"\x16\x03\x01\x02\x00" + random.randbytes(100),
            b"GET\r\n\r\n" + hidden,
            b"get / HTTP/1.1\r\n\r\n" + hidden,
            b"GET / HTTP/9.9\r\n\r\n" + hidden,
            b"GET / HTTPS/1.1\r\n\r\n" + hidden,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden,
            start + b"x: " + b"y" * 400_000 + b"\r\n\r\n" + hidden,
            start + b"".join(b"x-%d: y\r\n" % number for number in range(40_000)) + b"\r\n" + hidden,
            b"GET /" + b"a" * 400_000 + b" HTTP/1.1\r\n\r\n" + hidden,
            b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n" + hidden,
        ]
    )
    return Case("framing and headers", wire, WRONG, end=True)


def _upgrades(random: Random, target: Target) -> Case:
    """What HTTP allows to ask, and this server need not do."""
    body = json.dumps(_valid(random, target)).encode()
    extra = random.choice(
        [
            (
                ("connection", "Upgrade, HTTP2-Settings"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
            ),
            (
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "x"),
            ),
            (("expect", "200-maybe"),),
            (("range", "bytes=0-0"),),
            (("x-http-method-override", "DELETE"),),
            (("x-forwarded-for", "'; drop"),),
            (("connection", "close, x"),),
            (("te", "trailers"),),
            (("cookie", "a" * 4000),),
        ]
    )
    return Case("upgrades and odd headers", _request(target.infer, body, headers=extra), end=True)


def _cut(random: Random, target: Target) -> Case:
    """The client says more than it sends, and goes."""
    whole = _request(target.infer, json.dumps(_valid(random, target)).encode())
    return Case("cut off", whole[: random.randrange(1, len(whole))], end=True, cut=True)


def large_case(random: Random, target: Target) -> Case:
    """100 MB, declared or in chunks."""
    chunk = b"1," * 2**19
    if random.random() < 0.5:
        return Case(
            "100 MB bodies",
            _request(target.infer, b"").replace(b"content-length: 0", b"content-length: 104857600"),
            WRONG,
            end=True,
            more=(chunk, 100),
        )
    head = _request(target.infer, b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    return Case("100 MB bodies", head, WRONG, end=True, more=(b"%x\r\n%b\r\n" % (len(chunk), chunk), 100))


def _big(random: Random, target: Target) -> Case:
    """As large as may be, and wrong: many numbers, one long text, or many rows."""
    size = random.choice([300_000, 2_000_000, 15_000_000])
    item = f'{{"inputs":[{{"name":"{target.input}","shape":[{random.choice([1, 9_999, 10**6])},{target.columns}],"datatype":"FP64","data":['
    what = random.randrange(4)
    if what == 0:
        body = item + "1," * (size // 2) + "1]}]}"
    elif what == 1:
        body = item + '"' + "a" * size + '"]}]}'
    elif what == 2:
        body = "[" * size
    else:
        body = item + "[1]," * (size // 4)
    return Case("large wrong bodies", _request(target.infer, body.encode()), WRONG)


def _right(random: Random, target: Target) -> Case:
    return Case("right requests", _request(target.infer, json.dumps(_valid(random, target)).encode()), RIGHT)


_WEIGHTED: dict[Callable[[Random, Target], Case], float] = {
    _changed: 30,
    _inputs: 10,
    _numbers: 8,
    _bytes: 12,
    _nested: 1.5,
    _binary: 12,
    _types: 4,
    _simple: 6,
    _paths: 4,
    _framing: 5,
    _upgrades: 2,
    _cut: 3,
    large_case: 0.01,
    _big: 0.02,
    _right: 3,
}
_MAKERS = tuple(_WEIGHTED)
_WEIGHTS = tuple(_WEIGHTED.values())
