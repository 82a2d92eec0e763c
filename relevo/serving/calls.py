"""V2 over gRPC: `start`. Straight to the revision, without KServe's servicer; gRPC's standard health service is `health`'s.

The message classes are those that come with KServe, loaded by file: importing them by name would first import all of KServe. Tensors may
come as typed contents or as raw bytes; the answer's come in the form in which the request's came.

Requests arrive here as bytes, so that bytes which are no such message are the caller's mistake, and a call to infer is counted before its
message is read: a call that is not admitted takes no memory, and one whose message does not come is ended.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from grpc import aio

from relevo.serving import limits
from relevo.serving.health import Health
from relevo.serving.refusals import InvalidRequest, ModelFailed, NotFound, Overloaded
from relevo.serving.revision import Revision
from relevo.serving.schema import PROBABILITY_OUTPUT
from relevo.serving.tensors import Tensor, rows_from_tensors

__all__ = ["GrpcServer", "start"]

_log = logging.getLogger(__name__)

_PREPROCESS, _POSTPROCESS = 0, 2
_SERVICE = "inference.GRPCInferenceService"
_NOT_OFFERED = "not offered: this server serves one revision of one model, and only infers"
_STATUSES: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    ModelFailed: grpc.StatusCode.INTERNAL,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,
}
_KINDS: dict[type[Exception], str] = {InvalidRequest: "invalid", NotFound: "other"}
_CONTENTS = {
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Where the typed contents of a tensor are. FP16 comes as raw bytes only."""

_MAX_RPCS = 1000
_IDLE_MILLISECONDS = 5 * 60 * 1000

Method = Callable[[Any], Awaitable[Any]]


def _load_messages() -> Any:
    package = importlib.util.find_spec("kserve")
    if package is None or not package.submodule_search_locations:
        raise ImportError("kserve is not installed")
    file = Path(package.submodule_search_locations[0]) / "protocol" / "grpc" / "grpc_predict_v2_pb2.py"
    spec = importlib.util.spec_from_file_location("relevo.serving._messages", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class GrpcServer:
    """A server that listens."""

    def __init__(self, server: aio.Server, health: Health) -> None:
        self._server = server
        self._health = health

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, and give those that were taken this long."""
        self._health.end()
        await self._server.stop(grace_seconds)


async def start(
    revision: Revision,
    address: str,
    interceptors: Sequence[aio.ServerInterceptor] = (),
    credentials: Any = None,
    *,
    shared: bool = False,
) -> GrpcServer:
    """Bind and serve; with TLS where there are `credentials`; `shared` if other workers listen on the address too.

    Raises:
        RuntimeError: the address is in use.
    """
    server = aio.server(
        interceptors=tuple(interceptors),
        maximum_concurrent_rpcs=_MAX_RPCS,
        options=[
            # Unless it is meant to be, a second server on the port would silently take half of the calls.
            ("grpc.so_reuseport", int(shared)),
            ("grpc.max_receive_message_length", limits.MAX_BODY_BYTES),
            ("grpc.max_metadata_size", 16 * 1024),
            ("grpc.max_connection_idle_ms", _IDLE_MILLISECONDS),
        ],
    )
    calls, health = _Calls(revision, _load_messages()), Health(revision, frozenset({"", _SERVICE}))
    server.add_generic_rpc_handlers((calls.handlers(), health.handlers()))
    if credentials is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials)
    await server.start()
    return GrpcServer(server, health)


class _Calls:
    """The methods of `inference.GRPCInferenceService`."""

    def __init__(self, revision: Revision, messages: Any) -> None:
        self._revision = revision
        self._pb = messages
        self._inferring = 0

    def handlers(self) -> grpc.GenericRpcHandler:
        """All methods of the service, by name."""
        methods = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "RepositoryModelLoad": self._not_offered,
            "RepositoryModelUnload": self._not_offered,
        }
        found = {
            name: grpc.unary_unary_rpc_method_handler(self._answering(method, getattr(self._pb, f"{name}Request")))
            for name, method in methods.items()
        }
        # On the wire a call with one message is like one with several.
        found["ModelInfer"] = grpc.stream_unary_rpc_method_handler(self._admitting(self._pb.ModelInferRequest))
        return grpc.method_handlers_generic_handler(_SERVICE, found)

    def _answering(self, method: Method, kind: Any) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """`method`, with the gRPC status of each error, and no traceback in the log for what callers do wrong."""
        revision = self._revision

        async def answer(request: bytes, context: Any) -> bytes:
            context.set_trailing_metadata((("x-relevo-revision", revision.revision),))
            try:
                found = await method(_parsed(kind, request))
                return found.SerializeToString()  # type: ignore[no-any-return]
            except tuple(_STATUSES) as error:
                counted = _KINDS.get(type(error))
                if counted is not None:
                    revision.tallies.failed(counted)
                text = _NOT_OFFERED if isinstance(error, NotImplementedError) else str(error)
                # A reason may quote what was sent; a status message that is not UTF-8 would fail to be sent.
                code, reason = _STATUSES[type(error)], text.encode("utf-8", "replace").decode()
            except Exception as error:
                _log.exception("a call failed")
                code, reason = grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}"
            return await context.abort(code, reason)  # type: ignore[no-any-return]

        return answer

    def _admitting(self, kind: Any) -> Callable[[Any, Any], Awaitable[bytes]]:
        """`_infer` for as many calls as may be under way, once their message has come."""
        answer = self._answering(self._infer, kind)
        tallies = self._revision.tallies

        async def admit(_: Any, context: Any) -> bytes:
            if self._inferring >= limits.MAX_CALLS:
                tallies.failed("overload")
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(Overloaded(self._inferring)))
            self._inferring += 1
            try:
                try:
                    async with asyncio.timeout(limits.BODY_SECONDS):
                        request = await context.read()
                except TimeoutError:
                    tallies.failed("invalid")
                    await context.abort(
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        f"the message did not come in {limits.BODY_SECONDS:g} seconds",
                    )
                return await answer(b"" if request is aio.EOF else request, context)
            finally:
                self._inferring -= 1

        return admit

    async def _server_live(self, _: Any) -> Any:
        return self._pb.ServerLiveResponse(live=self._revision.live)

    async def _server_ready(self, _: Any) -> Any:
        return self._pb.ServerReadyResponse(ready=self._revision.ready)

    async def _model_ready(self, request: Any) -> Any:
        self._known(request.name, request.version)
        return self._pb.ModelReadyResponse(ready=self._revision.ready)

    async def _server_metadata(self, _: Any) -> Any:
        from importlib.metadata import version

        return self._pb.ServerMetadataResponse(
            name="kserve", version=version("kserve"), extensions=["binary_tensor_data"]
        )

    async def _model_metadata(self, request: Any) -> Any:
        self._known(request.name, request.version)
        return self._pb.ModelMetadataResponse(**self._revision.metadata())

    async def _not_offered(self, _: Any) -> Any:
        raise NotImplementedError

    def _known(self, name: str, version: str) -> None:
        if name != self._revision.name:
            raise NotFound(f"Model with name {name} does not exist.")
        if version not in ("", self._revision.revision):
            raise NotFound(f"Model with name {name} has no version {version}")

    async def _infer(self, request: Any) -> Any:
        began = perf_counter()
        self._known(request.model_name, request.model_version)
        parameters = {
            name: value.bool_param if value.HasField("bool_param") else None
            for name, value in request.parameters.items()
            if name == PROBABILITY_OUTPUT
        }
        schema = self._revision.schema
        wanted = [one.name for one in schema.wanted([(o.name, None) for o in request.outputs], parameters)]
        rows = rows_from_tensors(_tensors(request), self._revision.about)
        tallies = self._revision.tallies
        tallies.timed(_PREPROCESS, perf_counter() - began)
        classes, scores = await self._revision.predict(rows, probabilities=PROBABILITY_OUTPUT in wanted)
        began = perf_counter()
        raw = bool(request.raw_input_contents)
        answer = self._pb.ModelInferResponse(
            model_name=self._revision.name, model_version=self._revision.revision, id=request.id or str(uuid.uuid4())
        )
        for name in wanted:
            values, datatype = schema.array(name, classes, scores)
            self._add(answer, name, datatype, values, raw=raw)
        tallies.timed(_POSTPROCESS, perf_counter() - began)
        return answer

    @staticmethod
    def _add(answer: Any, name: str, datatype: str, values: Any, *, raw: bool) -> None:
        output = answer.outputs.add(name=name, datatype=datatype, shape=values.shape)
        if datatype == "BYTES":
            texts = [str(value).encode() for value in values.ravel()]
            if raw:
                answer.raw_output_contents.append(b"".join(len(t).to_bytes(4, "little") + t for t in texts))
            else:
                output.contents.bytes_contents.extend(texts)
        elif raw:
            answer.raw_output_contents.append(values.tobytes())
        else:
            getattr(output.contents, _CONTENTS[datatype]).extend(values.ravel().tolist())


def _parsed(kind: Any, request: bytes) -> Any:
    try:
        return kind.FromString(request)
    except DecodeError as error:
        raise InvalidRequest(f"message: is no {kind.DESCRIPTOR.full_name}: {error}") from None


def _tensors(request: Any) -> list[Tensor]:
    raws = request.raw_input_contents
    if not raws:
        return [_typed(item) for item in request.inputs]
    if len(raws) != len(request.inputs):
        raise InvalidRequest(f"raw_input_contents: has {len(raws)} tensors, but there are {len(request.inputs)} inputs")
    for item in request.inputs:
        if item.HasField("contents"):
            raise InvalidRequest(f"input {item.name!r}: has contents, but raw_input_contents are given as well")
    return [
        Tensor(item.name, list(item.shape), item.datatype, raw=raw)
        for item, raw in zip(request.inputs, raws, strict=True)
    ]


def _typed(item: Any) -> Tensor:
    field = _CONTENTS.get(item.datatype)
    data = list(getattr(item.contents, field)) if field is not None else []
    return Tensor(item.name, list(item.shape), item.datatype, data)
