"""KServe's REST application for one revision: `build`. Behind `front`, it answers V1, metadata, binary tensors and all that is unusual.

Two differences from KServe's own: whatever goes wrong while a request is decoded is the request's fault, and errors are one JSON object
with the reason. Importing this module imports KServe, which takes seconds: `behind` does it while the fast path serves already.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve import ModelRepository
from kserve.constants.constants import PredictorProtocol
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotLive, ServerNotReady, UnsupportedProtocol
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
from starlette.exceptions import HTTPException

from relevo.serving.binary import check_binary_request
from relevo.serving.model import PackagedModel
from relevo.serving.refusals import InvalidRequest, ModelFailed, Overloaded
from relevo.serving.revision import Revision

__all__ = ["NOT_OFFERED", "build"]

_log = logging.getLogger(__name__)

NOT_OFFERED = "not offered: this server serves one revision of one model, and only infers"
"""For explain, and for loading or unloading models over the network."""


def build(revision: Revision) -> FastAPI:
    """The application. The revision must be loaded."""
    repository = ModelRepository()
    repository.update(PackagedModel(revision))
    data_plane = _DataPlane(repository, revision)
    app = FastAPI(title="relevo model server", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    register_v1_endpoints(app, data_plane, _FixedRepository(repository))
    register_v2_endpoints(app, data_plane, _FixedRepository(repository))
    _add_exception_handlers(app)
    return app


class _DataPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane, with readiness that ends when draining begins."""

    def __init__(self, repository: ModelRepository, revision: Revision) -> None:
        super().__init__(model_registry=repository)
        self._revision = revision

    async def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self._revision.ready

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """The revision's own; KServe's has neither versions nor the platform."""
        self.get_model_from_registry(model_name)
        return self._revision.metadata()

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


class _FixedRepository(ModelRepositoryExtension):  # type: ignore[misc]
    """Refuses to load or unload models over the network: whoever can send a request could end the service."""

    async def load(self, model_name: str) -> dict[str, Any]:
        """Refused."""
        raise NotImplementedError

    async def unload(self, model_name: str) -> None:
        """Refused."""
        raise NotImplementedError


def _add_exception_handlers(app: FastAPI) -> None:
    statuses: dict[type[Exception], int] = {
        InvalidInput: 400,
        InvalidRequest: 400,
        ModelNotFound: 404,
        UnsupportedProtocol: 400,
        ModelFailed: 500,
        ModelNotReady: 503,
        ServerNotLive: 503,
        ServerNotReady: 503,
    }
    for kind, status in statuses.items():
        app.add_exception_handler(kind, _error_handler(status))
    app.add_exception_handler(Overloaded, _overloaded)
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


async def _overloaded(_: Request, error: Any) -> JSONResponse:
    return _error(503, str(error), {"retry-after": str(error.retry_after_seconds)})


async def _not_offered(_: Request, __: Exception) -> JSONResponse:
    return _error(404, NOT_OFFERED)


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
