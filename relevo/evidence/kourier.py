"""Kourier's gateways as a source of evidence: the statistics of every Envoy of theirs, added up. Neighbours: `envoy` reads them, `http`.

Users' requests come in through any gateway pod, so only all of them together are a count. The epoch names the pods and when their
containers started: one that is restarted or replaced begins a new epoch, and what the ledger has taken in until then stays. A
gateway that is there and does not answer makes the source silent, for a part of the traffic says nothing of the rest.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from relevo.errors import RelevoError
from relevo.evidence.envoy import STATS_PATH, read_revisions
from relevo.evidence.http import NoAnswerError, SourceClient
from relevo.rollout.observation import Reading, Silence

__all__ = ["Gateway", "Gateways", "KourierSource", "gateway_of", "gateways_of"]

NAMESPACE: Final = "kourier-system"
LABELS: Final[Mapping[str, str]] = {"app": "3scale-kourier-gateway"}
STATS_PORT: Final = 9000

_FRESH_SECONDS: Final = 0.2
"""For how long one look at the gateways serves all rollouts of this process."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway pod that takes requests."""

    name: str
    address: str
    """`http://IP:PORT` of its statistics."""
    life: str
    """Names this run of its container: it changes when the counters begin anew."""


def gateway_of(pod: Mapping[str, Any], *, port: int = STATS_PORT) -> Gateway | None:
    """A gateway from its Pod; None for one that does not take requests (yet, or any more)."""
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
    if not ready or metadata.get("deletionTimestamp") or not status.get("podIP"):
        return None
    lives = [
        f"{c.get('name')}:{c.get('restartCount', 0)}:{((c.get('state') or {}).get('running') or {}).get('startedAt', '')}"
        for c in status.get("containerStatuses") or ()
    ]
    address = str(status["podIP"])
    host = f"[{address}]" if ":" in address else address
    return Gateway(
        str(metadata.get("name", "")), f"http://{host}:{port}", "/".join([str(metadata.get("uid", "")), *lives])
    )


def gateways_of(
    list_pods: Callable[[str, Mapping[str, str]], list[dict[str, Any]]],
    *,
    namespace: str = NAMESPACE,
    labels: Mapping[str, str] = LABELS,
    port: int = STATS_PORT,
) -> Callable[[], list[Gateway]]:
    """How to find the gateways of a cluster. `list_pods(namespace, labels)` gives Pods as the API has them."""

    def find() -> list[Gateway]:
        found = (gateway_of(pod, port=port) for pod in list_pods(namespace, labels))
        return sorted((g for g in found if g is not None), key=lambda g: g.name)

    return find


class Gateways:
    """All gateways of a cluster, asked once for all rollouts of a process. Thread-safe.

    `find` gives those that take requests, and may raise `RelevoError`.
    """

    def __init__(
        self,
        find: Callable[[], list[Gateway]],
        *,
        timeout_seconds: float = 1.0,
        fresh_seconds: float = _FRESH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._timeout_seconds = timeout_seconds
        self._fresh_seconds = fresh_seconds
        self._monotonic = monotonic
        self._clients: dict[str, SourceClient] = {}
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._told: tuple[str, str] | NoAnswerError = NoAnswerError("the gateways were not asked yet")

    def read(self) -> tuple[str, str]:
        """The epoch, and the statistics of all gateways one after the other, in Prometheus' text format.

        Raises:
            NoAnswerError: there is no gateway, or one does not answer.
        """
        with self._lock:
            if self._monotonic() - self._read_at >= self._fresh_seconds:
                try:
                    self._told = self._ask()
                except NoAnswerError as problem:
                    self._told = problem
                self._read_at = self._monotonic()
            if isinstance(self._told, NoAnswerError):
                raise NoAnswerError(str(self._told))
            return self._told

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _ask(self) -> tuple[str, str]:
        try:
            gateways = self._find()
        except RelevoError as problem:
            raise NoAnswerError(f"the gateways cannot be listed: {problem.message}") from None
        if not gateways:
            raise NoAnswerError("no gateway of Kourier is ready")
        for gone in self._clients.keys() - {g.address for g in gateways}:
            self._clients.pop(gone).close()
        texts = [self._stats(gateway) for gateway in gateways]
        lives = "\n".join(sorted(g.life for g in gateways))
        return hashlib.sha256(lives.encode()).hexdigest()[:16], "\n".join(texts)

    def _stats(self, gateway: Gateway) -> str:
        client = self._clients.get(gateway.address)
        if client is None:
            client = self._clients[gateway.address] = SourceClient(gateway.address, self._timeout_seconds)
        try:
            return client.get(STATS_PATH).decode()
        except NoAnswerError as problem:
            raise NoAnswerError(f"gateway {gateway.name}: {problem}") from None
        except UnicodeDecodeError:
            raise NoAnswerError(f"gateway {gateway.name}: not Envoy's statistics") from None


class KourierSource:
    """The requests of all users of the services in one namespace. Implements `EvidenceSource` as the source "envoy".

    `gateways` may be shared by all rollouts.
    """

    name = "envoy"

    def __init__(
        self,
        gateways: Gateways,
        namespace: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._gateways = gateways
        self._namespace = namespace
        self._now = now

    def read(self) -> Reading | Silence:
        """Read the counts per revision. Never raises."""
        try:
            epoch, text = self._gateways.read()
            edges_ms, revisions = read_revisions(text, namespace=self._namespace)
        except NoAnswerError as problem:
            return Silence(self.name, self._now(), str(problem))
        except ValueError as problem:
            return Silence(
                self.name, self._now(), f"a gateway of Kourier tells something else than Envoy's statistics ({problem})"
            )
        return Reading(self.name, epoch, self._now(), edges_ms=edges_ms, revisions=revisions)
