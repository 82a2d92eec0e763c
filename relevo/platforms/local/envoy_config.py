"""Envoy's configuration as plain values: pure functions of a deployment.

Envoy is started with `bootstrap` and watches two files, clusters and routes, which are only ever replaced by a rename: a new split
takes effect within milliseconds and no connection is dropped. Field names and meanings: Envoy's v3 API reference. `envoy_admin` reads
the live state back.

Four choices are worth knowing:
- A cluster is named after its revision, so Envoy's own statistics count per revision, as they do in Knative's gateways.
- The candidate's cluster has the stable revision as its second priority. When the candidate's process is gone, the users whom the split
  sends to it are answered by the stable one; the stable one never falls back on the candidate.
- A service with colours has a cluster more for each, for requests that name it by a header: testers are no users, so they have no label, no
  fallback on the other colour and no part in the counts.
- Health is judged by the readiness check and by failed connections only. Answers with 5xx are evidence and never change the split.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relevo import errors
from relevo.platforms.colours import COLOURS, TAG_HEADER
from relevo.platforms.local.deployment import Deployment, Revision, Service
from relevo.platforms.local.guard import Guard

__all__ = [
    "BUCKETS_MS",
    "LABEL_HEADER",
    "REVISION_HEADER",
    "ROUTES",
    "STAMP_PATH",
    "bootstrap",
    "check_label",
    "clusters",
    "preview",
    "routes",
    "stamp_of",
    "version",
]

Json = dict[str, Any]

ROUTES = "relevo"
"""The name of the route configuration."""
LABEL_HEADER = "x-relevo-route"
REVISION_HEADER = "x-relevo-assigned"

_FINE_MS = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    15,
    20,
    25,
    30,
    40,
    50,
    65,
    80,
    100,
    130,
    160,
    200,
    250,
    300,
    400,
    500,
    650,
    800,
)
BUCKETS_MS = (*_FINE_MS, 1000, 1500, 2000, 3000, 5000, 10000, 30000, 60000)
"""Upper edges of the latency histograms."""

_TYPE = "type.googleapis.com/envoy."
_UPSTREAM_IDLE = "30s"
"""Shorter than the model server keeps an idle connection (65 s), so that Envoy is always the one who closes it."""
_MANY = 65_536
"""No circuit breaker: the load test is to measure the model server, not Envoy's default limit of 1024."""
_LABEL = re.compile(r"[A-Za-z0-9._/-]{0,200}")


def check_label(label: str) -> str:
    """A label is a header value: refuse what could not be one.

    Raises:
        errors.BadInput: it has other characters than letters, digits, '.', '_', '-' and '/', or more than 200 of them.
    """
    if not _LABEL.fullmatch(label):
        raise errors.BadInput(f"label {label!r}: at most 200 of A-Z, a-z, 0-9, '.', '_', '-' and '/'")
    return label


STAMP_PATH = "/.relevo/routes"
"""Answered by the proxy itself with the version of the routes by which it is routing now."""


def version(resources: Sequence[Json]) -> str:
    """A version that is the same for the same content, so that the live configuration can be recognised."""
    return hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:16]


def bootstrap(proxy_port: int, admin_port: int, folder: Path, guard: Guard | None = None) -> Json:
    """What Envoy is started with. `folder` is where it finds clusters.json and routes.json."""
    return {
        "node": {"id": "relevo-local", "cluster": "relevo"},
        "admin": {"address": _address(admin_port), "ignore_global_conn_limit": True},
        "dynamic_resources": {"cds_config": _watched(folder, "clusters.json")},
        "static_resources": {"listeners": [_listener(proxy_port, folder, guard)]},
        "stats_flush_interval": "0.5s",  # histograms are only brought up to date at a flush, every 5 s unless told otherwise
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": [float(edge) for edge in BUCKETS_MS]}
            ]
        },
    }


def preview(revision: Revision) -> str:
    """The name of the cluster for testers who ask for one colour. It is no revision's: what they send is not counted."""
    return f"{revision.name}@preview"


def clusters(deployment: Deployment) -> list[Json]:
    """One cluster per revision, and one more for its testers where there are colours."""
    found = []
    for service in deployment.services:
        for revision in service.revisions:
            fallback = service.stable if revision == service.candidate else None
            upstream = deployment.guard.upstream() if deployment.guard is not None else {}
            found.append(_cluster(revision, fallback) | upstream)
            if revision.colour:
                found.append(_unwatched(revision) | upstream)
    return found


def routes(deployment: Deployment) -> list[Json]:
    """One route configuration: each service at its host name, and a default host where the path names the model."""
    by_name = [
        {
            "name": service.name,
            "domains": [f"{service.name}.{service.namespace}.example.com"],
            "routes": _ways(service, {"prefix": "/"}),
            "retry_policy": _RETRY,
        }
        for service in deployment.services
    ]
    by_path = [
        route
        for service in deployment.services
        for route in _ways(service, {"safe_regex": {"regex": rf"/v[12]/models/{re.escape(service.name)}([/:].*)?"}})
    ]
    first = [route for service in deployment.services[:1] for route in _ways(service, {"prefix": "/"})]
    stamp = {"status": 200, "body": {"inline_string": version([*by_name, *by_path, *first])}}
    asked: Json = {"match": {"path": STAMP_PATH}, "direct_response": stamp}
    default = {"name": "default", "domains": ["*"], "routes": [*by_path, asked, *first], "retry_policy": _RETRY}
    return [
        {"@type": _TYPE + "config.route.v3.RouteConfiguration", "name": ROUTES, "virtual_hosts": [*by_name, default]},
    ]


def stamp_of(resources: Sequence[Json]) -> str:
    """What the proxy answers at STAMP_PATH when it routes by these."""
    default = resources[0]["virtual_hosts"][-1]["routes"]
    return next(
        str(r["direct_response"]["body"]["inline_string"]) for r in default if r["match"].get("path") == STAMP_PATH
    )


_RETRY: Json = {
    # A prediction changes nothing, so a request whose connection broke may be sent again; `previous_priorities` sends it from a dead
    # candidate straight to the stable revision. Answers, whatever their code, are never retried: they are evidence.
    "retry_on": "connect-failure,refused-stream,reset-before-request,reset",
    "num_retries": 5,
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    "retry_priority": {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": {
            "@type": _TYPE + "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            "update_frequency": 1,
        },
    },
}


def _ways(service: Service, match: Json) -> list[Json]:
    """The users' route, after those of testers who name a colour."""
    return [*_pinned(service, match), _route(service, match)]


def _pinned(service: Service, match: Json) -> list[Json]:
    """One route per colour, for requests that name it; any other name goes the users' way, as on a cluster."""
    if not service.has_colours:
        return []
    there = {one.colour: one for one in (service.stable, service.candidate) if one is not None}
    found: list[Json] = []
    for colour in COLOURS:
        named = {**match, "headers": [{"name": TAG_HEADER, "string_match": {"exact": colour}}]}
        if colour in there:
            route: Json = {"cluster": preview(there[colour]), "timeout": f"{service.timeout_seconds}s"}
            stamp = [_header(REVISION_HEADER, there[colour].name)]
            found.append({"match": named, "route": route, "response_headers_to_add": stamp})
        else:
            body = {"inline_string": f"{service.name}: {colour} is scaled to zero; `relevo switch` wakes it.\n"}
            found.append({"match": named, "direct_response": {"status": 503, "body": body}})
    return found


def _route(service: Service, match: Json) -> Json:
    shares = [(service.stable, 100 - service.weight_percent)]
    if service.candidate is not None:
        shares.append((service.candidate, service.weight_percent))
    weighted = [
        {"name": revision.name, "weight": share, "response_headers_to_add": [_header(REVISION_HEADER, revision.name)]}
        for revision, share in shares
    ]
    route: Json = {
        "match": match,
        "route": {"weighted_clusters": {"clusters": weighted}, "timeout": f"{service.timeout_seconds}s"},
    }
    if service.label:
        route["response_headers_to_add"] = [_header(LABEL_HEADER, check_label(service.label))]
    return route


def _header(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _unwatched(revision: Revision) -> Json:
    """A second way to a revision, whose health its own cluster watches."""
    cluster = {**_cluster(revision, None), "name": preview(revision)}
    del cluster["health_checks"], cluster["outlier_detection"]
    return {**cluster, "load_assignment": {**cluster["load_assignment"], "cluster_name": preview(revision)}}


def _cluster(revision: Revision, fallback: Revision | None) -> Json:
    endpoints = [{"priority": 0, "lb_endpoints": [{"endpoint": {"address": _address(revision.http_port)}}]}]
    if fallback is not None:
        # Taken as healthy without being asked: its own cluster asks it already.
        unasked = {
            "address": _address(fallback.http_port),
            "health_check_config": {"disable_active_health_check": True},
        }
        endpoints.append({"priority": 1, "lb_endpoints": [{"endpoint": unasked}]})
    return {
        "@type": _TYPE + "config.cluster.v3.Cluster",
        "name": revision.name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": revision.name, "endpoints": endpoints},
        "health_checks": [_HEALTH_CHECK],
        "outlier_detection": _OUTLIER_DETECTION,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _MANY,
                    "max_pending_requests": _MANY,
                    "max_requests": _MANY,
                    "max_retries": _MANY,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
            }
        },
    }


_HEALTH_CHECK: Json = {
    "timeout": "2s",
    "interval": "0.5s",
    "no_traffic_interval": "0.5s",
    "no_traffic_healthy_interval": "0.5s",
    "unhealthy_interval": "0.2s",
    "unhealthy_threshold": 3,
    "healthy_threshold": 1,
    "http_health_check": {"path": "/v2/health/ready"},
}
_OUTLIER_DETECTION: Json = {
    # Connections that fail locally, nothing else: see the module's docstring.
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 2,
    "enforcing_consecutive_local_origin_failure": 100,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
    "enforcing_failure_percentage": 0,
    "enforcing_failure_percentage_local_origin": 0,
    "max_ejection_percent": 100,
    "interval": "0.5s",
    "base_ejection_time": "0.5s",
}


def _listener(port: int, folder: Path, guard: Guard | None) -> Json:
    manager: Json = {
        "@type": _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "proxy",
        "rds": {"route_config_name": ROUTES, "config_source": _watched(folder, "routes.json")},
        "strip_any_host_port": True,
        "generate_request_id": False,
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPE + "extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    if guard is not None:
        manager["use_remote_address"] = (
            True  # the servers' log of refusals names users by x-forwarded-for, which only Envoy writes
        )
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener: Json = {
        "name": "proxy",
        "address": _address(port),
        # Without this a second Envoy could listen at the same port and take half of the connections.
        "enable_reuse_port": False,
        "filter_chains": guard.filter_chains(filters, folder) if guard is not None else [{"filters": filters}],
    }
    if guard is not None and guard.tls:
        inspector = {"@type": _TYPE + "extensions.filters.listener.tls_inspector.v3.TlsInspector"}
        listener["listener_filters"] = [{"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}]
    return listener


def _watched(folder: Path, name: str) -> Json:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": str(folder / name), "watched_directory": {"path": str(folder)}},
    }


def _address(port: int) -> Mapping[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
