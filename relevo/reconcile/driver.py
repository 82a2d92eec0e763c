"""Drives one rollout from this process: tick after tick under a lease, until it has ended or somebody interrupts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import datetime

import psutil

from relevo.errors import Transient
from relevo.reconcile.tick import LEASE_SECONDS, Reconciler, Tick
from relevo.store.rollouts import Record, RolloutStore

__all__ = ["Driver", "is_dead", "me", "take"]

PROMPT_SECONDS = 0.02
"""The pause after a tick that moved something: what it set in motion is looked at at once."""

GIVE_UP_SECONDS = 60.0
"""How long the platform or the store may fail before the driver says so and ends; the rollout stays as it is stored."""


def me() -> str:
    """This process's name as a driver: host, process id, and when it began, for ids are used again."""
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def is_dead(driver: str) -> bool:
    """Whether a driver is known to be dead: it was a process of this host that is no longer there."""
    try:
        host, pid, created = driver.rsplit(":", 2)
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != created
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def take(store: RolloutStore, uid: str, *, now: float) -> Record:
    """Take a rollout's lease for this process; from a dead driver at once, from a living one never.

    Raises:
        Conflict: a living process drives it.
    """
    holder = store.get(uid).driver
    return store.acquire(uid, me(), now=now, seconds=LEASE_SECONDS, abandoned=is_dead(holder))


class Driver:
    """Ticks until the rollout has ended."""

    def __init__(
        self,
        reconciler: Reconciler,
        *,
        on_tick: Callable[[Tick], None],
        on_trouble: Callable[[str], None],
        stop_when: Callable[[Tick], bool] = lambda _: False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reconciler = reconciler
        self._on_tick = on_tick
        self._on_trouble = on_trouble
        self._stop_when = stop_when
        self._sleep = sleep

    def run(self, record: Record) -> Record:
        """Drive to the end, or until `stop_when` says so. Gives the lease back whatever happens.

        Raises:
            Transient: the platform or the store has failed for GIVE_UP_SECONDS.
            Conflict: another process has taken over.
        """
        failing_since: datetime | None = None
        try:
            while not record.state.phase.is_terminal:
                began = time.monotonic()
                try:
                    tick = self._reconciler.tick(record)
                except Transient as error:
                    now = self._reconciler.clock()
                    failing_since = failing_since or now
                    if (now - failing_since).total_seconds() > GIVE_UP_SECONDS:
                        raise
                    self._on_trouble(error.message)
                    self._sleep(record.rollout.spec.tick_seconds)
                    continue
                failing_since, record = None, tick.record
                self._on_tick(tick)
                if tick.trouble:
                    self._on_trouble(tick.trouble)
                if self._stop_when(tick):
                    break
                moved = bool(tick.decision.transitions) and not tick.trouble
                pause = PROMPT_SECONDS if moved else record.rollout.spec.tick_seconds - (time.monotonic() - began)
                self._sleep(max(pause, 0.0))
        finally:
            self._reconciler.store.release(record)
        return record
