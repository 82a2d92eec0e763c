"""On a cluster at 100 requests/s: how long does a candidate that is worse keep its users, and how long does a good one wait?

`python -m benchmarks.cluster_detection [--runs 5] [--healthy-runs 9] [--case errors-20 ...] [--window-seconds 0.8] [--context kind-relevo]`

The stable revision fails 0.5 % of its requests and takes 100 ms; the candidate of each case differs in what its name says. Their faults
are set (`benchmarks.faulty_server`, a runtime of its own), so that each case is what it claims. Rollouts have the default policy without
the shadow stage, and with --window-seconds windows of latency that also end by time; Locust sends 100 requests/s. Counted from the moment
at which KServe's status first shows weight for the candidate, until it shows 0 % (or, for the healthy one, 100 %). Candidate requests and
errors are those that the operator had counted at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.cluster_arguments import cluster_parser
from benchmarks.measure import command_of, publish, table
from relevo.packaging.image import load_image
from scripts.arena import PROJECT, say
from scripts.lab.delays import samples
from scripts.lab.kube import Lab, LabError, Object
from scripts.lab.ready import make_ready
from scripts.lab.rollouts import Site, sample_service
from scripts.lab.watching import Watch
from scripts.soak_results import commit, conditions

__all__ = ["CASES", "Run", "main", "one_run", "serve_base"]

ROLLOUT_SECONDS = 420.0
RUNTIME = "faulty"
SERVER = "dev.local/relevo-server:0.1.0"

CASES: dict[str, tuple[dict[str, float], str, str]] = {
    "errors-20": ({"error_share": 0.2}, "RolledBack", "20 % errors"),
    "errors-2.5": ({"error_share": 0.025}, "RolledBack", "2.5 % errors"),
    "latency-50": ({"wait_ms": 150.0}, "RolledBack", "+50 ms"),
    "healthy": ({}, "Promoted", "healthy"),
}
"""Faults, the right verdict, and how the table calls it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One rollout. Seconds from the first weight to 0 % or 100 %."""

    case: str
    phase: str
    cause: str
    reason: str
    seconds: float
    requests: int
    errors: int
    load: float

    @property
    def right(self) -> bool:
        return self.phase == CASES[self.case][1] and self.cause == "evidence"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 when there are as many runs as asked for and every verdict was right."""
    parser = cluster_parser("detection", __doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--healthy-runs",
        type=int,
        default=9,
        help="of the healthy one, whose time varies most: by chance, as failures do",
    )
    parser.add_argument("--window-seconds", type=float, help="checks.latency.windowSeconds; else the default policy's")
    parser.add_argument("--case", action="append", choices=list(CASES), help="this one; may be given again")
    options = parser.parse_args(arguments)
    lab = Lab(options.context, options.gateway)
    runs: list[Run] = []
    cases = options.case or list(CASES)
    times = {case: options.healthy_runs if case == "healthy" else options.runs for case in cases}
    planned = [(number, case) for number in range(max(times.values())) for case in cases if number < times[case]]
    try:
        make_ready(lab)
        site = serve_base(lab, options.namespace, cases)
        for number, case in planned:
            runs.append(one_run(site, case, window_seconds=options.window_seconds))
            say(f"{number + 1}/{times[case]}  {runs[-1]}")
    except LabError as error:
        say(f"error: {error}")
        if not runs:
            return 1
    publish(_page(runs, command_of("cluster_detection", arguments), options.window_seconds), options.output)
    return 0 if len(runs) == len(planned) and all(run.right for run in runs) else 1


def serve_base(lab: Lab, namespace: str, cases: list[str]) -> Site:
    """The base, served by the runtime with faults, and the images of the candidates in the node."""
    if not lab.kind_cluster:
        raise LabError(f"{lab.context} is no kind cluster, into which images could be loaded")
    for case in cases:
        _load(case, lab.kind_cluster)
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, namespace="default")
    program = (PROJECT / "benchmarks/faulty_server.py").read_text(encoding="utf-8")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": RUNTIME}, "data": {"server.py": program}}
    lab.apply(config, _runtime(), namespace=namespace)
    site = Site(lab, namespace)
    lab.apply(sample_service(site.name, model={"runtime": RUNTIME}), namespace=namespace)
    site.wait_ready()
    site.bring_back("1")
    return site


def _runtime() -> Object:
    probe = {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 90}
    container = {
        "name": "kserve-container",
        "image": SERVER,
        "command": ["python", "/faults/server.py"],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "ports": [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}],
        "startupProbe": probe,
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 3},
        "resources": {"requests": {"cpu": "50m", "memory": "160Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "faults", "mountPath": "/faults"}],
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": RUNTIME},
        "spec": {
            "supportedModelFormats": [{"name": "sklearn", "version": "1"}],
            "protocolVersions": ["v2"],
            "containers": [container],
            "volumes": [{"name": "faults", "configMap": {"name": RUNTIME}}],
        },
    }


def _load(case: str, cluster: str) -> None:
    """The image of a case: iris:2 with its faults beside it."""
    tag = f"dev.local/iris:2-{case}"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "faults.json").write_text(json.dumps(CASES[case][0]))
        (Path(folder) / "Dockerfile").write_text("FROM dev.local/iris:2\nCOPY faults.json /models/faults.json\n")
        (Path(folder) / "faults.json").chmod(0o644)
        done = subprocess.run(
            ["docker", "build", "--quiet", "--tag", tag, folder], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise LabError(f"{tag}: {done.stderr.strip()[-500:]}")
    load_image(tag, cluster)


def one_run(site: Site, case: str, *, window_seconds: float | None = None) -> Run:
    """One rollout of a case, to its end and back to version 1."""
    load = os.getloadavg()[0]
    rollout = {
        "apiVersion": "relevo.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": site.name},
        "spec": {
            "target": site.name,
            "storageUri": f"oci://dev.local/iris:2-{case}",
            "shadow": {"enabled": False},
            "load": {"usersFrom": 20, "usersTo": 20},  # five requests a second each
            **({"checks": {"latency": {"windowSeconds": window_seconds}}} if window_seconds else {}),
        },
    }
    with Watch(site.lab, site.namespace, site.name) as watch:
        site.lab.apply(rollout, namespace=site.namespace)
        end = watch.wait("a verdict", lambda look: look.phase in ("Promoted", "RolledBack"), seconds=ROLLOUT_SECONDS)
    candidate = str(end.status.get("candidate", ""))
    first = next((look.at for look in watch.traffic if look.weights.get(candidate)), None)
    weight = 100 if end.phase == "Promoted" else 0
    last = next(
        (
            look.at
            for look in watch.traffic
            if first is not None and look.at > first and look.weights.get(candidate, 0) == weight
        ),
        None,
    )
    arm = next((one for one in samples(site)[-1]["arms"] if one["revision"] == candidate), {"requests": 0, "errors": 0})
    site.bring_back("1")
    return Run(
        case=case,
        phase=end.phase,
        cause=str(end.status.get("cause", "")),
        reason=end.reason,
        seconds=last - first if first is not None and last is not None else float("nan"),
        requests=int(arm["requests"]),
        errors=int(arm["errors"]),
        load=load,
    )


def _page(runs: list[Run], command: str, window_seconds: float | None) -> str:
    policy = f", latency windows of at most {window_seconds:g} s" if window_seconds else ""
    rows = []
    for case, (_, _, name) in CASES.items():
        mine = [run for run in runs if run.case == case]
        if not mine:
            continue
        right = sum(run.right for run in mine)
        spread = f"{min(r.seconds for r in mine):.1f} to {max(r.seconds for r in mine):.1f}"
        medians = (
            f"{median(r.seconds for r in mine):.1f}",
            spread,
            median(r.requests for r in mine),
            median(r.errors for r in mine),
        )
        rows.append((name, f"{right} of {len(mine)}", *medians, f"{median(r.load for r in mine):.1f}"))
    each = [(r.case, r.phase, f"{r.seconds:.1f}", r.requests, r.errors, f"{r.load:.1f}") for r in runs]
    lines = [
        "# How soon a candidate is judged on a cluster",
        "",
        conditions(command, [commit()]),
        "",
        "100 requests/s; the stable revision fails 0.5 % and takes 100 ms; default policy without the shadow stage"
        f"{policy}. Medians.",
        "",
        table(
            (
                "candidate",
                "right verdicts",
                "seconds to 0 % or 100 %",
                "spread",
                "candidate requests",
                "errors",
                "machine's load",
            ),
            rows,
        ),
        "",
        table(("case", "verdict", "seconds", "candidate requests", "errors", "machine's load"), each),
        "",
        "What is measured: the head of benchmarks/cluster_detection.py.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
