"""On a cluster: does a user's request ever fail because a healthy version is rolled out?

`python -m benchmarks.cluster_users [--requests 50000] [--per-second 100] [--context kind-relevo]`

One client process of our own sends held-out rows through the gateway all the while; none is repeated. Meanwhile version 2 of iris comes
to its users by the sample's canary, version 1 is brought back with no comparison, and so on until enough requests have ended. A request
fails when it has no answer or another status than 200. KServe's and Knative's status are watched at every change.
"""

from __future__ import annotations

import os
import sys
import time

from benchmarks.cluster_arguments import cluster_parser
from benchmarks.cluster_rollbacks import served
from benchmarks.measure import command_of, publish, quantiles, table
from scripts.arena import say
from scripts.lab import models
from scripts.lab.kube import Lab, LabError, until
from scripts.lab.ready import make_ready
from scripts.lab.users import GatewayUsers, Seen, by_revision
from scripts.lab.watching import Watch
from scripts.soak_results import commit, conditions

__all__ = ["main"]

LONGEST_SECONDS = 3600.0
ROLLOUT_SECONDS = 300.0


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 when there were enough requests, none failed, every rollout was promoted, and no weight was wrong."""
    parser = cluster_parser("users", __doc__)
    parser.add_argument("--requests", type=int, default=50_000, help="at least")
    parser.add_argument("--per-second", type=float, default=100.0)
    options = parser.parse_args(arguments)
    lab = Lab(options.context, options.gateway)
    ends: list[str] = []
    loads: list[float] = []
    try:
        make_ready(lab)
        site = served(lab, options.namespace)
        users = GatewayUsers(
            lab.gateway, site.host, site.name, models.rows(), per_second=options.per_second, connections=8,
            most=10 * options.requests, seconds=LONGEST_SECONDS,
        )  # fmt: skip
        with Watch(lab, site.namespace, site.name) as watch, users:
            until("users get answers", users.count, seconds=30)
            began = time.monotonic()
            while users.count() < options.requests and time.monotonic() - began < LONGEST_SECONDS:
                loads.append(os.getloadavg()[0])
                site.roll_out("2")
                end = watch.wait(
                    "a verdict", lambda look: look.phase in ("Promoted", "RolledBack"), seconds=ROLLOUT_SECONDS
                )
                ends.append(end.phase if end.phase == "Promoted" else f"{end.phase}: {end.reason}")
                say(f"{ends[-1]}; {users.count():,} requests, {sum(one.failed for one in users.answers())} failed")
                site.bring_back("1")
                watch.rollout.clear()
    except LabError as error:
        say(f"error: {error}")
        return 1
    answers = users.answers()
    page, fine = _page(answers, ends, watch, loads, arguments)
    publish(page, options.output)
    return 0 if fine and len(answers) >= options.requests else 1


def _page(
    answers: list[Seen], ends: list[str], watch: Watch, loads: list[float], arguments: list[str] | None
) -> tuple[str, bool]:
    failed = [one for one in answers if one.failed]
    promoted = ends.count("Promoted")
    seconds = answers[-1].answered_at - answers[0].sent_at
    latency = quantiles(1000 * (one.answered_at - one.sent_at) for one in answers)
    command = command_of("cluster_users", arguments)
    lines = [
        "# Users' requests during healthy rollouts on a cluster",
        "",
        conditions(command, [commit()]),
        f"The machine's load (1 minute) at the start of each rollout: {', '.join(f'{load:.1f}' for load in loads)}.",
        "",
        f"{len(answers):,} requests in {seconds:.0f} s ({len(answers) / seconds:.0f}/s) during {len(ends)} rollouts of version 2 "
        f"({promoted} promoted) and as many ways back: {len(failed)} failed. The weights changed {len(watch.route) - 1} times; "
        f"{len(watch.problems)} times they were wrong.",
        "",
        table(
            ("milliseconds as users saw them", "p50", "p95", "max"),
            [("all answers", *(f"{value:.0f}" for value in latency))],
        ),
        "",
        table(
            ("answered by", "with", "requests"),
            [(who or "nobody", what, n) for (who, what), n in sorted(by_revision(answers).items())],
        ),
        "",
        "What is measured: the head of benchmarks/cluster_users.py.",
        *(f"- {one}" for one in (*watch.problems, *(end for end in ends if end != "Promoted"))),
    ]
    return "\n".join(lines) + "\n", not failed and promoted == len(ends) and not watch.problems


if __name__ == "__main__":
    sys.exit(main())
