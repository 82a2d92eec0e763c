"""Drives a rollout from the terminal: the live view or plain lines while it runs, the verdict at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from rich.live import Live
from rich.text import Text

from relevo.cli.exit_codes import ExitCode, exit_code_of
from relevo.cli.output import Output, emit, err, say, tell
from relevo.cli.view import render
from relevo.cli.wiring import NO_LOCUST, Local, clock
from relevo.errors import Transient
from relevo.reconcile.driver import Driver
from relevo.reconcile.lease import is_dead, take
from relevo.reconcile.snapshot import Snapshot
from relevo.reconcile.tick import Tick
from relevo.rollout.state import HoldReason, Phase, RolloutState
from relevo.store.rollouts import Record

__all__ = ["Watch", "conclude", "drive", "follow"]

VIEW_SECONDS = 1.0
"""How often the view is drawn; ticks may come faster."""


@dataclass
class Watch:
    """What is shown while a rollout runs: a live view on a terminal, a line per transition elsewhere."""

    locust_url: str = ""
    live: Live | None = None
    hold_timeout_seconds: float | None = None
    _drawn: Snapshot | None = field(default=None)
    _troubles: set[str] = field(default_factory=set)

    def on_tick(self, tick: Tick) -> None:
        """Show a tick."""
        if self.live is None:
            for t in tick.decision.transitions:
                tell(f"{t.at.astimezone():%H:%M:%S}  {t.before} -> {t.after}: {t.message}")
            return
        snapshot = tick.snapshot
        before = self._drawn
        if before is None or tick.decision.transitions or snapshot.at - before.at >= timedelta(seconds=VIEW_SECONDS):
            self.live.update(
                render(snapshot, locust_url=self.locust_url, requests_per_second=_rate(before, snapshot)), refresh=True
            )
            self._drawn = snapshot

    def on_trouble(self, message: str) -> None:
        """Say once what does not work just now."""
        if message not in self._troubles:
            self._troubles.add(message)
            tell(Text("waiting:", "yellow"), message)  # `err` is the live view's console, which makes room for it

    def stop_when(self, tick: Tick) -> bool:
        """Whether to leave a rollout that has been held as unmeasurable for too long."""
        hold = tick.record.state.hold
        if self.hold_timeout_seconds is None or hold is None or hold.reason is not HoldReason.UNMEASURABLE:
            return False
        return (tick.snapshot.at - hold.since).total_seconds() > self.hold_timeout_seconds


def _rate(before: Snapshot | None, now: Snapshot) -> float | None:
    if before is None or now.at <= before.at:
        return None
    added = sum(a.requests for a in now.arms) - sum(a.requests for a in before.arms)
    return max(added, 0) / (now.at - before.at).total_seconds()


def drive(
    local: Local,
    record: Record,
    *,
    locust_url: str,
    hold_timeout_seconds: float | None = None,
    until: Callable[[Tick], bool] = lambda _: False,
) -> Record:
    """Take the rollout's lease and drive it to its end, or until `until` says so.

    Raises:
        Conflict: another process drives it.
        KeyboardInterrupt: the lease has been given back.
    """
    record = take(local.store, record.state.uid, now=clock().timestamp())
    spec = record.rollout.spec
    stable = local.package(record.state.stable_uri)
    watch = Watch(locust_url, hold_timeout_seconds=hold_timeout_seconds)
    driver = Driver(
        local.reconciler(spec, stable, locust_url),
        on_tick=watch.on_tick,
        on_trouble=watch.on_trouble,
        stop_when=lambda tick: watch.stop_when(tick) or until(tick),
    )
    if not err.is_terminal:
        return driver.run(record)
    with Live(console=err, auto_refresh=False, transient=False) as live:
        watch.live = live
        return driver.run(record)


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


def follow(local: Local, record: Record, done: Callable[[Record], bool], *, timeout_seconds: float = 60.0) -> Record:
    """Wait until the process that drives a rollout has done what was asked.

    Raises:
        Transient: it has not within the time.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        record = local.store.get(record.state.uid)
        if done(record):
            return record
        if is_dead(record.driver):
            return drive(local, record, locust_url=local.locust_url() or NO_LOCUST, until=lambda t: done(t.record))
        time.sleep(0.1)
    raise Transient(
        f"{record.rollout.spec.target}: {record.driver} has not done it within {timeout_seconds:g} s",
        next_step="Its process may be stopped; end it and call again.",
    )
