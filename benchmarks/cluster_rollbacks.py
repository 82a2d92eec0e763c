"""On a cluster: how long after the decisive response does KServe's status show 0 % for a proven bad candidate?

`python -m benchmarks.cluster_rollbacks [--runs 20] [--context kind-relevo]`

Real rollouts of the candidate that fails a share of its requests, without a shadow stage. All requests are those of one client process
of our own, through the gateway; the rollout is judged by the gateway's counts of them (`sources: [envoy]`, no Locust). The stored samples
(looks of the operator: one a second, those with a change, and the look before each of these) say when the evidence first reached the
limit. KServe's status is watched: the API server tells each change. All clocks are this machine's.

- decided: from the look that reached it until 0 %. What the operator, KServe and Knative take.
- counted: from the last look below the limit. The decisive response came after that look had read, be it a bad answer of the
  candidate's or a good one of the stable revision's: no delay from it is longer.
"""

from __future__ import annotations

import os
import sys
import time

from benchmarks.cluster_arguments import cluster_parser
from benchmarks.measure import command_of, publish, quantiles, table
from scripts.arena import say
from scripts.lab import models
from scripts.lab.delays import Delay, delay, samples
from scripts.lab.kube import Lab, LabError, until
from scripts.lab.ready import make_ready
from scripts.lab.rollouts import BY_USERS_ALONE, Site
from scripts.lab.users import GatewayUsers
from scripts.lab.watching import Watch
from scripts.soak_results import commit, conditions

__all__ = ["main", "one_rollback"]

GOAL_SECONDS = 2.0
ROLLOUT_SECONDS = 240.0


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 when there are as many delays as runs and p95 is within the goal."""
    parser = cluster_parser("rollbacks", __doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--per-second", type=float, default=40.0, help="requests of the users")
    options = parser.parse_args(arguments)
    lab = Lab(options.context, options.gateway)
    delays: list[Delay] = []
    without: list[str] = []
    loads: list[float] = []
    try:
        make_ready(lab)
        site = served(lab, options.namespace)
        for number in range(1, options.runs + 1):
            loads.append(os.getloadavg()[0])
            found = one_rollback(site, per_second=options.per_second)
            say(f"{number}/{options.runs}  {found}")
            (delays if isinstance(found, Delay) else without).append(found)  # type: ignore[arg-type]
    except LabError as error:
        say(f"error: {error}")
        if not delays:
            return 1
    publish(_page(delays, without, loads, command_of("cluster_rollbacks", arguments)), options.output)
    enough = len(delays) == options.runs
    return 0 if enough and quantiles(d.counted for d in delays)[1] <= GOAL_SECONDS else 1


def served(lab: Lab, namespace: str) -> Site:
    """Version 1 of iris, served in a namespace of that name. Raises `LabError`."""
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, namespace="default")
    site = Site(lab, namespace)
    if lab.get("inferenceservice", site.name, namespace) is None:
        site.serve("1")
    else:
        site.wait_ready()
    site.bring_back("1")
    return site


def one_rollback(site: Site, *, per_second: float) -> Delay | str:
    """One rollout of the candidate that fails; its delay, or a sentence. Raises `LabError` where it did not end."""
    with (
        Watch(site.lab, site.namespace, site.name) as watch,
        GatewayUsers(
            site.lab.gateway,
            site.host,
            site.name,
            models.rows(),
            per_second=per_second,
            connections=4,
            seconds=ROLLOUT_SECONDS,
        ) as users,
    ):
        until("users get answers", users.count, seconds=30)
        site.roll_out("2-errors", **BY_USERS_ALONE)
        end = watch.wait("a verdict", lambda look: look.phase in ("Promoted", "RolledBack"), seconds=ROLLOUT_SECONDS)
        time.sleep(0.5)  # the last answers
    looks = samples(site)
    candidate = str(end.status.get("candidate", ""))
    found: Delay | str = f"{end.phase} ({end.status.get('cause')}): {end.reason}"
    if (end.phase, end.status.get("cause")) == ("RolledBack", "evidence"):
        found = delay(looks, watch.traffic, users.answers(), candidate)
    if watch.problems:
        found = f"{watch.problems}"
    others = [one for one in users.answers() if one.failed and one.revision != candidate]
    if others:
        found = f"{len(others)} requests failed that the candidate did not answer: {others[0]}"
    site.delete_rollout()
    site.settled_weights()
    return found


def _page(delays: list[Delay], without: list[str], loads: list[float], command: str) -> str:
    rows = []
    for name, values in (
        ("decided: the operator's look whose evidence reached the limit", [d.decided for d in delays]),
        ("counted: the last look below the limit", [d.counted for d in delays]),
    ):
        rows.append((name, *(f"{value:.2f}" for value in quantiles(values))))
    each = [
        (
            n,
            f"{d.decided:.2f}",
            f"{d.counted:.2f}",
            f"{d.last_failure:.2f}",
            f"{d.first_request_to_look:.1f}",
            d.requests_in_all,
            d.errors_in_all,
        )
        for n, d in enumerate(delays, start=1)
    ]
    lines = [
        "# From the decisive response to 0 % on a cluster",
        "",
        conditions(command, [commit()]),
        f"The machine's load (1 minute) at the start of each rollout: {', '.join(f'{load:.1f}' for load in loads)}.",
        "",
        f"{len(delays)} rollouts were rolled back on evidence while they had users; {len(without)} gave nothing to measure.",
        "",
        table(("seconds until KServe's status shows 0 %, from", "p50", "p95", "max"), rows),
        "",
        table(
            (
                "run",
                "decided, s",
                "counted, s",
                "last failed answer before the look, s",
                "first user's request to the look, s",
                "candidate requests",
                "of them failed",
            ),
            each,
        ),
        "",
        "What is measured: the head of benchmarks/cluster_rollbacks.py.",
        *(f"- {one}" for one in without),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
