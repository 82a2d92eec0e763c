"""gRPC's standard health service, `grpc.health.v1.Health`: Check and Watch. `calls` puts it beside the inference service.

Its two messages have one field each, so they are read and written here as bytes.
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc  # type: ignore[import-untyped]

from relevo.serving import limits
from relevo.serving.revision import Revision

__all__ = ["Health"]

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
"""grpc.health.v1.HealthCheckResponse, field 1, on the wire."""
_LOOK_SECONDS = 0.2


class Health:
    """The health of a revision, under the names of `services`."""

    def __init__(self, revision: Revision, services: frozenset[str]) -> None:
        self._revision = revision
        # HealthCheckRequest has one field, the service's name; a field that is empty may be there or not.
        self._known = {b""} | {b"\x0a%c%b" % (len(name), name.encode()) for name in services}
        self._watches = 0
        self._ending = False

    def handlers(self) -> grpc.GenericRpcHandler:
        """Both methods."""
        return grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health",
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )

    def end(self) -> None:
        """End all watches: the server goes."""
        self._ending = True

    def _status(self) -> bytes:
        return _SERVING if self._revision.ready and self._revision.live else _NOT_SERVING

    async def _check(self, request: bytes, context: Any) -> bytes:
        if request not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self._status()

    async def _watch(self, request: bytes, context: Any) -> None:
        """Send the status now and whenever it changes; that of an unknown service is SERVICE_UNKNOWN."""
        if self._watches >= limits.MAX_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._watches} calls watch already")
        self._watches += 1
        try:
            told = None
            while True:
                ending = self._ending
                status = self._status() if request in self._known else _SERVICE_UNKNOWN
                if status != told:
                    await context.write(status)
                    told = status
                if ending:
                    return
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._watches -= 1
