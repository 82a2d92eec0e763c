"""KServe's REST and gRPC servers, with three differences: they listen where they are told, name the revision, and never blame
themselves for a bad request.

KServe's own bind every interface, log a traceback for each invalid request, and answer some malformed ones with 5xx. Here whatever
goes wrong while a request is decoded is the request's fault.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from grpc import StatusCode, aio  # type: ignore[import-untyped]
from grpc_interceptor import AsyncExceptionToStatusInterceptor
from kserve import metrics as kserve_metrics
from kserve.constants.constants import PredictorProtocol
from kserve.errors import (
    InferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotLive,
    ServerNotReady,
    UnsupportedProtocol,
)
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as grpc_services
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from prometheus_client import REGISTRY
from starlette.exceptions import HTTPException

from relevo.serving.binary import check_binary_request
from relevo.serving.front import wrap
from relevo.serving.refusals import InvalidRequest, ModelFailed
from relevo.serving.revision import Revision

__all__ = ["FixedRepository", "RevisionDataPlane", "RevisionGrpcServer", "RevisionRestServer"]

_log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 65
_NOT_OFFERED = "not offered: this server serves one revision of one model, and only infers"
"""For explain, model versions, and loading or unloading models over the network."""


class RevisionDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane, with readiness that ends when draining begins."""

    def __init__(self, registry: Any, revision: Revision) -> None:
        super().__init__(model_registry=registry)
        self._revision = revision

    @property
    def revision(self) -> str:
        """The revision that this server is."""
        return self._revision.revision

    async def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self._revision.ready

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """KServe's metadata, with the revision as the model's version and the platform named."""
        about = await super().model_metadata(model_name)
        platform = {"onnx": "onnx_onnxv1", "sklearn": "sklearn"}[self._revision.about.runtime]
        return {**about, "versions": [self.revision], "platform": platform}

    def decode(
        self, body: Any, headers: dict[str, str], protocol_version: str = "v1", model_name: str | None = None
    ) -> Any:
        """KServe's decoding; any failure of it is the request's fault."""
        if isinstance(body, bytes) and protocol_version == PredictorProtocol.REST_V2.value:
            check_binary_request(body, headers)
        try:
            return super().decode(body, headers, protocol_version, model_name)
        except InvalidInput:
            raise
        except Exception as error:  # KeyError, TypeError, struct.error, ...: a field is missing or of another type
            reason = " ".join(str(error).split())[:200]
            raise InvalidRequest(
                f"body: cannot be decoded as an inference request: {type(error).__name__}: {reason}"
            ) from None


class FixedRepository(ModelRepositoryExtension):  # type: ignore[misc]
    """Refuses to load or unload models over the network: whoever can send a request could end the service."""

    async def load(self, model_name: str) -> dict[str, Any]:
        """Refused."""
        raise NotImplementedError

    async def unload(self, model_name: str) -> None:
        """Refused."""
        raise NotImplementedError


class _QuietServer(uvicorn.Server):
    """uvicorn without signal handlers: `relevo.serving.server` owns the signals, for REST and gRPC together."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class RevisionRestServer(RESTServer):  # type: ignore[misc]
    """KServe's REST endpoints behind `wrap`, on a socket of ours."""

    def __init__(
        self,
        data_plane: RevisionDataPlane,
        repository: FixedRepository,
        revision: Revision,
        grace_seconds: int,
        *,
        fast: bool = True,
    ) -> None:
        # An application of its own, not KServe's global one, which would mix the models of two servers in one process.
        self.app = FastAPI(title="relevo model server", docs_url=None, redoc_url=None)
        super().__init__(self.app, data_plane, repository, http_port=0)
        self.config = uvicorn.Config(
            wrap(self.app, revision, fast=fast),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=grace_seconds,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            # uvicorn puts these on every answer, its own errors included.
            headers=[("x-relevo-revision", revision.revision)],
            server_header=False,
            lifespan="off",
            ws="none",
        )
        self._revision = revision
        self._server = _QuietServer(self.config)

    def create_application(self) -> None:
        """KServe's endpoints, with our answers to errors."""
        self._register_endpoints(self.app)
        self._add_exception_handlers(self.app)

    async def serve(self, listener: socket.socket) -> None:
        """Serve until `stop`."""
        self.create_application()
        for own in (kserve_metrics.PRE_HIST_TIME, kserve_metrics.PREDICT_HIST_TIME, kserve_metrics.POST_HIST_TIME):
            with suppress(KeyError):  # unregistered already
                REGISTRY.unregister(own)
        REGISTRY.register(self._revision.tallies)
        await self._server.serve(sockets=[listener])

    def stop(self) -> None:
        """Accept nothing more, answer what was accepted, then return from `serve`."""
        self._server.should_exit = True

    def _add_exception_handlers(self, app: FastAPI) -> None:
        statuses: dict[type[Exception], int] = {
            InvalidInput: 400,
            InvalidRequest: 400,
            ModelFailed: 500,
            ModelNotFound: 404,
            UnsupportedProtocol: 400,
            InferenceError: 500,
            ModelNotReady: 503,
            ServerNotLive: 503,
            ServerNotReady: 503,
        }
        for kind, status in statuses.items():
            app.add_exception_handler(kind, _error_handler(status))
        app.add_exception_handler(NotImplementedError, _not_offered)
        app.add_exception_handler(RequestValidationError, _validation_error)
        app.add_exception_handler(HTTPException, _http_error)
        app.add_exception_handler(Exception, _internal_error)


def _error(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    # A reason may quote what was sent, and JSON can spell lone surrogates, which UTF-8 cannot.
    return JSONResponse({"error": reason.encode("utf-8", "replace").decode()}, status, headers)


async def _http_error(_: Request, error: Any) -> JSONResponse:
    """FastAPI's own errors (no such path, wrong method, a body that cannot be parsed) in the shape of all others."""
    return _error(error.status_code, str(error.detail), error.headers)


def _error_handler(status: int) -> Any:
    async def handle(_: Request, error: Exception) -> JSONResponse:
        return _error(status, str(error))

    return handle


async def _not_offered(_: Request, __: Exception) -> JSONResponse:
    return _error(404, _NOT_OFFERED)


async def _validation_error(_: Request, error: Any) -> JSONResponse:
    """400 with the field and the reason. FastAPI's own answer repeats the input, which need not be JSON, nor short."""
    reasons = []
    for item in error.errors():
        # The body may be an InferenceRequest or raw bytes; only what was wrong with it as the former helps the caller.
        place = [str(part) for part in item["loc"] if part not in ("body", "InferenceRequest")]
        if place[:1] != ["bytes"]:
            reasons.append(f"{'.'.join(place) or 'body'}: {item['msg']}")
    return _error(400, "; ".join(reasons[:3]) or "body: is not an inference request")


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(500, f"internal error: {type(error).__name__}")


class _Servicer(InferenceServicer):  # type: ignore[misc]
    """KServe's gRPC service; decoding errors are the request's fault here too."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 (the protocol's name)
        if request.model_version not in ("", self._data_plane.revision):
            raise ModelNotFound(f"{request.model_name}, version {request.model_version},")
        try:
            return await super().ModelInfer(request, context)
        except (IndexError, KeyError, TypeError, OverflowError) as error:
            raise InvalidRequest(f"the request cannot be decoded: {type(error).__name__}: {error}") from None

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = await super().ModelMetadata(request, context)
        about = await self._data_plane.model_metadata(model_name=request.name)
        answer.versions.extend(about["versions"])
        return answer


class _Statuses(AsyncExceptionToStatusInterceptor):
    """The gRPC status of each error, without a traceback in the log for what callers do wrong."""

    async def handle_exception(self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str) -> Any:
        """Abort the call with the status that says whose fault it is."""
        match ex:
            case InvalidInput() | InvalidRequest() | UnsupportedProtocol():
                await context.abort(StatusCode.INVALID_ARGUMENT, str(ex))
            case ModelNotFound():
                await context.abort(StatusCode.NOT_FOUND, str(ex))
            case ModelNotReady() | ServerNotReady() | ServerNotLive():
                await context.abort(StatusCode.UNAVAILABLE, str(ex))
            case NotImplementedError():
                await context.abort(StatusCode.UNIMPLEMENTED, _NOT_OFFERED)
            case InferenceError() | ModelFailed():
                await context.abort(StatusCode.INTERNAL, str(ex))
            case _:
                _log.error("%s failed", method_name, exc_info=ex)
                await context.abort(StatusCode.INTERNAL, f"internal error: {type(ex).__name__}")


class RevisionGrpcServer(GRPCServer):  # type: ignore[misc]
    """KServe's gRPC service on one address of ours."""

    def __init__(
        self,
        address: str,
        data_plane: RevisionDataPlane,
        repository: FixedRepository,
        *,
        grace_seconds: int,
    ) -> None:
        super().__init__(0, data_plane, repository, kwargs={}, grace_period=grace_seconds)
        self._address = address

    async def start(self, max_workers: int = 1) -> None:
        """Bind and begin to serve.

        Raises:
            RuntimeError: the address is in use.
        """
        self._server = aio.server(
            ThreadPoolExecutor(max_workers=max_workers),
            interceptors=(_Statuses(),),
            options=[
                ("grpc.so_reuseport", 0),  # else a second server on the port would silently take half of the calls
            ],
        )
        servicer = _Servicer(self._data_plane, self._model_repository_extension)
        grpc_services.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        self._server.add_insecure_port(self._address)
        await self._server.start()
