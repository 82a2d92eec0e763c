"""Does a user's request ever fail because the colours are switched, and how soon is a switch effective?

`python -m benchmarks.local_switches [--requests 200000] [--changes 200]`

The client, its requests and the arguments are those of `shift_traffic`; what changes is the colour that all users are sent to, by
`LocalPlatform.switch`, as `relevo switch` calls it. Both colours stay up. Per switch, from the call:

- returned: until the call came back;
- first new: until the first answer of the new colour had come;
- last old: until the last request was sent that the old colour still got. This is when the switch is effective.

A request fails when it has no answer or another status than 200. Also counted: requests that were sent after a call had returned and still
went to the old colour.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure import command_of, publish, quantiles, table
from benchmarks.shift_traffic import Change, Sent, parser, prepared, under_load
from relevo.packaging import resolve
from relevo.platforms.local.platform import LocalPlatform
from scripts.arena import ArenaError, open_arena, say
from scripts.soak_results import commit, conditions

__all__ = ["Switch", "effects", "main"]

GOAL_SECONDS = 0.3


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. 0 when no request failed, none went astray, and the goal was reached."""
    options = parser("local_switches", __doc__, changes=200, every=0.5).parse_args(arguments)
    try:
        with open_arena("iris", options.home, None, None, blue_green=True) as arena:
            arena.train(["healthy"])
            arena.up()
            platform = LocalPlatform(arena.home, resolve=resolve)
            try:
                revisions = prepared(platform, arena)

                def change(number: int) -> Change:
                    called_at = time.monotonic()
                    platform.switch(arena.model, ("blue", "green")[number % 2])
                    return Change(number % 2, called_at, time.monotonic())

                changes, sent = under_load(arena, options, "", change)
            finally:
                platform.close()
    except ArenaError as error:
        say(f"error: {error}")
        return 1
    page, fine = _page(effects(changes, sent, revisions), sent, command_of("local_switches", arguments))
    publish(page, options.output)
    return 0 if fine else 1


@dataclass(frozen=True, slots=True)
class Switch:
    """How soon one switch took effect, in seconds from the call."""

    returned: float
    first_new: float
    last_old: float
    late: int
    """Requests sent after the call had returned that the old colour got."""


def effects(changes: Sequence[Change], sent: Sequence[Sent], revisions: tuple[str, str]) -> list[Switch]:
    """One per switch after the first that the new colour has answered within; `revisions`: blue, then green."""
    ordered = sorted((one for one in sent if one.status == 200), key=lambda one: one.sent_at)
    found = []
    ends = [change.called_at for change in changes[1:]] + [float("inf")]
    at = 0
    for number, (change, end) in enumerate(zip(changes, ends, strict=True)):
        while at < len(ordered) and ordered[at].sent_at < change.called_at:
            at += 1
        within = []
        while at < len(ordered) and ordered[at].sent_at < end:
            within.append(ordered[at])
            at += 1
        to = revisions[change.weight_percent]
        new = [one.answered_at for one in within if one.assigned == to]
        old = [one.sent_at for one in within if one.assigned != to]
        if number and new:
            late = sum(sent_at > change.returned_at for sent_at in old)
            began = change.called_at
            found.append(Switch(change.returned_at - began, min(new) - began, max(old, default=began) - began, late))
    return found


def _page(took: Sequence[Switch], sent: Sequence[Sent], command: str) -> tuple[str, bool]:
    failed = Counter(one.problem or str(one.status) for one in sent if one.status != 200)
    seconds = max(one.answered_at for one in sent) - min(one.sent_at for one in sent)
    late = sum(one.late for one in took)
    rows = []
    for name, values in (
        ("the call has returned", [e.returned for e in took]),
        ("first answer of the new colour", [e.first_new for e in took]),
        ("last request that the old colour got was sent", [e.last_old for e in took]),
    ):
        rows.append((name, *(f"{1000 * value:.0f}" for value in quantiles(values))))
    lines = [
        "# Switching colours on one machine",
        "",
        conditions(command, [commit()]),
        "",
        f"{len(sent):,} requests in {seconds:.0f} s ({len(sent) / seconds:.0f}/s) during {len(took)} switches: "
        f"{sum(failed.values())} failed{f' ({dict(failed)})' if failed else ''}, "
        f"{late} were sent after a call had returned and went to the old colour.",
        "",
        table(("milliseconds from the call until", "p50", "p95", "max"), rows),
        "",
        f"The goal is that a switch is effective within {1000 * GOAL_SECONDS:.0f} ms (p95). What is measured: the head of "
        "benchmarks/local_switches.py.",
    ]
    effective = quantiles([e.last_old for e in took])[1]
    return "\n".join(lines) + "\n", not failed and not late and effective <= GOAL_SECONDS


if __name__ == "__main__":
    sys.exit(main())
