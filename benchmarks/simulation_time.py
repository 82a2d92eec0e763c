"""How long 10,000 rollouts of 60,000 requests take to simulate, by `relevo simulate`'s own engine, on two processes.

    python -m benchmarks.simulation_time --output docs/measured/simulation_time.md      # alone on the machine; about two minutes

A healthy candidate at 200 requests per second for 300 seconds, to a policy that waits for a proof out of reach, so that no rollout ends
before its 60,000 requests. Two policies: "four checks" is the default one with both of its sources, without a shadow stage, looked at
twice a second; "errors and latency" is looked at every second, as the tables of docs/operating-characteristics.md are. The goal is 60 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import command_of, table
from benchmarks.policies_simulated import EDGES_MS
from relevo.rollout.spec import parse_rollout
from relevo.simulation.characteristics import characteristics
from relevo.simulation.traffic import HEALTHY, Traffic
from relevo.simulation.world import World
from scripts.soak_results import commit, conditions

__all__ = ["GOAL_SECONDS", "POLICIES", "main", "measure"]

GOAL_SECONDS, RATE, SECONDS = 60.0, 200.0, 300

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "four checks": {"tickSeconds": 0.5},
    "errors and latency": {"tickSeconds": 1.0, "checks": {"predictions": None, "accuracy": None}},
}


class Cost(NamedTuple):
    """Of one policy."""

    name: str
    runs: int
    requests: float
    """Of one rollout, on average: users', to both arms."""
    seconds: float
    cpu_seconds: float
    jobs: int


def measure(name: str, runs: int, jobs: int) -> Cost:
    """Simulate so many rollouts."""
    document = {
        "metadata": {"name": "model"},
        "spec": {
            "target": "model",
            "storageUri": "oci://x/model:2",
            "shadow": {"enabled": False},
            "decision": {"promotionAlpha": 1e-300, "alpha": 1e-9},
            "limits": {"maxSeconds": SECONDS / 1.5},  # a rollout is extended once, by half
            **POLICIES[name],
        },
    }
    traffic = Traffic(RATE, 0.005, EDGES_MS)
    world = World(parse_rollout(document, where="benchmark").spec, traffic)
    began, used = time.perf_counter(), _cpu_seconds()
    result = characteristics(world, [HEALTHY], runs, 1, jobs=jobs)
    seconds = time.perf_counter() - began
    requests = float(sum(part.requests.sum() for part in result.outcomes[0])) / runs
    return Cost(name, runs, requests, seconds, _cpu_seconds() - used, jobs)


def _cpu_seconds() -> float:
    """Of this process and of those that have ended."""
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _page(costs: Sequence[Cost], arguments: list[str] | None) -> str:
    command = command_of("simulation_time", arguments)
    rows = [
        (c.name, f"{c.runs:,}", f"{c.requests:,.0f}", c.jobs, f"{c.seconds:.1f}", f"{c.cpu_seconds:.1f}") for c in costs
    ]
    lines = [
        "# How long a simulation takes",
        "",
        conditions(command, [commit()]),
        "",
        f"Goal: {GOAL_SECONDS:g} s for 10,000 rollouts of 60,000 requests on two cores.",
        "",
        table(("policy", "rollouts", "requests of each, mean", "processes", "seconds", "CPU s"), rows),
        "",
        "What is measured: the head of benchmarks/simulation_time.py.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print the table. 1 where 10,000 rollouts took longer than the goal."""
    parser = argparse.ArgumentParser(description="Time the simulation.")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--output", type=Path, help="write the page there too")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.jobs < 1:
        parser.error("RUNS and JOBS must be at least 1")
    costs = [measure(name, options.runs, options.jobs) for name in POLICIES]
    page = _page(costs, arguments)
    print(page)
    if options.output:
        options.output.write_text(page, encoding="utf-8")
    return int(options.runs >= 10_000 and max(cost.seconds for cost in costs) > GOAL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
