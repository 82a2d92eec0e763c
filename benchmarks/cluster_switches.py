"""On a cluster: does a user's request ever fail because the colours are switched, and how soon is a switch effective for users?

`python -m benchmarks.cluster_switches [--requests 50000] [--switches 50] [--per-second 200] [--context kind-relevo]`

Both colours are up. One client process of our own sends held-out rows through the gateway all the while; none is repeated. A switch is the
documented `kubectl patch` of the Route; from that call on: until the first answer of the new colour had come, and until the last request
was sent that the old colour still got, which is when it is effective.
"""

from __future__ import annotations

import os
import time

from benchmarks.cluster_arguments import cluster_parser
from benchmarks.local_switches import Switch, effects
from benchmarks.measure import command_of, publish, quantiles, table
from benchmarks.shift_traffic import Change, Sent
from relevo.platforms.colours import COLOURS
from scripts.arena import say
from scripts.lab import models
from scripts.lab.colours import ColouredSite
from scripts.lab.kube import Lab, LabError, until
from scripts.lab.ready import make_ready
from scripts.lab.users import GatewayUsers, Seen
from scripts.soak_results import commit, conditions

__all__ = ["main"]

GOAL_SECONDS = 1.0
LONGEST_SECONDS = 3600.0


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 when there were enough requests and switches, none failed and the goal was reached."""
    parser = cluster_parser("switches", __doc__)
    parser.add_argument("--requests", type=int, default=50_000, help="at least")
    parser.add_argument("--switches", type=int, default=50, help="at least")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two switches")
    parser.add_argument("--per-second", type=float, default=200.0)
    options = parser.parse_args(arguments)
    lab = Lab(options.context, options.gateway)
    try:
        make_ready(lab)
        site = _both_up(lab, options.namespace)
        users = GatewayUsers(
            lab.gateway, site.host, site.name, models.rows(), per_second=options.per_second, connections=8,
            most=10 * options.requests, seconds=LONGEST_SECONDS,
        )  # fmt: skip
        changes: list[Change] = []
        with users:
            until("users get answers", users.count, seconds=60)
            began = time.monotonic()
            while users.count() < options.requests or len(changes) <= options.switches:
                if time.monotonic() - began > LONGEST_SECONDS:
                    break
                called_at = time.time()
                site.patch_to(COLOURS[len(changes) % 2])
                changes.append(Change(len(changes) % 2, called_at, time.time()))
                if len(changes) % 10 == 0:
                    say(f"{len(changes)} switches, {users.count():,} requests")
                time.sleep(options.every)
    except LabError as error:
        say(f"error: {error}")
        return 1
    answers = users.answers()
    sent = [Sent(a.sent_at, a.answered_at, -1, a.revision.rpartition("-predictor")[0], a.status) for a in answers]
    took = effects(changes, sent, (f"{site.name}-blue", f"{site.name}-green"))
    page, fine = _page(took, answers, command_of("cluster_switches", arguments))
    publish(page, options.output)
    return 0 if fine and len(answers) >= options.requests and len(took) >= options.switches else 1


def _both_up(lab: Lab, namespace: str) -> ColouredSite:
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    lab.apply(made, namespace="default")
    site = ColouredSite(lab, namespace)
    site.install(blue="1", green="2")
    site.open_route("blue", *COLOURS)
    return site


def _page(took: list[Switch], answers: list[Seen], command: str) -> tuple[str, bool]:
    failed = sum(one.failed for one in answers)
    rows = [
        ("first answer of the new colour", *(f"{1000 * v:.0f}" for v in quantiles([e.first_new for e in took]))),
        (
            "last request that the old colour got was sent",
            *(f"{1000 * v:.0f}" for v in quantiles([e.last_old for e in took])),
        ),
    ]
    lines = [
        "# Switching colours on a cluster",
        "",
        conditions(command, [commit()]),
        "",
        f"{len(answers):,} requests during {len(took)} switches by kubectl: {failed} failed. "
        f"Load of the machine: {os.getloadavg()[1]:.1f}.",
        "",
        table(("milliseconds from the call until", "p50", "p95", "max"), rows),
        "",
        f"The goal is that a switch is effective within {GOAL_SECONDS:g} s (p95). "
        "What is measured: the head of benchmarks/cluster_switches.py.",
    ]
    effective = quantiles([e.last_old for e in took])[1]
    return "\n".join(lines) + "\n", not failed and effective <= GOAL_SECONDS


if __name__ == "__main__":
    import sys

    sys.exit(main())
