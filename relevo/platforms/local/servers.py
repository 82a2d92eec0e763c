"""The model server of one revision: as a program for the supervisor, and as a state for the rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from relevo.platforms.local.deployment import Revision, Service
from relevo.platforms.local.guard import Guard
from relevo.platforms.local.program import Program, ProgramStatus
from relevo.rollout.observation import RevisionStatus

__all__ = ["revision_status", "server_program"]


def server_program(
    command: Sequence[str], home: Path, service: Service, revision: Revision, guard: Guard | None = None
) -> Program:
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
        argv=(
            *command,
            *(part for option in options.items() for part in option),
            *(guard.server_options() if guard is not None else ()),
        ),
        env={**service.env, "RELEVO_HOME": str(home)},
        health_url=f"{revision.address}/v2/health/ready",
        health_authority=guard.authority if guard is not None else None,
    )


def revision_status(
    revision: Revision, seen: Mapping[str, ProgramStatus], healthy: Mapping[str, bool]
) -> RevisionStatus:
    """What the supervisor saw of its process (`seen`), and Envoy's health check of it (`healthy`), as one state."""
    found = seen.get(revision.name, ProgramStatus(revision.name))
    routable = healthy.get(revision.name, False)
    detail = found.detail
    if found.ready and not routable:
        detail = "it answers, and Envoy's health check has not seen that yet"
    return RevisionStatus(
        name=revision.name,
        storage_uri=revision.storage_uri,
        ready=found.ready and routable,
        address=revision.address,
        restarts=found.restarts,
        detail=detail,
        failed=found.failed,
    )
