"""The hook of `relevo.access` in the gRPC server: `CallsGuard`, an interceptor. It refuses before a message is decoded, as `guard` does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
from grpc import aio

from relevo.access.gate import Gate
from relevo.access.refusal import KINDS, Refused
from relevo.serving.guard import RefusalLog
from relevo.serving.revision import Revision

__all__ = ["CallsGuard"]

_OPEN = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
        "/inference.GRPCInferenceService/ModelReady",
    }
)
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class CallsGuard(aio.ServerInterceptor):  # type: ignore[misc]
    """Lets calls on for whom the gate lets in. A client's certificate, where one is needed, was demanded by the handshake already."""

    def __init__(self, gate: Gate, revision: Revision, log: RefusalLog) -> None:
        self._gate = gate
        self._tallies = revision.tallies
        self._log = log
        self._certificate = "a client" if gate.tls is not None and gate.tls.needs_client else None

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Let the call on to its handler, or to one that ends it."""
        if details.method not in _OPEN:
            headers = [(name.encode(), _bytes(value)) for name, value in details.invocation_metadata]
            if self._gate.admit(headers, self._certificate) is None:
                try:
                    await self._gate.decide(headers, self._certificate)
                except Refused as refused:
                    return self._refusing(refused, details.method)
        return await continuation(details)

    def _refusing(self, refused: Refused, method: str) -> Any:
        async def refuse(_: bytes, context: Any) -> None:
            self._tallies.failed(KINDS[refused.status])
            self._log.write(refused, "gRPC", method, str(context.peer())[:100])
            trailing = (("www-authenticate", refused.challenge),) if refused.challenge else ()
            await context.abort(_CODES[refused.status], refused.reason, trailing)

        return grpc.unary_unary_rpc_method_handler(refuse)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")
