"""Looks at Envoy from outside, again and again: do the weights sum to 100, and is every revision with weight ready?

Independent of relevo: it reads Envoy's own /config_dump and asks the servers' /v2/health/ready, over http.client. One look is: ask the
servers, then read the weights. A revision that was not ready before and has weight now is asked again at once: only one that is not ready
before *and* after the weight was seen counts as a violation, since it may have become ready, and rightly have been given weight, between
the two. A server that is slow to answer (busy, not down) is counted apart: it says nothing either way.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

__all__ = ["EnvoyWatch", "Look", "Seen", "read_weights"]

PROBE_SECONDS = 1.0
PROBE_EVERY_LOOKS = 10
"""A revision that has weight and was ready is asked again this often; one that waits for weight, at every look."""


@dataclass(frozen=True, slots=True)
class Look:
    """Weights and label of one service at one moment (`time.time()`, for the engine's own records are in that)."""

    at: float
    weights: Mapping[str, int]
    label: str


@dataclass(slots=True)
class Seen:
    """What a watch has seen so far."""

    looks: int = 0
    not_answered: int = 0
    wrong_sums: list[str] = field(default_factory=list)
    not_ready: list[str] = field(default_factory=list)
    became_ready: int = 0
    """Not ready before the weight was seen and ready just after: in between, in either order."""
    slow_answers: int = 0
    longest_gap_seconds: float = 0.0
    changes: list[Look] = field(default_factory=list)
    """Each look whose weights or label were others than at the look before."""

    @property
    def violations(self) -> list[str]:
        """What must never be."""
        return self.wrong_sums + self.not_ready

    def blindness(self, seconds: float) -> list[str]:
        """Why "nothing was seen" would say little of the time: too few looks in it, or some that Envoy did not answer."""
        few = [f"only {self.looks} looks at Envoy in {seconds:.0f} s"] if self.looks < seconds else []
        return few + ([f"Envoy did not answer {self.not_answered} looks"] if self.not_answered else [])


class EnvoyWatch:
    """A thread that looks every `every_seconds` while the context is open."""

    def __init__(self, admin_port: int, service: str, *, every_seconds: float = 0.05, probe: bool = True) -> None:
        self._service = service
        self._every_seconds = every_seconds
        self._probe = probe
        self._admin = _Asker(admin_port, timeout_seconds=2.0)
        self._servers: dict[int, _Asker] = {}
        self._ready: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()
        self._seen = Seen()
        self._last: Look | None = None
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def take(self) -> Seen:
        """What has been seen since the last call. Raises what ended the watch, if anything did."""
        if self._error is not None:
            raise self._error
        with self._lock:
            seen, self._seen = self._seen, Seen()
        return seen

    @property
    def last(self) -> Look | None:
        """The newest look."""
        return self._last

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # a watch that has ended must not look like one that saw nothing wrong
            self._error = error

    def _watch(self) -> None:
        count, before = 0, time.monotonic()
        while not self._stop.wait(self._every_seconds):
            look = self._look(count)
            count += 1
            with self._lock:
                now = time.monotonic()
                self._seen.longest_gap_seconds = max(self._seen.longest_gap_seconds, now - before)
                before = now
                if look is None:
                    self._seen.not_answered += 1
                    continue
                self._seen.looks += 1
                last = self._last
                if last is None or (last.weights, last.label) != (look.weights, look.label):
                    self._seen.changes.append(look)
                if sum(look.weights.values()) != 100:
                    self._seen.wrong_sums.append(f"weights {dict(look.weights)} at {look.at:.3f}")
                self._last = look
            if self._probe:
                self._judge(look)

    def _look(self, count: int) -> Look | None:
        if self._probe:
            self._ask_servers(everyone=count % PROBE_EVERY_LOOKS == 0)
        found = read_weights(self._admin.get("/config_dump?resource=dynamic_route_configs"), self._service)
        return Look(time.time(), *found) if found else None

    def _ask_servers(self, *, everyone: bool) -> None:
        clusters = _cluster_ports(self._admin.get("/config_dump?resource=dynamic_active_clusters"))
        weights = self._last.weights if self._last else {}
        for name in self._ready.keys() - clusters.keys():
            del self._ready[name]
        for name, port in clusters.items():
            if everyone or not weights.get(name) or self._ready.get(name) != "ready":
                self._ready[name] = self._readiness(port)

    def _judge(self, look: Look) -> None:
        clusters: dict[str, int] | None = None
        for name in (name for name, weight in look.weights.items() if weight > 0):
            if self._ready.get(name) == "ready":
                continue
            clusters = clusters or _cluster_ports(self._admin.get("/config_dump?resource=dynamic_active_clusters"))
            port = clusters.get(name)
            before = self._ready.get(name, "was not asked")
            self._ready[name] = after = self._readiness(port) if port else "is no cluster"
            with self._lock:
                if after == "ready":
                    self._seen.became_ready += 1
                elif after == "slow" or before == "slow":
                    self._seen.slow_answers += 1
                elif name in (self._last.weights if self._last else {}) and self._still_has_weight(name):
                    self._seen.not_ready.append(
                        f"{name} has {look.weights[name]} % at {look.at:.3f}; it {before}, then {after}"
                    )

    def _still_has_weight(self, name: str) -> bool:
        """One that was retired between the look and the question need not answer any more."""
        found = read_weights(self._admin.get("/config_dump?resource=dynamic_route_configs"), self._service)
        return found is not None and found[0].get(name, 0) > 0

    def _readiness(self, port: int) -> str:
        asker = self._servers.setdefault(port, _Asker(port, timeout_seconds=PROBE_SECONDS))
        status = asker.status("/v2/health/ready")
        if status == 200:
            return "ready"
        return "slow" if status == -1 else f"answered {status}" if status else "did not answer"


def read_weights(dump: Any, service: str) -> tuple[dict[str, int], str] | None:
    """Weights by revision and the label, for a service in Envoy's dump of its routes; None where it is not there."""
    for config in (dump or {}).get("configs", []):
        for host in config.get("route_config", {}).get("virtual_hosts", []):
            if host.get("name") == service:
                # Routes of testers, who name a colour, have no weights.
                route = next(one for one in host["routes"] if "weighted_clusters" in one.get("route", {}))
                shares = route["route"]["weighted_clusters"]["clusters"]
                added = {
                    one["header"]["key"]: one["header"]["value"] for one in route.get("response_headers_to_add", [])
                }
                return {one["name"]: int(one.get("weight", 0)) for one in shares}, added.get("x-relevo-route", "")
    return None


def _cluster_ports(dump: Any) -> dict[str, int]:
    """The port of each cluster's own server (the first; a second is where Envoy falls back)."""
    return dict(_ports(dump))


def _ports(dump: Any) -> Iterator[tuple[str, int]]:
    for config in (dump or {}).get("configs", []):
        cluster = config["cluster"]
        first = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
        yield cluster["name"], int(first["endpoint"]["address"]["socket_address"]["port_value"])


class _Asker:
    """One keep-alive connection for GETs."""

    def __init__(self, port: int, *, timeout_seconds: float) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)

    def _send(self, path: str) -> tuple[int, bytes]:
        """The status and the body; status 0 where nobody answers, -1 where not in time."""
        for _ in range(2):  # the second time on a new connection: the other side may have closed the old one
            reused = self._connection.sock is not None
            try:
                self._connection.request("GET", path)
                response = self._connection.getresponse()
                return response.status, response.read()
            except TimeoutError:
                self._connection.close()
                return -1, b""
            except (OSError, http.client.HTTPException):
                self._connection.close()
                if not reused:
                    break
        return 0, b""

    def status(self, path: str) -> int:
        return self._send(path)[0]

    def get(self, path: str) -> Any:
        status, body = self._send(path)
        return json.loads(body) if status == 200 else None
