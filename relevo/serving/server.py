"""Run one revision: KServe's `ModelServer`, REST and gRPC in one event loop, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass
from typing import Any

from kserve import ModelServer

from relevo import errors
from relevo.serving.model import PackagedModel
from relevo.serving.protocols import FixedRepository, RevisionDataPlane, RevisionGrpcServer, RevisionRestServer
from relevo.serving.revision import Revision

__all__ = ["Listen", "RevisionServer", "bind"]

_log = logging.getLogger(__name__)


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


class RevisionServer(ModelServer):  # type: ignore[misc]
    """KServe's model server for one packaged model."""

    def __init__(self, revision: Revision, listen: Listen, *, fast: bool = True) -> None:
        super().__init__(enable_latency_logging=False, enable_grpc=listen.grpc_port is not None)
        self._listen = listen
        self._revision = revision
        self.dataplane = RevisionDataPlane(self.registered_models, revision)
        self._rest = RevisionRestServer(
            self.dataplane, FixedRepository(self.registered_models), revision, listen.grace_seconds, fast=fast
        )

    def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT; then answer what was accepted and return.

        Raises:
            errors.Transient: the gRPC port is in use.
        """
        self._register_and_check_atleast_one_model_is_ready([PackagedModel(self._revision)])
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(listener))

    async def _run(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._drain)
        grpc = await self._start_grpc()
        await self._rest.serve(listener)
        if grpc is not None:
            await grpc.stop()

    def _drain(self) -> None:
        self._revision.ready = False
        self._rest.stop()

    async def _start_grpc(self) -> Any:
        if self._listen.grpc_port is None:
            return None
        host = f"[{self._listen.host}]" if ":" in self._listen.host else self._listen.host
        server = RevisionGrpcServer(
            f"{host}:{self._listen.grpc_port}",
            self.dataplane,
            FixedRepository(self.registered_models),
            grace_seconds=self._listen.grace_seconds,
        )
        try:
            await server.start()
        except RuntimeError as error:
            raise errors.Transient(
                f"cannot listen on {self._listen.host}:{self._listen.grpc_port} for gRPC: it is in use",
                next_step="Choose another --grpc-port.",
            ) from error
        return server
