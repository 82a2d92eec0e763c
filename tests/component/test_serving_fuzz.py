"""A short run of the fuzzer of benchmarks/serving_fuzz.py, always with the same requests, against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from random import Random

import httpx
import pytest
from model_server import REVISION, ROW, Server, serving, trained

from benchmarks.fuzz_rest import RIGHT, WRONG, Case, Target, large_case
from benchmarks.serving_fuzz import Found, _Line, fuzz

pytestmark = pytest.mark.component

TARGET = Target("iris", REVISION)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A small model, served."""
    with serving(trained(tmp_path_factory.mktemp("iris") / "1", "--trees", "4").folder) as running:
        yield running


def ports(server: Server) -> tuple[int, int]:
    """REST's and gRPC's."""
    return int(server.url.rpartition(":")[2]), int(server.grpc_address.rpartition(":")[2])


def test_wrong_requests_are_refused_with_a_reason(server: Server) -> None:
    """4xx or a prediction, never 5xx, never silence; and the server answers afterwards as before."""
    found = Found()
    asyncio.run(fuzz(*ports(server), TARGET, 1000, 11, found))
    assert found.wrong == []
    assert sum(found.answers.values()) == 1000
    assert {protocol for protocol, _, _ in found.answers} == {"REST", "gRPC"}
    assert len({kind for _, kind, _ in found.answers}) >= 20
    assert server.process.poll() is None
    right = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}
    answer = httpx.post(f"{server.url}/v2/models/iris/infer", json=right, timeout=60, verify=False)
    assert answer.json()["outputs"][0]["data"] == [0]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_100_mb_is_refused(server: Server, chunked: bool) -> None:
    """413, whether it says how long it is or not."""
    cases = (large_case(Random(seed), TARGET) for seed in range(100))
    large = next(case for case in cases if (b"chunked" in case.wire) == chunked)

    async def send() -> tuple[str, str | None]:
        return await _Line(ports(server)[0]).send(large)

    assert asyncio.run(send()) == ("413", None)


def test_the_fuzzer_sees_what_is_wrong(server: Server) -> None:
    """It could fail: what it is told to be wrong and is accepted, and what it is told to be right and is refused, it reports."""
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}).encode()
    head = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    async def send(case: Case) -> tuple[str, str | None]:
        line = _Line(ports(server)[0])
        try:
            return await line.send(case)
        finally:
            line.close()

    for case in (
        Case("k", head % (TARGET.infer.encode(), len(body)) + body, WRONG),
        Case("k", head % (b"/nowhere", len(body)) + body, RIGHT),
    ):
        assert asyncio.run(send(case))[1] is not None
