"""What is shown of a rollout while it is followed, and at its end: the live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from relevo.cli.exit_codes import ExitCode, exit_code_of
from relevo.cli.output import Output, emit, say, tell
from relevo.cli.view import render
from relevo.errors import BadInput
from relevo.reconcile.snapshot import Snapshot
from relevo.rollout.commands import Verb
from relevo.rollout.state import HoldReason, Phase, RolloutState

if TYPE_CHECKING:
    from relevo.reconcile.tick import Tick
    from relevo.rollout.decision import Transition
    from relevo.store.rollouts import Record

__all__ = ["Watch", "conclude", "nothing_to", "what_came_of_it"]

VIEW_SECONDS = 1.0
"""How often the view is drawn; ticks may come faster."""


@dataclass
class Watch:
    """What is shown while a rollout runs: a live view on a terminal, a line per transition elsewhere."""

    locust_url: str = ""
    live: Live | None = None
    hold_timeout_seconds: float | None = None
    flags: str = ""
    """What follows the target in the commands that the view names."""
    _drawn: Snapshot | None = field(default=None)
    _troubles: set[str] = field(default_factory=set)

    def on_tick(self, tick: Tick) -> None:
        """Show a tick."""
        self.show(tick.snapshot, tick.decision.transitions)

    def show(self, snapshot: Snapshot, transitions: Sequence[Transition]) -> None:
        """Show how a rollout looks, and what has just moved it."""
        if self.live is None:
            for t in transitions:
                tell(f"{t.at.astimezone():%H:%M:%S}  {t.before} -> {t.after}: {t.message}")
            return
        before = self._drawn
        if before is None or transitions or snapshot.at - before.at >= timedelta(seconds=VIEW_SECONDS):
            self.live.update(
                render(
                    snapshot,
                    locust_url=self.locust_url,
                    requests_per_second=_rate(before, snapshot),
                    flags=self.flags,
                ),
                refresh=True,
            )
            self._drawn = snapshot

    def on_trouble(self, message: str) -> None:
        """Say once what does not work just now."""
        if message not in self._troubles:
            self._troubles.add(message)
            tell(Text("waiting:", "yellow"), message)  # `err` is the live view's console, which makes room for it

    def stop_when(self, tick: Tick) -> bool:
        """Whether to leave a rollout that has been held as unmeasurable for too long."""
        return self.held_too_long(tick.record.state, tick.snapshot.at)

    def held_too_long(self, state: RolloutState, now: datetime) -> bool:
        """Whether it has been held as unmeasurable for longer than anybody wants to wait."""
        hold = state.hold
        if self.hold_timeout_seconds is None or hold is None or hold.reason is not HoldReason.UNMEASURABLE:
            return False
        return (now - hold.since).total_seconds() > self.hold_timeout_seconds


def _rate(before: Snapshot | None, now: Snapshot) -> float | None:
    if before is None or now.at <= before.at:
        return None
    added = sum(a.requests for a in now.arms) - sum(a.requests for a in before.arms)
    return max(added, 0) / (now.at - before.at).total_seconds()


def conclude(state: RolloutState, output: Output = Output.TABLE) -> ExitCode:
    """Print how a rollout ended, or where it stands, and give the exit code."""
    code = exit_code_of(state)
    if output is not Output.TABLE:
        emit(
            {
                "uid": state.uid,
                "phase": state.shown_phase,
                "verdict": state.verdict.value if state.verdict else None,
                "cause": state.cause.value if state.cause else None,
                "reason": state.reason,
                "exitCode": int(code),
            },
            output,
        )
        return code
    style = {ExitCode.OK: "bold green", ExitCode.ROLLED_BACK: "bold red"}.get(code, "bold yellow")
    word = (
        state.shown_phase
        if state.phase is not Phase.ROLLED_BACK or code is not ExitCode.INCONCLUSIVE
        else "RolledBack, inconclusive"
    )
    reason = state.reason or (state.hold.message if state.hold else "")
    say(Text(word, style).append(":", "default"), reason)
    sys.stdout.flush()
    return code


def nothing_to(verb: Verb, name: str, record: Record | None) -> BadInput:
    """Why an order to a rollout that has ended, or has never begun, makes no sense."""
    what = f"the last rollout has ended ({record.state.phase})" if record else "there has been no rollout"
    word = {Verb.ROLLBACK: "roll back", Verb.PROMOTE_FULL: "promote"}.get(verb, verb.value)
    next_step = f"`relevo deploy-canary {name} --version N` begins one."
    if record is not None and verb is Verb.ROLLBACK and record.state.phase is Phase.PROMOTED:
        next_step = f"`relevo undo {name}` brings the version before it back."
    return BadInput(f"{name}: nothing to {word}, {what}", next_step=next_step)


def what_came_of_it(since: Sequence[Transition]) -> ExitCode:
    """Print what an order has moved, and say whether it was refused."""
    for transition in since:
        tell(f"{transition.after}: {transition.message}")
    refused = any(transition.rule == "refused" for transition in since)
    return ExitCode.BAD_INPUT if refused else ExitCode.OK
