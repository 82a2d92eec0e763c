"""The Envoy of a deployment: its files written, its process described, a change confirmed in what it really does.

Between `envoy_config` (what it is told), `envoy_admin` (what it does) and `platform` (who decides).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from relevo import errors
from relevo.access.credential import Credential
from relevo.platforms.local import envoy_config, files
from relevo.platforms.local.deployment import Deployment, Revision
from relevo.platforms.local.envoy_admin import Admin
from relevo.platforms.local.guard import INTERNAL_NAME
from relevo.platforms.local.program import Layout, Program

__all__ = ["ENVOY", "RENEWAL", "Proxy"]

ENVOY = "envoy"
"""The program's name with the supervisor."""
RENEWAL = "renewal"
"""The name of the program that brings renewed certificates to Envoy."""

_CONFIRM_SECONDS = 3.0
_DRAIN_SECONDS = 5.0
_REWRITE_SECONDS = 0.4
_POLL_SECONDS = 0.002


class Proxy:
    """Writes Envoy's files in `layout.envoy` and asks its admin interface whether they are in effect."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._admin: tuple[int, Admin] | None = None
        self._front: tuple[int, httpx.Client] | None = None

    def admin(self, deployment: Deployment) -> Admin:
        """The admin interface, its connection kept open between calls."""
        if self._admin is None or self._admin[0] != deployment.admin_port:
            self.close()
            self._admin = (deployment.admin_port, Admin(deployment.admin_port))
        return self._admin[1]

    def close(self) -> None:
        """Close the connections."""
        if self._admin is not None:
            self._admin[1].close()
            self._admin = None
        if self._front is not None:
            self._front[1].close()
            self._front = None

    def program(self, deployment: Deployment, executable: Path) -> Program:
        """Envoy as a program for the supervisor; writes all its files first."""
        bootstrap = envoy_config.bootstrap(
            deployment.proxy_port, deployment.admin_port, self._layout.envoy, deployment.guard
        )
        self._write("bootstrap.json", json.dumps(bootstrap, indent=1))
        self._write("clusters.json", _discovery(envoy_config.clusters(deployment)))
        self._write("routes.json", _discovery(envoy_config.routes(deployment)))
        argv = (str(executable), "-c", str(self._layout.envoy / "bootstrap.json"))
        options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        health = f"http://127.0.0.1:{deployment.admin_port}/ready"
        return Program(ENVOY, argv + options, health_url=health, stop_order=0, stop_grace_seconds=5.0)

    def renewal(self, deployment: Deployment) -> Program | None:
        """What brings renewed certificates to Envoy; None without TLS."""
        guard = deployment.guard
        if guard is None or not guard.tls:
            return None
        argv = (sys.executable, "-m", "relevo.platforms.local.renewal", guard.settings, str(self._layout.envoy))
        return Program(RENEWAL, argv, stop_order=0)

    def apply_clusters(self, deployment: Deployment) -> None:
        """Make the clusters those of `deployment`, and wait until Envoy uses them.

        Raises:
            errors.Transient: it did not take them in time.
        """
        resources = envoy_config.clusters(deployment)
        wanted = {one["name"]: _ports(one) for one in resources}
        admin = self.admin(deployment)
        self._make_so("clusters.json", resources, lambda: admin.cluster_ports() == wanted)

    def apply_routes(self, deployment: Deployment) -> None:
        """Make the routes those of `deployment`, and wait until Envoy uses them: no request that comes later goes by the old ones.

        Its main thread has them before its worker does, so the worker is asked too.

        Raises:
            errors.Transient: it did not take them in time.
        """
        resources = envoy_config.routes(deployment)
        version, stamp = envoy_config.version(resources), envoy_config.stamp_of(resources)
        admin = self.admin(deployment)
        self._make_so(
            "routes.json",
            resources,
            lambda: admin.routes_version() == version and self._stamp(deployment) == stamp,
        )

    def await_idle(self, deployment: Deployment, revisions: Sequence[Revision]) -> None:
        """Wait until no request to these is under way, seen twice; after a few seconds go on: the server ends them itself."""
        admin = self.admin(deployment)
        deadline = time.monotonic() + _DRAIN_SECONDS
        idle = 0
        while idle < 2 and time.monotonic() < deadline:
            idle = idle + 1 if not sum(admin.active_requests(one.name) for one in revisions) else 0
            time.sleep(0.02)

    def drain_users(self, deployment: Deployment) -> None:
        """Take no new users, and wait until those whose requests are under way have their answers; a few seconds at most."""
        admin = self.admin(deployment)
        deadline = time.monotonic() + _DRAIN_SECONDS
        try:
            admin.drain()
            while admin.active_downstream() and time.monotonic() < deadline:
                time.sleep(0.02)
        except errors.Transient:
            pass  # Envoy is gone already: nothing is under way

    def _stamp(self, deployment: Deployment) -> str:
        """What the worker says of the routes it uses; "" where it does not answer."""
        port, guard = deployment.proxy_port, deployment.guard
        if self._front is None or self._front[0] != port:
            if self._front is not None:
                self._front[1].close()
            carried = Credential(guard.credential).for_httpx() if guard is not None else {}
            base_url = f"{deployment.scheme}://127.0.0.1:{port}"
            self._front = (port, httpx.Client(base_url=base_url, timeout=1.0, trust_env=False, **carried))
        named = {"sni_hostname": INTERNAL_NAME} if guard is not None else None
        try:
            return self._front[1].get(envoy_config.STAMP_PATH, extensions=named).text
        except httpx.HTTPError:
            return ""

    def _make_so(self, name: str, resources: Sequence[Any], in_effect: Callable[[], bool]) -> None:
        text = _discovery(resources)
        started = time.monotonic()
        if self._write(name, text):
            written = started
        elif in_effect():
            return
        else:
            written = 0.0  # the file says it and Envoy does not do it: rename again at once
        while not in_effect():
            now = time.monotonic()
            if now - started > _CONFIRM_SECONDS:
                raise errors.Transient(
                    f"Envoy did not take the new {name} within {_CONFIRM_SECONDS} s; it goes on with the old one",
                    next_step=f"Its log says why: {self._layout.log(ENVOY)}",
                )
            if now - written > _REWRITE_SECONDS:
                files.write_atomic(self._layout.envoy / name, text)
                written = now
            time.sleep(_POLL_SECONDS)

    def _write(self, name: str, text: str) -> bool:
        """Write the file unless it says so already; True when it was written."""
        path = self._layout.envoy / name
        try:
            if path.read_text(encoding="utf-8") == text:
                return False
        except (OSError, UnicodeDecodeError):
            pass
        files.write_atomic(path, text)
        return True


def _discovery(resources: Sequence[Any]) -> str:
    return json.dumps({"version_info": envoy_config.version(resources), "resources": resources}, indent=1)


def _ports(cluster: dict[str, Any]) -> tuple[int, ...]:
    groups = cluster["load_assignment"]["endpoints"]
    servers = [server for group in groups for server in group["lb_endpoints"]]
    return tuple(server["endpoint"]["address"]["socket_address"]["port_value"] for server in servers)
