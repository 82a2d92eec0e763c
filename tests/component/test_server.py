"""A real model server on loopback, asked by REST, gRPC and KServe's own clients, rightly and wrongly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from model_server import REVISION, ROW, Server, serving, trained

from relevo.packaging import Package
from relevo.serving import limits

pytestmark = pytest.mark.component

JSON = {"content-type": "application/json"}
INFER = "/v2/models/iris/infer"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The stable model."""
    return trained(tmp_path_factory.mktemp("iris") / "1", "--trees", "16")


@pytest.fixture(scope="module")
def server(package: Package) -> Iterator[Server]:
    """It, served."""
    with serving(package.folder) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def v2(**changes: object) -> str:
    """A V2 request for one row, with its input changed."""
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW} | changes]})


def test_v2_rest_answers_as_the_estimator_does_for_every_held_out_row(http: httpx.Client, package: Package) -> None:
    """What is served is what was trained, and each answer names its revision twice."""
    held = package.heldout()
    answer = http.post(INFER, headers=JSON, content=v2(shape=list(held.x.shape), data=held.x.ravel().tolist()))
    assert answer.status_code == 200
    assert answer.headers["x-relevo-revision"] == REVISION
    body = answer.json()
    assert (body["model_name"], body["model_version"]) == ("iris", REVISION)
    (output,) = body["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predict", "INT64", [75])
    assert output["data"] == package.estimator().predict(held.x).tolist()


@pytest.mark.parametrize(
    "ask", [{"outputs": [{"name": "predict"}, {"name": "predict_proba"}]}, {"parameters": {"predict_proba": True}}]
)
def test_probabilities_come_when_asked_for(http: httpx.Client, package: Package, ask: dict) -> None:
    """By the list of outputs or by a parameter; they sum to one and have the shape that the metadata says."""
    answer = http.post(INFER, headers=JSON, content=json.dumps(json.loads(v2()) | ask)).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["predict_proba"]["shape"] == [1, 3]
    np.testing.assert_allclose(outputs["predict_proba"]["data"], package.estimator().predict_proba([ROW])[0], atol=1e-6)
    assert outputs["predict"]["data"] == [0]


def test_v1_and_the_beginners_path(http: httpx.Client) -> None:
    """V1 answers predictions; /predict takes one row or several, with or without a content type."""
    assert http.post("/v1/models/iris:predict", json={"instances": [ROW, ROW]}).json() == {"predictions": [0, 0]}
    assert http.post("/predict", json={"features": ROW}).json() == {"prediction": 0}
    assert http.post("/predict", content=json.dumps({"features": [ROW, ROW]})).json() == {"prediction": [0, 0]}


def test_metadata_health_and_metrics(http: httpx.Client) -> None:
    """KServe's own endpoints are all there, and the metrics name the revision."""
    about = http.get("/v2/models/iris").json()
    assert about["versions"] == [REVISION]
    assert about["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 4]}]
    assert [output["name"] for output in about["outputs"]] == ["predict", "predict_proba"]
    for path in (
        "/",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/iris/ready",
        "/v1/models/iris",
        "/v2/models",
    ):
        assert http.get(path).status_code == 200, path
    metrics = http.get("/metrics").text
    assert f'relevo_model_info{{model_name="iris",revision="{REVISION}",runtime="onnx",version="1"}} 1.0' in metrics
    assert 'request_predict_seconds_count{model_name="iris"}' in metrics


def test_the_revision_may_be_named_as_the_version(http: httpx.Client) -> None:
    """V2's paths with a version work for the revision that this server is, and for no other."""
    version = f"/v2/models/iris/versions/{REVISION}"
    assert http.post(f"{version}/infer", headers=JSON, content=v2()).json()["outputs"][0]["data"] == [0]
    assert http.post(f"{version}/infer", headers=JSON, content=v2(name="y")).status_code == 400
    assert http.get(version).json() == http.get("/v2/models/iris").json()
    assert http.get(f"{version}/ready").status_code == 200
    for path in ("/v2/models/iris/versions/9", "/v2/models/iris/versions/9/ready"):
        assert http.get(path).status_code == 404


def test_grpc_has_the_standard_health_service(server: Server) -> None:
    """grpc.health.v1.Health/Check says SERVING (1) for the server and for the inference service; others are NOT_FOUND."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        name = b"inference.GRPCInferenceService"
        for request in (b"", b"\x0a" + bytes([len(name)]) + name):
            assert check(request, timeout=20) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as refused:
            check(b"\x0a\x01x", timeout=20)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_it_is_ready_before_kserve_is_imported(package: Package) -> None:
    """An ordinary request needs no KServe; one that does waits for it, and a server may be ended while it still imports."""
    for _ in range(3):
        with serving(package.folder) as running:
            assert httpx.post(running.url + INFER, headers=JSON, content=v2(), timeout=20).status_code == 200
            libraries = Path(f"/proc/{running.process.pid}/maps")
            if libraries.exists():
                assert "/pandas/" not in libraries.read_text()
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(20) == 0
    with serving(package.folder) as running:
        answer = httpx.post(running.url + INFER, headers=JSON, content=v2(shape=[2, 4]), timeout=60)
        assert (answer.status_code, answer.headers["x-relevo-revision"]) == (400, REVISION)


def test_kserves_own_clients_are_served(server: Server) -> None:
    """InferenceRESTClient and InferenceGRPCClient, in JSON and in binary."""
    rows = np.array([ROW, [6.0, 3.0, 5.0, 2.0]])

    def request(binary: bool) -> InferRequest:
        item = InferInput("x", [2, 4], "FP64")
        item.set_data_from_numpy(rows, binary_data=binary)
        return InferRequest("iris", [item])

    async def ask() -> list[list[int]]:
        rest = InferenceRESTClient(RESTConfig(protocol="v2"))
        calls = InferenceGRPCClient(server.grpc_address)
        try:
            assert await calls.is_server_ready()
            assert await calls.is_model_ready("iris")
            answers = [
                await rest.infer(server.url, request(False), model_name="iris"),
                await rest.infer(server.url, request(True), model_name="iris"),
                await calls.infer(request(False)),
                await calls.infer(request(True)),
            ]
            assert answers[2].model_version == answers[3].model_version == REVISION
            return [answer.outputs[0].as_numpy().tolist() for answer in answers]
        finally:
            await calls.close()
            await rest.close()

    assert asyncio.run(ask()) == [[0, 2]] * 4


def binary(
    size: object = 32, length: object = None, raw: bytes = b"\0" * 32, **changes: object
) -> tuple[bytes, dict[str, str]]:
    """A binary V2 request whose lengths may lie."""
    item = {"name": "x", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": size}} | changes
    head = json.dumps({"inputs": [item]}).encode()
    declared = str(len(head) if length is None else length)
    return head + raw, {"content-type": "application/octet-stream", "inference-header-content-length": declared}


BAD_REQUESTS: dict[str, tuple[str | bytes, dict[str, str], str]] = {
    "malformed JSON": ('{"inputs":', JSON, "JSON"),
    "empty body": ("", JSON, "body"),
    "null": ("null", JSON, "body"),
    "a list": ("[]", JSON, "body"),
    "wrong content type": (v2(), {"content-type": "text/plain"}, "content-type"),
    "multipart": (v2(), {"content-type": "multipart/form-data"}, "content-type"),
    "invalid UTF-8": (b'{"inputs":"\xff\xfe"}', JSON, "body"),
    "lone surrogate in the id": (json.dumps({"id": "\ud800", **json.loads(v2())}), JSON, "id"),
    "lone surrogate in a name": (v2(name="\ud800"), JSON, "names"),
    "deep nesting": ("[" * 100_000, JSON, "body"),
    "deeply nested data": (v2(data=json.loads("[" * 200 + "1" + "]" * 200)), JSON, "nested"),
    "no inputs": ("{}", JSON, "inputs"),
    "empty inputs": ('{"inputs": []}', JSON, "inputs"),
    "unknown input": (v2(name="y"), JSON, "'x'"),
    "no data": ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64"}]}', JSON, "data"),
    "negative shape": (v2(shape=[-1, 4]), JSON, "-1 rows"),
    "huge shape": (v2(shape=[10**30, 4]), JSON, "rows"),
    "shape and data disagree": (v2(shape=[2, 4]), JSON, "needs 8"),
    "fractional shape": (v2(shape=[1.5, 4]), JSON, "shape"),
    "strings": (v2(data=["1", "2", "3", "4"]), JSON, "string"),
    "nulls": (v2(data=[None, 1, 2, 3]), JSON, "null"),
    "booleans": (v2(datatype="BOOL", data=[True] * 4), JSON, "not numeric"),
    "bytes": (v2(datatype="BYTES", data=["a"] * 4), JSON, "not numeric"),
    "NaN": (v2(data=[float("nan"), 1, 2, 3]), JSON, "not finite"),
    "infinity": (v2(data=[float("inf"), 1, 2, 3]), JSON, "not finite"),
    "a huge number": (v2(data=[1e300, 1, 2, 3]), JSON, "beyond"),
    "a huge whole number": (v2(data=[10**400, 1, 2, 3]), JSON, "whole number"),
    "a number of 5000 digits": ('{"inputs": [%s]}' % ("9" * 5000), JSON, "body"),
    "unknown output": (json.dumps({**json.loads(v2()), "outputs": [{"name": "z"}]}), JSON, "outputs"),
    "a parameter of another type": (json.dumps({**json.loads(v2()), "parameters": {"predict_proba": "x"}}), JSON, "parameters"),
    "no binary length": (binary()[0], {"content-type": "application/octet-stream"}, "inference-header-content-length"),
    "binary length is no number": (*binary(length="abc"), "inference-header-content-length"),
    "binary length is negative": (*binary(length=-5), "inference-header-content-length"),
    "binary length beyond the body": (*binary(length=9999), "inference-header-content-length"),
    "binary length cuts the JSON": (*binary(length=10), "JSON"),
    "tensor shorter than declared": (*binary(raw=b"\0" * 31), "binary_data_size"),
    "tensor longer than declared": (*binary(size=16), "binary_data_size"),
    "negative tensor size": (*binary(size=-8), "binary_data_size"),
    "tensor size is no number": (*binary(size="x"), "binary_data_size"),
    "tensor and shape disagree": (*binary(shape=[2, 4]), "shape"),
    "binary strings that lie": (*binary(datatype="BYTES", raw=b"\xff" * 32), "body"),
    "binary inputs is no list": (b'{"inputs":3}', binary(length=12)[1], "inputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_answered_400_with_the_reason(http: httpx.Client, case: str) -> None:
    """Wrong input is never a 5xx, and the answer names what is wrong."""
    content, headers, reason = BAD_REQUESTS[case]
    answer = http.post(INFER, content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    assert reason in answer.json()["error"]
    assert answer.headers["x-relevo-revision"] == REVISION
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"instances": 3}', '{"instances": []}', '{"instances": [1]}', '{"instances": [["a",1,2,3]]}',
                '{"instances": [[1e999,1,2,3]]}', b"\xff", "[" * 100_000]
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/models/iris:predict", "/predict"])
def test_bad_v1_and_beginners_requests_are_answered_400(http: httpx.Client, path: str, content: str | bytes) -> None:
    """The same holds for the simpler protocols."""
    body = content.replace("instances", "features") if path == "/predict" and isinstance(content, str) else content
    answer = http.post(path, content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/%ff", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("POST", "/v1/models/iris:explain", 404),
        ("POST", "/v2/models/iris/versions/9/infer", 404),
        ("POST", "/v2/repository/models/iris/unload", 404),
        ("POST", "/v2/repository/models/iris/load", 404),
        ("GET", "/nowhere", 404),
        ("GET", INFER, 405),
        ("DELETE", INFER, 405),
        ("GET", "/predict", 405),
    ],
)
def test_what_is_not_there_is_404_or_405(http: httpx.Client, method: str, path: str, status: int) -> None:
    """Neither an unknown model nor a wrong method is a 5xx, nor can a caller unload the model."""
    answer = http.request(method, path, **({"content": v2(), "headers": JSON} if method == "POST" else {}))
    assert (answer.status_code, answer.headers["x-relevo-revision"]) == (status, REVISION)
    assert http.get("/v2/models/iris/ready").status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit_is_413(http: httpx.Client, chunked: bool) -> None:
    """Nobody fills the memory with one request, whether it says how long it is or not: it is refused, and the server goes on."""
    parts = [b"x" * 2**20] * 17
    # Closing the connection before all was sent is as good a refusal: the client may then see that, and not the answer.
    with contextlib.suppress(httpx.TransportError):
        assert http.post(INFER, content=iter(parts) if chunked else b"".join(parts), headers=JSON).status_code == 413
    assert http.get("/v2/models/iris/ready").status_code == 200


GOOD_TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP64", "contents": pb.InferTensorContents(fp64_contents=ROW)}


def infer_request(
    model: str = "iris", raw: list[bytes] | None = None, version: str = "", **changes: object
) -> pb.ModelInferRequest:
    """A gRPC request for one row, with its tensor changed."""
    tensor = pb.ModelInferRequest.InferInputTensor(**{**GOOD_TENSOR, **changes})
    return pb.ModelInferRequest(model_name=model, model_version=version, inputs=[tensor], raw_input_contents=raw or [])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (infer_request("other"), grpc.StatusCode.NOT_FOUND),
        (infer_request(version="9"), grpc.StatusCode.NOT_FOUND),
        (pb.ModelInferRequest(model_name="iris"), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(name="y"), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(shape=[2, 4]), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(shape=[-1, 4]), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(datatype="BOOL"), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(datatype="NO"), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(contents=pb.InferTensorContents(int_contents=[1, 2, 3, 4])), grpc.StatusCode.INVALID_ARGUMENT),
        (
            infer_request(contents=pb.InferTensorContents(fp64_contents=[float("nan")] * 4)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (infer_request(raw=[b"\0" * 32]), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(raw=[b"\0" * 31], contents=None), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(raw=[b"\0" * 32] * 2, contents=None), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_bad_grpc_request_is_the_callers_mistake(
    server: Server, request_: pb.ModelInferRequest, code: grpc.StatusCode
) -> None:
    """INVALID_ARGUMENT or NOT_FOUND with a reason, never UNKNOWN or INTERNAL."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            services.GRPCInferenceServiceStub(channel).ModelInfer(request_, timeout=20)
        assert refused.value.code() == code, refused.value
        assert refused.value.details()


def stub(channel: grpc.Channel) -> services.GRPCInferenceServiceStub:
    """The protocol's own client."""
    return services.GRPCInferenceServiceStub(channel)


def test_every_grpc_method_answers_as_the_protocol_says(server: Server) -> None:
    """The protocol's own messages, and its own stub; what this server does not offer is UNIMPLEMENTED."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        asked = stub(channel)
        assert asked.ServerLive(pb.ServerLiveRequest(), timeout=60).live
        assert asked.ServerReady(pb.ServerReadyRequest(), timeout=60).ready
        for version in ("", REVISION):
            assert asked.ModelReady(pb.ModelReadyRequest(name="iris", version=version), timeout=60).ready
            about = asked.ModelMetadata(pb.ModelMetadataRequest(name="iris", version=version), timeout=60)
            assert (about.name, list(about.versions)) == ("iris", [REVISION])
            assert [(item.name, item.datatype, list(item.shape)) for item in about.inputs] == [("x", "FP64", [-1, 4])]
            assert [item.name for item in about.outputs] == ["predict", "predict_proba"]
        of_server = asked.ServerMetadata(pb.ServerMetadataRequest(), timeout=60)
        assert of_server.name
        assert of_server.version
        assert "binary_tensor_data" in of_server.extensions
        for method, request in (
            (asked.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="iris")),
            (asked.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="iris")),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                method(request, timeout=60)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        for method, request in (
            (asked.ModelReady, pb.ModelReadyRequest(name="none")),
            (asked.ModelMetadata, pb.ModelMetadataRequest(name="iris", version="9")),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                method(request, timeout=60)
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT64", "INT32", "UINT64", "UINT32"])
@pytest.mark.parametrize("raw", [False, True])
def test_grpc_takes_typed_and_raw_contents(server: Server, datatype: str, raw: bool) -> None:
    """The same rows give the same class in every datatype; the answer comes as the request came, and repeats its id."""
    rows = np.array([[5, 3, 1, 0], [6, 3, 5, 2]])
    values = rows.astype({"F": "f", "I": "i", "U": "u"}[datatype[0]] + str(int(datatype[-2:]) // 8))
    field = {"FP64": "fp64", "FP32": "fp32", "INT64": "int64", "INT32": "int", "UINT64": "uint64", "UINT32": "uint"}
    contents = pb.InferTensorContents(**{f"{field[datatype]}_contents": values.ravel().tolist()})
    request = pb.ModelInferRequest(
        model_name="iris",
        id="7",
        inputs=[
            pb.ModelInferRequest.InferInputTensor(
                name="x", shape=[2, 4], datatype=datatype, contents=None if raw else contents
            )
        ],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("predict", "predict_proba")],
        raw_input_contents=[values.tobytes()] if raw else [],
    )
    with grpc.insecure_channel(server.grpc_address) as channel:
        answer, call = stub(channel).ModelInfer.with_call(request, timeout=60)
    assert (answer.model_name, answer.model_version, answer.id) == ("iris", REVISION, "7")
    assert ("x-relevo-revision", REVISION) in [tuple(item) for item in call.trailing_metadata()]
    assert [(item.name, item.datatype, list(item.shape)) for item in answer.outputs] == [
        ("predict", "INT64", [2]),
        ("predict_proba", "FP64", [2, 3]),
    ]
    if raw:
        classes, scores = (
            np.frombuffer(part, kind) for part, kind in zip(answer.raw_output_contents, ("<i8", "<f8"), strict=True)
        )
    else:
        classes, scores = answer.outputs[0].contents.int64_contents, answer.outputs[1].contents.fp64_contents
    assert list(classes) == [0, 2]
    np.testing.assert_allclose(np.reshape(scores, (2, 3)).sum(axis=1), 1.0, atol=1e-6)


def test_bytes_that_are_no_message_are_the_callers_mistake(server: Server) -> None:
    """INVALID_ARGUMENT, for every method; a call that brings no message at all too; one larger than may be is RESOURCE_EXHAUSTED."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        for method in ("ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(b"\xff" * 9, timeout=60)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        infer = "/inference.GRPCInferenceService/ModelInfer"
        with pytest.raises(grpc.RpcError) as refused:
            channel.stream_unary(infer)(iter(()), timeout=60)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND  # the model with no name
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(infer)(b"\0" * (17 * 2**20), timeout=60)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_watching_an_unknown_service_says_so(server: Server) -> None:
    """SERVICE_UNKNOWN (3), and the call stays open, as its documentation asks; more watches than may be are refused."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        unknown = watch(b"\x0a\x01x", timeout=60)
        assert next(unknown) == b"\x08\x03"
        watches = [watch(b"", timeout=60) for _ in range(limits.MAX_WATCHES - 1)]
        for each in watches:
            assert next(each) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as refused:
            next(watch(b"", timeout=60))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        for each in (unknown, *watches):
            each.cancel()


def test_a_model_that_raises_gives_500_with_a_short_reason(tmp_path: Path) -> None:
    """The failing candidate fails on just the rows that its metadata counts, without a traceback; gRPC says INTERNAL."""
    package = trained(tmp_path / "e", "--categories", "strict", "--train-share", "0.6")
    held = package.heldout()
    with serving(package.folder) as running, httpx.Client(base_url=running.url, timeout=20) as client:
        answers = [client.post(INFER, headers=JSON, content=v2(data=row.tolist())) for row in held.x]
        failed = [answer for answer in answers if answer.status_code != 200]
        assert len(failed) == package.metadata.metrics["test"]["failed_rows"] > 0
        for answer in failed:
            assert answer.status_code == 500
            assert answer.json()["error"].startswith("the model failed on this input")
            assert "Traceback" not in answer.text
            assert answer.headers["x-relevo-revision"] == REVISION
        row = held.x[next(i for i, answer in enumerate(answers) if answer.status_code == 500)]
        bad = infer_request(contents=pb.InferTensorContents(fp64_contents=row.tolist()))
        with grpc.insecure_channel(running.grpc_address) as channel, pytest.raises(grpc.RpcError) as refused:
            services.GRPCInferenceServiceStub(channel).ModelInfer(bad, timeout=20)
        assert refused.value.code() == grpc.StatusCode.INTERNAL
        metrics = client.get("/metrics").text
        assert f'relevo_model_failures_total{{model_name="iris",revision="{REVISION}"}} {len(failed) + 1}.0' in metrics


def run_to_its_end(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the server where it is not expected to stay."""
    command = [sys.executable, "-m", "relevo.serving", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))


def test_a_tampered_package_is_refused_with_exit_code_3(package: Package, tmp_path: Path) -> None:
    """The last line on stderr names the file; no traceback."""
    spoilt = Path(shutil.copytree(package.folder, tmp_path / "spoilt"))
    data = bytearray((spoilt / "model.onnx").read_bytes())
    data[100] ^= 1
    (spoilt / "model.onnx").write_bytes(data)
    ended = run_to_its_end("--package", str(spoilt), "--http-port", "0")
    assert ended.returncode == 3
    assert "model.onnx has digest" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("which", ["--http-port", "--grpc-port"])
def test_a_port_in_use_ends_with_exit_code_1_and_names_the_port(package: Package, which: str) -> None:
    """It may be free later, so this is no refusal for good."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        other = [] if which == "--http-port" else ["--http-port", "0"]
        ended = run_to_its_end("--package", str(package.folder), which, port, *other)
    assert ended.returncode == 1
    assert port in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_it_listens_on_loopback_alone(server: Server) -> None:
    """Nothing is reachable from outside unless --host says so."""
    import psutil

    mine = [c for c in psutil.net_connections("inet") if c.pid == server.process.pid and c.status == "LISTEN"]
    addresses = {connection.laddr.ip.removeprefix("::ffff:") for connection in mine}  # gRPC maps IPv4 into IPv6
    assert addresses == {"127.0.0.1"}
