"""Drives a rollout of this machine from the terminal. `watch` is what is shown meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.live import Live

from relevo.cli.output import err
from relevo.cli.watch import Watch
from relevo.cli.wiring import NO_LOCUST, Local, clock
from relevo.errors import Transient
from relevo.reconcile.driver import Driver
from relevo.reconcile.lease import is_dead, take
from relevo.reconcile.tick import Tick
from relevo.store.rollouts import Record

__all__ = ["drive", "follow"]


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
