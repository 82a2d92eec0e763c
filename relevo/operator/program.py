"""The operator's parts put together, from the API server's connection to the threads that tick."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relevo.errors import BadInput, Forbidden, RelevoError
from relevo.operator.agenda import Agenda
from relevo.operator.events import Events
from relevo.operator.fleet import Fleet
from relevo.operator.lease import Lease, identity, own_pod
from relevo.operator.metrics import Metrics
from relevo.operator.steward import Shared, Wires
from relevo.operator.watch import watch
from relevo.operator.web import Web
from relevo.platforms.cluster_api import ROLLOUTS, Cluster

__all__ = ["Options", "run"]

_log = logging.getLogger(__name__)

OVERDUE_SECONDS = 60.0
"""Work that waits for so long means that the threads hang."""
RETRY_SECONDS = 5.0
LAST_TICKS_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Options:
    """How the operator runs."""

    namespaces: tuple[str, ...]
    """None: all of them."""
    http_host: str
    http_port: int
    threads: int
    lease_namespace: str
    lease_name: str


def run(options: Options, cluster: Cluster, wires: Wires, metrics: Metrics | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    metrics = metrics or Metrics()
    stop, ready = threading.Event(), threading.Event()
    me = identity(own_pod(cluster, options.lease_namespace))
    agenda = Agenda(options.threads, on_begin=metrics.late_seconds.observe)

    def taken() -> None:
        metrics.leader.set(1)
        fleet.distrust()
        agenda.open()

    def lost() -> None:
        metrics.leader.set(0)
        agenda.close()

    lease = Lease(
        cluster,
        namespace=options.lease_namespace,
        name=options.lease_name,
        me=me,
        on_taken=taken,
        on_lost=lost,
    )
    shared = Shared(
        api=cluster,
        wires=wires,
        events=Events(cluster, me),
        metrics=metrics,
        may_act=lease.held,
        clock=lambda: datetime.now(UTC),
    )
    fleet = Fleet(shared, agenda)

    def healthy() -> str:
        overdue = agenda.overdue_seconds()
        return f"a rollout is overdue by {overdue:.0f} s" if overdue > OVERDUE_SECONDS else ""

    try:
        web = Web(
            options.http_host,
            options.http_port,
            metrics.registry,
            healthy,
            lambda: "" if ready.is_set() else "it does not watch yet",
        )
    except OSError as error:
        where = f"{options.http_host}:{options.http_port}"
        raise BadInput(
            f"{where} cannot be listened on: {error.strerror}", next_step="Give another --http-port."
        ) from error
    try:
        # All Rollouts are known before one is carried: two may be meant for one InferenceService.
        for body in all_rollouts(cluster, options.namespaces, stop):
            fleet.hear(body, deleted=False)
        agenda.start()
        lease.start()
        watch(fleet, cluster.client, namespaces=options.namespaces, ready=ready, stop=stop)
    finally:
        _log.info("ending")
        agenda.close()
        agenda.stop(LAST_TICKS_SECONDS)
        lease.stop()
        web.close()


def all_rollouts(cluster: Cluster, namespaces: tuple[str, ...], stop: threading.Event) -> list[dict[str, Any]]:
    """List them, as soon as the API server knows Rollouts and lets us; say once what is missing."""
    said = ""
    while not stop.is_set():
        try:
            return [body for namespace in namespaces or ("",) for body in cluster.list(ROLLOUTS, namespace)]
        except RelevoError as error:
            if error.message != said:
                said = error.message
                _log.error("%s. %s", error.message.rstrip("."), error.next_step)
            stop.wait(RETRY_SECONDS if isinstance(error, BadInput | Forbidden) else 1.0)
    return []
