"""How much one operator carries: many Rollouts held half way, a real API server, simulated platforms and traffic.

    python -m benchmarks.operator_scale [--context C] [--rollouts 1000] [--seconds 60] [--markdown docs/measured/operator_scale.md]

Needs the CRD, and that no other operator watches all namespaces: on a cluster that has one, first
`kubectl scale -n relevo-system deploy/relevo-operator --replicas=0`.

Makes the Rollouts in a namespace of their own (removed at the end) and runs one operator in a process of its own. All of them shift
to their first step and are then held by `spec.paused`, with traffic that goes on. Measured over the seconds after that: how long a look
takes, how long it waits for a thread, how many statuses are written, the process's memory and its share of one core; then how long an
order waits (a hundred Rollouts, one after the other, are ordered to roll back). The goals are 1 s for the 99th percentile of looks,
waiting included, and 300 MB.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.measure import publish, table
from relevo.platforms.cluster_api import ROLLOUTS, Cluster, Kind, connect
from relevo.platforms.local.ports import free_ports
from scripts.arena import say
from scripts.soak_results import commit

__all__ = ["main"]

NAMESPACES = Kind("/api/v1", "namespaces")
DEADLINE_SECONDS = 900.0
ORDERS = 100
SPEC = {
    "sources": ["locust"],
    "shadow": {"enabled": False},
    "strategy": {"canary": {"stepSeconds": 86_400}},
    "limits": {"maxSeconds": 86_400},
    "tickSeconds": 1,
}


def main() -> int:
    """Measure and print; with --operator, be the operator that is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--context", help="the kubeconfig's context")
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--markdown", type=Path, help="write the page here, too")
    parser.add_argument("--operator", nargs=2, metavar=("NAMESPACE", "SAMPLES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.operator:
        return _be_operator(arguments.context, arguments.operator[0], Path(arguments.operator[1]))
    cluster = connect(arguments.context)
    namespace = f"relevo-scale-{uuid.uuid4().hex[:6]}"
    samples = Path(f"/tmp/{namespace}.json")
    command = [sys.executable, "-m", "benchmarks.operator_scale", "--operator", namespace, str(samples)]
    if arguments.context:
        command += ["--context", arguments.context]
    _ask(cluster, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    operator = None
    try:
        for number in range(arguments.rollouts):
            cluster.create(ROLLOUTS, namespace, _rollout(number))
        say(f"{arguments.rollouts} Rollouts are made in {namespace}")
        operator = subprocess.Popen(command)
        port = _port(samples)
        began = time.monotonic()
        held = _hold_all(cluster, namespace, arguments.rollouts)
        say(f"{len(held)} are held after {time.monotonic() - began:.0f} s")
        page = _measure(cluster, namespace, psutil.Process(operator.pid), port, samples, arguments, held)
    finally:
        if operator is not None:
            operator.terminate()
            operator.wait(timeout=60)
        _clear(cluster, namespace)
        samples.unlink(missing_ok=True)
    publish(page, arguments.markdown)
    return 0


def _rollout(number: int) -> dict[str, Any]:
    name = f"model-{number:04}"
    spec = {"target": name, "storageUri": f"sim://{name}/2", **SPEC}
    return {"apiVersion": "relevo.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": name}, "spec": spec}


def _hold_all(cluster: Cluster, namespace: str, count: int) -> list[str]:
    """Pause each Rollout that has come to its first step, until none is under way; those that are held. A few in a thousand are rolled
    back before that: so often the statistics may err."""
    deadline, paused = time.monotonic() + DEADLINE_SECONDS, set[str]()
    while True:
        time.sleep(2.0)
        phases = {
            body["metadata"]["name"]: body.get("status", {}).get("phase") for body in cluster.list(ROLLOUTS, namespace)
        }
        held = sorted(name for name, phase in phases.items() if phase == "Held")
        if len(held) + list(phases.values()).count("RolledBack") == count:
            return held
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(held)} of {count} are held after {DEADLINE_SECONDS:g} s")
        for name, phase in phases.items():
            if phase == "Shifting" and name not in paused:
                paused.add(name)
                cluster.patch(ROLLOUTS, namespace, name, {"spec": {"paused": True}})


def _measure(
    cluster: Cluster,
    namespace: str,
    process: psutil.Process,
    port: int,
    samples: Path,
    arguments: argparse.Namespace,
    held: list[str],
) -> str:
    time.sleep(20.0)  # what the holding itself has set in motion ends
    url = f"http://127.0.0.1:{port}"
    writes = _series(url, "relevo_status_writes_total")
    cpu, began, mark = process.cpu_times(), time.monotonic(), time.time()
    memory = [process.memory_info().rss]
    while time.monotonic() - began < arguments.seconds:
        time.sleep(1.0)
        memory.append(process.memory_info().rss)
    after, seconds = process.cpu_times(), time.monotonic() - began
    written = (_series(url, "relevo_status_writes_total") - writes) / seconds
    used = (after.user + after.system - cpu.user - cpu.system) / seconds
    say("ordering")
    waits = _orders(cluster, namespace, held[:ORDERS])
    process.terminate()
    process.wait(timeout=60)
    looks = [look for look in json.loads(samples.read_text())["looks"] if mark <= look[0] <= mark + seconds]
    took = np.array([look[2] for look in looks])
    whole = np.array([look[1] + look[2] for look in looks])
    size = len(json.dumps(cluster.list(ROLLOUTS, namespace)[-1]))
    rows = [
        ("looks per second", f"{len(looks) / seconds:.0f}", ""),
        ("a look, ms: p50, p99, max", _ms(took), ""),
        ("a look and its wait for a thread, ms: p50, p99, max", _ms(whole), "p99 at most 1,000 ms"),
        ("memory (RSS), MB: median, max", f"{np.median(memory) / 1e6:.0f}, {max(memory) / 1e6:.0f}", "at most 300 MB"),
        ("share of one core", f"{100 * used:.0f} %", ""),
        ("statuses written per second", f"{written:.1f}", ""),
        ("one Rollout with its status, kB", f"{size / 1e3:.1f}", ""),
        (f"an order until it is carried out, ms: p50, p99, max of {len(waits)}", _ms(np.array(waits)), ""),
    ]
    lines = [
        "# How much one operator carries",
        "",
        f"`python -m benchmarks.operator_scale --rollouts {arguments.rollouts} --seconds {arguments.seconds:g}` on "
        f"{datetime.now(UTC):%Y-%m-%d}; commit {commit()}; {psutil.cpu_count()} cores, shared with the API server and etcd.",
        "",
        f"{len(held):,} of {arguments.rollouts:,} Rollouts held at their first step, with traffic that goes on.",
        "",
        table(("what", "measured", "goal"), rows),
        "",
        "What is measured: the head of benchmarks/operator_scale.py.",
        "",
    ]
    return "\n".join(lines)


def _orders(cluster: Cluster, namespace: str, names: list[str]) -> list[float]:
    """Seconds from an order to a status that says it is carried out, Rollout by Rollout."""
    waits = []
    for name in names:
        order = {"verb": "rollback", "by": "benchmark", "at": datetime.now(UTC).isoformat(), "seq": 1}
        began = time.monotonic()
        try:
            cluster.patch(
                ROLLOUTS, namespace, name, {"metadata": {"annotations": {"relevo.dev/command": json.dumps(order)}}}
            )
        except Exception as error:
            raise RuntimeError(f"{name}: {error}") from error
        while time.monotonic() - began < 60:
            body = cluster.get(ROLLOUTS, namespace, name)
            if body and body["status"]["phase"] == "RolledBack":
                waits.append(time.monotonic() - began)
                break
            time.sleep(0.02)
    return waits


def _be_operator(context: str | None, namespace: str, samples: Path) -> int:
    """Run an operator whose every look is written down; its port goes to the same file first."""
    from benchmarks.simulated_platform import SimulatedCluster
    from relevo.operator.metrics import Metrics
    from relevo.operator.program import Options, run

    logging.basicConfig(level=logging.ERROR)
    metrics, looks = Metrics(), Looks()
    metrics.late_seconds, metrics.tick_seconds = looks.waited, looks.took  # type: ignore[assignment]
    (port,) = free_ports(1)
    samples.write_text(json.dumps({"port": port}))
    options = Options((namespace,), "127.0.0.1", port, 16, namespace, "relevo-scale")
    run(options, connect(context), SimulatedCluster(lambda: datetime.now(UTC)), metrics)
    samples.write_text(json.dumps({"port": port, "looks": looks.all}))
    return 0


class Looks:
    """Every look by itself, where the operator keeps histograms: (when it ended, seconds waited, seconds taken)."""

    def __init__(self) -> None:
        self.all: list[tuple[float, float, float]] = []
        self._waited = threading.local()
        self.waited, self.took = _Observer(self._begin), _Observer(self._end)

    def _begin(self, seconds: float) -> None:
        self._waited.seconds = seconds

    def _end(self, seconds: float) -> None:
        self.all.append((time.time(), self._waited.seconds, seconds))


class _Observer:
    """Stands where a histogram does."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self.observe = observe


def _port(samples: Path) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            port = int(json.loads(samples.read_text())["port"])
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2)
        except (OSError, ValueError, httpx.HTTPError):
            time.sleep(0.2)
        else:
            return port
    raise TimeoutError("the operator does not start")


def _series(url: str, name: str) -> float:
    for line in httpx.get(f"{url}/metrics", timeout=30).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def _clear(cluster: Cluster, namespace: str) -> None:
    """Take the Rollouts' finalizers away, for nobody is there to do so, and delete all."""
    for body in cluster.list(ROLLOUTS, namespace):
        if body["metadata"].get("finalizers"):
            cluster.patch(ROLLOUTS, namespace, body["metadata"]["name"], {"metadata": {"finalizers": None}})
    _ask(cluster, "DELETE", f"/apis/relevo.dev/v1alpha1/namespaces/{namespace}/rollouts", None)
    _ask(cluster, "DELETE", f"/api/v1/namespaces/{namespace}", None)


def _ask(cluster: Cluster, method: str, path: str, body: dict[str, Any] | None) -> None:
    client = cluster.client
    request = client.param_serialize(
        method,
        path,
        header_params={"Accept": "application/json", "Content-Type": "application/json"},
        body=body,
        auth_settings=["BearerToken"],
    )
    client.call_api(*request, _request_timeout=60).read()


def _ms(seconds: np.ndarray[Any, Any]) -> str:
    if not seconds.size:
        return "-"
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return f"{1e3 * p50:.1f}, {1e3 * p99:.0f}, {1e3 * seconds.max():.0f}"


if __name__ == "__main__":
    sys.exit(main())
