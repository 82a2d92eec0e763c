"""The first deployment: from a manifest to services that answer, or to one message that says what stood in the way.

Called by `platform.LocalPlatform.up`, which owns everything that changes later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from relevo import errors
from relevo.platforms.local import deployment as deployments
from relevo.platforms.local import files, ports, supervisor
from relevo.platforms.local import guard as guards
from relevo.platforms.local.deployment import Deployment, Service
from relevo.platforms.local.envoy_admin import Admin
from relevo.platforms.local.guard import Guard
from relevo.platforms.local.process import is_alive
from relevo.platforms.local.program import Layout, ProgramStatus, log_tail, read_status
from relevo.platforms.local.proxy import ENVOY
from relevo.platforms.manifest import InferenceService, parse_manifests, read_manifests

if TYPE_CHECKING:
    from relevo.access.settings import Access

__all__ = ["BringUp"]

_POLL_SECONDS = 0.05
_GIVE_UP_AFTER_RESTARTS = 3


class _Platform(Protocol):
    def ensure_running(self, deployment: Deployment) -> None: ...
    def remove_program(self, name: str, *, wait_seconds: float = 0.0) -> None: ...
    def down(self) -> None: ...


class BringUp:
    """One call of `relevo up`."""

    def __init__(
        self,
        platform: _Platform,
        layout: Layout,
        resolve: Callable[[str, Path], Path],
        progress: Callable[[str], None],
        access: Access | None = None,
    ) -> None:
        self._platform = platform
        self._layout = layout
        self._resolve = resolve
        self._progress = progress
        self._access = access

    def run(self, manifest: str | Path | Sequence[Path], proxy_port: int, timeout_seconds: float) -> tuple[str, ...]:
        """Deploy, wait, give the names. What this call added and did not become ready is taken away again."""
        wanted = _wanted(manifest)
        for one in wanted:
            self._resolve(one.storage_uri, self._layout.root.parent)
        with files.exclusive(self._layout.deployment_lock):
            before = deployments.load(self._layout)
            deployment = self._plan(before, wanted, proxy_port)
            deployments.save(self._layout, deployment)
            self._platform.ensure_running(deployment)
        names = tuple(dict.fromkeys(one.name for one in wanted))
        try:
            self._await_ready(deployment, names, timeout_seconds)
        except errors.RelevoError:
            self._take_back(before, names)
            raise
        return names

    def _plan(self, before: Deployment, wanted: Sequence[InferenceService], proxy_port: int) -> Deployment:
        """`before` with what is wanted added. Nothing that serves is changed."""
        deployment = before
        if before.services and before.proxy_port != proxy_port:
            raise errors.BadInput(
                f"the proxy is up on port {before.proxy_port}, not {proxy_port}",
                next_step=f"Leave --port out or give {before.proxy_port}, or take everything down first: `relevo down`.",
            )
        if not _ours(self._layout, before):
            ports.require_free(proxy_port, option="--port")
            admin = ports.free_ports(1, avoid={*before.ports, proxy_port})[0]
            deployment = replace(before, proxy_port=proxy_port, admin_port=admin)
        deployment = replace(deployment, guard=self._guard(before))
        for one in wanted:
            service = deployment.find(one.name)
            if service is None:
                two = ports.free_ports(2, avoid=deployment.ports)
                deployment, revision = deployment.new_revision(one.name, one.storage_uri, (two[0], two[1]), one.colour)
                deployment = deployment.with_service(deployments.new_service(one, revision))
            elif service.has_colours != bool(one.colour):
                there, here = ("with", "without") if service.has_colours else ("without", "with")
                raise errors.BadInput(
                    f"{one.name}: is up {there} colours, and {one.colour or 'the manifest'} describes it {here} them",
                    next_step="The local platform changes this only by `relevo down` and `relevo up`.",
                )
            elif one.colour and one.colour == service.idle_colour:
                deployment = _with_idle(deployment, service, one)
            elif service.stable.storage_uri != one.storage_uri:
                raise errors.BadInput(
                    f"{one.name}: {service.stable.name} already serves {service.stable.storage_uri}, "
                    f"and the manifest says {one.storage_uri}",
                    next_step=f"Roll it out: `relevo {_verb(one)} {one.name} --storage-uri {one.storage_uri}`.",
                )
            elif (service.namespace, dict(service.env), service.timeout_seconds) != (
                one.namespace,
                dict(one.env),
                one.timeout_seconds,
            ):
                raise errors.BadInput(
                    f"{one.name}: is up with another namespace, env or timeout than the manifest's",
                    next_step="The local platform changes these only by `relevo down` and `relevo up`.",
                )
        return deployment

    def _guard(self, before: Deployment) -> Guard | None:
        """Who may ask. Made where nothing is up; what serves already keeps what it has."""
        folder = self._layout.access
        if not before.services:
            return guards.make(self._access, folder, self._layout.envoy) if self._access is not None else None
        if self._access is not None and before.guard != guards.describe(self._access, folder):
            raise errors.BadInput(
                "what is up has other access settings",
                next_step="Leave --access out to keep them, or take everything down first: `relevo down`.",
            )
        return before.guard

    def _await_ready(self, deployment: Deployment, names: Sequence[str], timeout_seconds: float) -> None:
        admin = Admin(deployment.admin_port)
        clusters = [
            deployment_service.stable.name
            for deployment_service in deployment.services
            if deployment_service.name in names
        ]
        deadline = time.monotonic() + timeout_seconds
        said: set[str] = set()
        try:
            while True:
                seen = read_status(self._layout)
                waiting = [name for name in (ENVOY, *clusters) if not (name in seen and seen[name].ready)]
                for name in {ENVOY, *clusters}.difference(waiting, said):
                    said.add(name)
                    self._progress(f"{name} is ready")
                if not waiting and all(admin.healthy().get(name) for name in clusters):
                    return
                for name in waiting:
                    self._require_hope(name, seen.get(name))
                if time.monotonic() > deadline:
                    late = waiting[0] if waiting else clusters[0]
                    raise self._not_ready(late, f"is not ready after {timeout_seconds:.0f} s", seen.get(late))
                supervisor.ensure(self._layout)
                time.sleep(_POLL_SECONDS)
        finally:
            admin.close()

    def _require_hope(self, name: str, status: ProgramStatus | None) -> None:
        if status is not None and status.failed:
            raise self._not_ready(name, "cannot be started", status)
        if status is not None and status.restarts >= _GIVE_UP_AFTER_RESTARTS:
            raise self._not_ready(name, f"ended {status.restarts} times without becoming ready", status)

    def _not_ready(self, name: str, what: str, status: ProgramStatus | None) -> errors.Permanent:
        log = self._layout.log(name)
        detail = f": {status.detail}" if status and status.detail else ""
        tail = log_tail(log, 8)
        return errors.Permanent(
            f"{name} {what}{detail}" + (f"\nThe last lines of its log:\n{tail}" if tail else ""),
            next_step=f"The whole log: {log}",
        )

    def _take_back(self, before: Deployment, names: Sequence[str]) -> None:
        added = [name for name in names if before.find(name) is None]
        if not before.services:
            self._platform.down()
            return
        with files.exclusive(self._layout.deployment_lock):
            deployment = deployments.load(self._layout)
            gone = [service for service in deployment.services if service.name in added]
            for service in gone:
                deployment = deployment.without_service(service.name)
            deployments.save(self._layout, deployment)
            self._platform.ensure_running(deployment)
            for service in gone:
                for revision in service.revisions:
                    self._platform.remove_program(revision.name)


def _wanted(manifest: str | Path | Sequence[Path]) -> tuple[InferenceService, ...]:
    if isinstance(manifest, str):
        return parse_manifests(manifest)
    paths = [manifest] if isinstance(manifest, Path) else manifest
    return tuple(one for path in paths for one in read_manifests(path))


def _with_idle(deployment: Deployment, service: Service, one: InferenceService) -> Deployment:
    """With the idle colour as its values say, without a process: `relevo switch` or a rollout wakes it."""
    there = service.candidate or service.idle
    if service.timeout_seconds != one.timeout_seconds:
        raise errors.BadInput(
            f"{one.name}: timeoutSeconds is {one.timeout_seconds:g} for {one.colour} and {service.timeout_seconds:g} for the other",
            next_step="One route serves both colours: give them one timeout.",
        )
    if service.stable.storage_uri == one.storage_uri:
        raise errors.BadInput(
            f"{one.name}: {one.colour} names {one.storage_uri}, which {service.stable.colour} serves already",
            next_step="Give the colours two versions, or leave the idle one out: a rollout installs it.",
        )
    if there is not None and there.storage_uri != one.storage_uri:
        raise errors.BadInput(
            f"{one.name}: {one.colour} has {there.storage_uri}, and its values say {one.storage_uri}",
            next_step=f"Roll it out: `relevo deploy-blue-green {one.name} --storage-uri {one.storage_uri}`.",
        )
    if there is None:
        deployment, revision = deployment.new_revision(one.name, one.storage_uri, (0, 0), one.colour)
        service = replace(service, idle=revision)
    return deployment.with_service(service)


def _verb(one: InferenceService) -> str:
    return "deploy-blue-green" if one.colour else "deploy-canary"


def _ours(layout: Layout, deployment: Deployment) -> bool:
    """True where our own Envoy has the ports of `deployment`, or is about to be restarted at them."""
    envoy = read_status(layout).get(ENVOY)
    if not deployment.services or envoy is None:
        return False
    runs = envoy.pid is not None and envoy.create_time is not None and is_alive(envoy.pid, envoy.create_time)
    return runs or supervisor.is_running(layout)
