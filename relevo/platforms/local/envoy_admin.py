"""What Envoy really does, read from its admin interface: the live split, which servers it holds healthy, what is still under way.

The other direction is `envoy_config`. Every call is one GET on loopback of about a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from relevo import errors
from relevo.platforms.local.envoy_config import LABEL_HEADER

__all__ = ["Admin", "LiveSplit"]


@dataclass(frozen=True, slots=True)
class LiveSplit:
    """The weights by revision, and the label, that Envoy uses for one service."""

    weights: Mapping[str, int]
    label: str


class Admin:
    """The admin interface at one port. Every method raises `errors.Transient` when Envoy does not answer."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self.url, timeout=2.0, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _ask(self, path: str, *, method: str = "GET") -> httpx.Response:
        try:
            answer = self._client.request(method, path)
        except httpx.HTTPError as error:
            raise errors.Transient(
                f"Envoy does not answer at {self.url} ({error or type(error).__name__})",
                next_step="It is restarted by itself; the log is envoy.log in the platform's logs folder.",
            ) from error
        if answer.status_code != httpx.codes.OK:
            raise errors.Transient(f"Envoy answers {answer.status_code} to {self.url}{path}")
        return answer

    def _dump(self, resource: str) -> list[Any]:
        found: dict[str, list[Any]] = self._ask(f"/config_dump?resource={resource}").json()
        return found.get("configs", [])

    def routes_version(self) -> str:
        """The version of the route configuration that is in use, "" before the first."""
        return next((str(one.get("version_info", "")) for one in self._dump("dynamic_route_configs")), "")

    def split(self, service: str) -> LiveSplit | None:
        """The live split of a service, None where Envoy does not know it (yet)."""
        for one in self._dump("dynamic_route_configs"):
            for host in one.get("route_config", {}).get("virtual_hosts", []):
                if host["name"] == service:
                    return next(
                        (_live_split(r) for r in host["routes"] if "weighted_clusters" in r.get("route", {})), None
                    )
        return None

    def cluster_ports(self) -> dict[str, tuple[int, ...]]:
        """The clusters in use by name, each with the ports of its servers in order of priority."""
        found = {}
        for one in self._dump("dynamic_active_clusters"):
            cluster = one["cluster"]
            found[str(cluster["name"])] = tuple(
                int(server["endpoint"]["address"]["socket_address"]["port_value"])
                for group in cluster["load_assignment"]["endpoints"]
                for server in group["lb_endpoints"]
            )
        return found

    def healthy(self) -> dict[str, bool]:
        """By cluster: does its first-priority server pass the health checks?"""
        found = {}
        for cluster in self._ask("/clusters?format=json").json().get("cluster_statuses", []):
            for host in cluster.get("host_statuses", []):
                if int(host.get("priority", 0)) == 0:
                    health = host.get("health_status", {})
                    bad = health.get("failed_active_health_check") or health.get("failed_outlier_check")
                    found[str(cluster["name"])] = not bad and health.get("eds_health_status", "HEALTHY") == "HEALTHY"
        return found

    def active_requests(self, revision: str) -> int:
        """How many requests to a revision are under way, testers' included; 0 for one that Envoy does not know."""
        text = self._ask(f"/stats?filter=^cluster\\.{revision}(@preview)?\\.upstream_rq_active$").text
        return sum(int(line.rpartition(":")[2]) for line in text.splitlines() if ":" in line)

    def active_downstream(self) -> int:
        """How many users' requests are under way."""
        text = self._ask("/stats?filter=^http\\.proxy\\.downstream_rq_active$").text
        return sum(int(line.rpartition(":")[2]) for line in text.splitlines() if ":" in line)

    def drain(self) -> None:
        """Take no new connections; those that are open are finished."""
        self._ask("/drain_listeners", method="POST")


def _live_split(route: Mapping[str, Any]) -> LiveSplit:
    shares = route["route"]["weighted_clusters"]["clusters"]
    weights = {str(one["name"]): int(one.get("weight", 0)) for one in shares}
    headers = {one["header"]["key"]: str(one["header"]["value"]) for one in route.get("response_headers_to_add", [])}
    return LiveSplit(weights, headers.get(LABEL_HEADER, ""))
