"""Hears of Rollouts by kopf: it watches, reconnects, and renews its credentials. Nothing is kept on the objects for kopf's own sake."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Collection, Mapping
from typing import Any

import kopf

from relevo.operator.fleet import Fleet
from relevo.rollout.crd import GROUP, PLURAL, VERSION

__all__ = ["watch"]


def watch(
    fleet: Fleet,
    client: Any,
    *,
    namespaces: Collection[str],
    ready: threading.Event,
    stop: threading.Event,
) -> None:
    """Watch until somebody stops us (SIGTERM and SIGINT do). No namespaces: all of them. `client` is the official one, configured."""
    registry = kopf.OperatorRegistry()
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # our Events have reasons of their own
    settings.scanning.disabled = True  # it would take cluster-wide rights, and the CRD is there before we are
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 5
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 3, 5)
    settings.queueing.error_delays = (1, 1, 2, 3, 5, 8, 13)
    settings.process.ultimate_exiting_timeout = 15

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator, unused-ignore]
    def _login(**_: Any) -> kopf.ConnectionInfo:
        return _connection(client)

    @kopf.on.startup(registry=registry)  # type: ignore[untyped-decorator, unused-ignore]
    def _started(**_: Any) -> None:
        ready.set()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)  # type: ignore[untyped-decorator, unused-ignore]
    def _heard(event: Mapping[str, Any], **_: Any) -> None:
        fleet.hear(event["object"], deleted=event["type"] == "DELETED")

    async def run() -> None:
        stop_flag = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait() -> None:
            stop.wait()
            loop.call_soon_threadsafe(stop_flag.set)

        threading.Thread(target=wait, name="stop", daemon=True).start()
        await kopf.operator(
            registry=registry,
            settings=settings,
            standalone=True,
            identity=socket.gethostname(),  # type: ignore[arg-type]  # kopf's own asks who we are by name: a pod's user has none
            clusterwide=not namespaces,
            namespaces=list(namespaces),
            stop_flag=stop_flag,
        )

    asyncio.run(run())


def _connection(client: Any) -> kopf.ConnectionInfo:
    """How the official client reaches the API server, in kopf's words. A pod's token is renewed on its disk; it is read anew each time."""
    configuration = client.configuration
    if configuration.refresh_api_key_hook is not None:
        configuration.refresh_api_key_hook(configuration)
    header = (configuration.api_key or {}).get("authorization") or (configuration.api_key or {}).get("BearerToken")
    scheme, _, token = (header or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        token=token or None,
        scheme=scheme or ("Bearer" if token else None),
    )
