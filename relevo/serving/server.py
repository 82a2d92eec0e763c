"""Run one revision: REST and gRPC in one event loop, KServe's application behind them, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

from relevo import errors
from relevo.serving.behind import Behind
from relevo.serving.front import wrap
from relevo.serving.lane import lane
from relevo.serving.revision import Revision

if TYPE_CHECKING:
    from relevo.access.gate import Gate

__all__ = ["Listen", "RevisionServer", "bind"]

_log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 65
_MAX_CONNECTIONS = 2000
"""Beyond them connections are answered 503: each waits for its turn, so their number bounds the queue."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen. `grpc_port` None leaves gRPC out; `grace_seconds` bounds how long requests in flight may take at the end."""

    host: str
    http_port: int
    grpc_port: int | None
    grace_seconds: int = 30


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: until the model is loaded, connections are refused rather than kept waiting.

    Raises:
        errors.Transient: the address is in use or not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise errors.Transient(
            f"cannot listen on {host}:{port}: {error.strerror}", next_step="Choose another --http-port."
        ) from error
    listener.set_inheritable(False)
    return listener


class _QuietServer(uvicorn.Server):
    """uvicorn without signal handlers: `RevisionServer` owns the signals, for REST and gRPC together."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class RevisionServer:
    """The server of one loaded revision."""

    def __init__(self, revision: Revision, listen: Listen, *, fast: bool = True, gate: Gate | None = None) -> None:
        """A `gate` says who may ask, and brings TLS."""
        self._revision = revision
        self._listen = listen
        self._behind = Behind(revision)
        self._gate = gate
        app = wrap(self._behind, revision, fast=fast)
        tls = gate.tls if gate is not None else None
        if gate is not None:
            from relevo.serving.guard import RefusalLog, guarded

            self._refusals = RefusalLog()
            app = guarded(app, gate, revision, self._refusals)
        self._rest = _QuietServer(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=listen.grace_seconds,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                limit_concurrency=_MAX_CONNECTIONS,
                http=lane(revision, fast=fast, gate=gate),  # type: ignore[arg-type]
                ssl_context_factory=(lambda *_: tls.context) if tls is not None else None,
                # uvicorn puts these on every answer, its own errors included.
                headers=[("x-relevo-revision", revision.revision)],
                server_header=False,
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                ws="none",
            )
        )

    def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT; then answer what was accepted and return.

        Raises:
            errors.Transient: the gRPC port is in use.
        """
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(listener))

    async def _run(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._drain)
        grpc = await self._start_grpc()
        self._behind.begin()
        keeping_up = loop.create_task(self._gate.keep_up()) if self._gate is not None else None
        await self._rest.serve(sockets=[listener])
        if keeping_up is not None:
            keeping_up.cancel()
        if grpc is not None:
            await grpc.stop(self._listen.grace_seconds)

    def _drain(self) -> None:
        """Not ready any more, accept nothing more, answer what was accepted, then return from `_run`."""
        self._revision.ready = False
        self._rest.should_exit = True

    async def _start_grpc(self) -> Any:
        if self._listen.grpc_port is None:
            return None
        from relevo.serving.calls import start

        host = f"[{self._listen.host}]" if ":" in self._listen.host else self._listen.host
        interceptors, credentials = self._grpc_access()
        try:
            return await start(self._revision, f"{host}:{self._listen.grpc_port}", interceptors, credentials)
        except RuntimeError as error:
            raise errors.Transient(
                f"cannot listen on {self._listen.host}:{self._listen.grpc_port} for gRPC: it is in use",
                next_step="Choose another --grpc-port.",
            ) from error

    def _grpc_access(self) -> tuple[tuple[Any, ...], Any]:
        """The interceptors and the TLS credentials that the gate asks for."""
        if self._gate is None:
            return (), None
        from relevo.serving.guard_calls import CallsGuard

        tls = self._gate.tls
        guard = CallsGuard(self._gate, self._revision, self._refusals)
        return (guard,), tls.grpc_credentials() if tls is not None else None
