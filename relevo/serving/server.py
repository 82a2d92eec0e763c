"""Run one revision: REST and gRPC in one event loop, KServe's application behind them, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import uvicorn

from relevo import errors
from relevo.serving import limits
from relevo.serving.behind import Behind
from relevo.serving.connections import Watch
from relevo.serving.front import wrap
from relevo.serving.lane import lane
from relevo.serving.revision import Revision

if TYPE_CHECKING:
    from relevo.access.gate import Gate

__all__ = ["Listen", "RevisionServer", "bind", "reserve"]

_TICK_SECONDS = 1.0
_OTHER_FILES = 100
"""Files that are open and no connections of REST's."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen, and how to end. `grpc_port` None leaves gRPC out.

    At the end readiness goes first; `drain_seconds` later nothing new is accepted, and what was accepted may take `grace_seconds`.
    """

    host: str
    http_port: int
    grpc_port: int | None
    grace_seconds: int = 30
    drain_seconds: float = 0.5
    grpc_port_is_shared: bool = False
    """Whether other workers of this server listen on it too."""


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port on which several workers are going to listen by themselves, as gRPC's do; 0 picks a free one.

    Raises:
        errors.Transient: it is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # A socket that shares its port could be had beside a stranger's that shares it too: first alone, then to be shared.
    for option in (0, 1):
        holder = socket.socket(family, socket.SOCK_STREAM)
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, option)
            holder.bind((host, port))
        except OSError as error:
            holder.close()
            raise _port_in_use(host, port) from error
        if not option:
            port = holder.getsockname()[1]
            holder.close()
    return holder


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
        self._watch = Watch(revision, max_connections=_connections_possible())
        self._draining = asyncio.Event()
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
                timeout_keep_alive=limits.KEEP_ALIVE_SECONDS,
                http=lane(self._watch, fast=fast, gate=gate),  # type: ignore[arg-type]
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

    def run(self, listener: socket.socket, *, until: int | None = None, beat: Callable[[], None] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, or until the file descriptor `until` can be read; then answer what was accepted and return.

        `beat` is called every second, as long as the event loop is well.

        Raises:
            errors.Transient: the gRPC port is in use.
        """
        import uvloop

        # Each wrong request would be a warning otherwise; they are answered and counted.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(listener, until, beat))

    async def _run(self, listener: socket.socket, until: int | None, beat: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._draining.set)
        if until is not None:
            loop.add_reader(until, self._draining.set)
        if self._gate is not None:
            self._gate.look()  # a worker that replaces another begins with what its parent read, which may be long ago
        grpc = await self._start_grpc()
        self._behind.begin()
        ticking = loop.create_task(self._tick(beat))
        drained = loop.create_task(self._drain(grpc))
        keeping_up = loop.create_task(self._gate.keep_up()) if self._gate is not None else None
        await self._rest.serve(sockets=[listener])
        await drained
        ticking.cancel()
        if keeping_up is not None:
            keeping_up.cancel()

    async def _drain(self, grpc: Any) -> None:
        """Once told to end: not ready any more; a moment later accept nothing more, and answer what was accepted."""
        await self._draining.wait()
        self._revision.ready, self._watch.draining = False, True
        # Whoever sends requests here learns of it first: by the readiness, and each client by its next answer.
        await asyncio.sleep(self._listen.drain_seconds)
        self._rest.should_exit = True
        if grpc is not None:
            await grpc.stop(self._listen.grace_seconds)

    async def _tick(self, beat: Callable[[], None] | None) -> None:
        connections = self._rest.server_state.connections
        while True:
            if beat is not None:
                beat()
            began = monotonic()
            await asyncio.sleep(_TICK_SECONDS)
            # If it was longer, the event loop was held, and what came meanwhile has not been read.
            self._watch.sweep(connections, min(monotonic() - began, 2 * _TICK_SECONDS))

    async def _start_grpc(self) -> Any:
        if self._listen.grpc_port is None:
            return None
        from relevo.serving.calls import start

        host = f"[{self._listen.host}]" if ":" in self._listen.host else self._listen.host
        interceptors, credentials = self._grpc_access()
        try:
            return await start(
                self._revision,
                f"{host}:{self._listen.grpc_port}",
                interceptors,
                credentials,
                shared=self._listen.grpc_port_is_shared,
            )
        except RuntimeError as error:
            raise _port_in_use(self._listen.host, self._listen.grpc_port) from error

    def _grpc_access(self) -> tuple[tuple[Any, ...], Any]:
        """The interceptors and the TLS credentials that the gate asks for."""
        if self._gate is None:
            return (), None
        from relevo.serving.guard_calls import CallsGuard

        tls = self._gate.tls
        guard = CallsGuard(self._gate, self._revision, self._refusals)
        return (guard,), tls.grpc_credentials() if tls is not None else None


def _port_in_use(host: str, port: int) -> errors.Transient:
    """The gRPC port is somebody else's."""
    return errors.Transient(
        f"cannot listen on {host}:{port} for gRPC: it is in use", next_step="Choose another --grpc-port."
    )


def _connections_possible() -> int:
    """`MAX_CONNECTIONS`, or fewer where the system allows fewer open files; a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * limits.MAX_CONNECTIONS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    possible = limits.MAX_CONNECTIONS
    return possible if soft == resource.RLIM_INFINITY else min(possible, (soft - _OTHER_FILES) // 2)
