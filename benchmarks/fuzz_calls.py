"""Wrong gRPC calls, by the bytes of their message: `grpc_case`. Used by `benchmarks.serving_fuzz` and its test."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.fuzz_rest import EITHER, RIGHT, WRONG, Target

__all__ = ["Call", "grpc_case"]

_SERVICE = "/inference.GRPCInferenceService/"
_NUMBERS = (0, 1, 2, 4, -1, 2**31, 2**62, -(2**63), 10_001)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: what it is called, its method, its message, and what may be answered."""

    kind: str
    method: str
    message: bytes
    expected: str = EITHER


def _item(random: Random, target: Target, **changes: Any) -> Any:
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    values = {"name": target.input, "shape": [1, target.columns], "datatype": "FP64", **changes}
    if "contents" not in values:
        values["contents"] = pb.InferTensorContents(fp64_contents=[random.uniform(0, 8) for _ in range(target.columns)])
    return pb.ModelInferRequest.InferInputTensor(**values)


def _message(target: Target, *items: Any, **more: Any) -> bytes:
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    return pb.ModelInferRequest(**{"model_name": target.name, "inputs": items, **more}).SerializeToString()  # type: ignore[no-any-return]


def grpc_case(random: Random, target: Target) -> Call:
    """One call, chosen at random."""

    infer = f"{_SERVICE}ModelInfer"
    right = _message(target, _item(random, target))
    raw = struct.pack(f"<{target.columns}d", *[1.0] * target.columns)
    at = random.randrange(len(right))
    what = random.choices(range(10), [2, 12, 12, 10, 10, 8, 10, 4, 4, 0.02])[0]
    if what == 0:
        return Call("right calls", infer, right, RIGHT)
    if what == 1:
        spoilt = random.choice(
            [
                right[:at],
                right[:at] + random.randbytes(2) + right[at + 2 :],
                right + random.randbytes(5),
                random.randbytes(60),
                b"",
            ]
        )
        return Call("messages spoilt", infer, spoilt)
    if what == 2:
        shape = [random.choice(_NUMBERS) for _ in range(random.choice([0, 1, 2, 2, 3]))]
        return Call("shapes", infer, _message(target, _item(random, target, shape=shape)))
    if what == 3:
        datatype = random.choice(["BOOL", "BYTES", "INT8", "UINT64", "FP16", "FP32", "", "NO", "é"])
        return Call("datatypes", infer, _message(target, _item(random, target, datatype=datatype)), WRONG)
    return _other(random, target, what, right, raw)


def _other(random: Random, target: Target, what: int, right: bytes, raw: bytes) -> Call:
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    infer = f"{_SERVICE}ModelInfer"
    if what == 4:
        value = random.choice([float("nan"), float("inf"), float("-inf"), 1e31, -1e300])
        contents = pb.InferTensorContents(fp64_contents=[value] * target.columns)
        return Call("numbers", infer, _message(target, _item(random, target, contents=contents)), WRONG)
    if what == 5:
        items = random.choice(
            [[], [_item(random, target)] * 2, [_item(random, target, name=random.choice(["", "y", "\0", "x" * 4000]))]]
        )
        return Call("inputs", infer, _message(target, *items), WRONG)
    if what == 6:
        bare = _item(random, target, contents=None)
        wrong: list[tuple[list[Any], list[bytes]]] = [
            ([bare], [raw[: random.randrange(len(raw))]]),
            ([bare], [raw + b"\0"]),
            ([bare], [raw, raw]),
            ([_item(random, target)], [raw]),
            ([bare], [b""]),
            ([bare, bare], [raw]),
            ([], [raw]),
            ([_item(random, target, contents=None, datatype="BYTES")], [b"\xff" * 40]),
        ]
        items, raws = random.choice(wrong)
        return Call("raw contents that lie", infer, _message(target, *items, raw_input_contents=raws), WRONG)
    if what == 7:
        item = _item(random, target)
        more: dict[str, Any] = random.choice(
            [
                {"model_name": "none"},
                {"model_version": "9"},
                {"outputs": [pb.ModelInferRequest.InferRequestedOutputTensor(name="z")]},
                {"parameters": {"predict_proba": pb.InferParameter(string_param="x")}},
                {"model_name": ""},
            ]
        )
        return Call("names and parameters", infer, _message(target, item, **more), WRONG)
    if what == 8:
        method = random.choice(["Nothing", "RepositoryModelLoad", "ModelMetadata", "ModelReady", "ServerMetadata"])
        return Call("methods", _SERVICE + method, random.choice([b"", random.randbytes(20), b"\x0a\x04none"]))
    return Call(
        "17 MiB messages",
        infer,
        _message(target, _item(random, target, contents=None), raw_input_contents=[b"\0" * (17 * 2**20)]),
        WRONG,
    )
