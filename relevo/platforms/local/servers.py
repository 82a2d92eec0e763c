"""The model server of one revision, as a program for the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relevo.platforms.local.deployment import Revision, Service
from relevo.platforms.local.program import Program

__all__ = ["server_program"]


def server_program(command: Sequence[str], home: Path, service: Service, revision: Revision) -> Program:
    """What to run for `revision`: `command` with the options that `python -m relevo.serving` takes."""
    options = {
        "--storage-uri": revision.storage_uri,
        "--name": service.name,
        "--revision": revision.name,
        "--host": "127.0.0.1",
        "--http-port": str(revision.http_port),
        "--grpc-port": str(revision.grpc_port),
    }
    return Program(
        name=revision.name,
        argv=(*command, *(part for option in options.items() for part in option)),
        env={**service.env, "RELEVO_HOME": str(home)},
        health_url=f"{revision.address}/v2/health/ready",
    )
