"""Drives one rollout from this process: tick after tick under a lease, until it has ended or somebody interrupts."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from relevo.errors import RelevoError, Transient
from relevo.reconcile.lease import is_dead, me, take
from relevo.reconcile.tick import Reconciler, Tick
from relevo.rollout.wording import deploy_verb
from relevo.store.rollouts import Record

__all__ = ["Driver", "is_dead", "me", "take"]

PROMPT_SECONDS = 0.02
"""The pause after a tick that moved something: what it set in motion is looked at at once."""

GIVE_UP_SECONDS = 60.0
"""How long the platform or the store may fail before the driver says so and ends; the rollout stays as it is stored."""


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
                        raise _given_up(record, error) from error
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
            # A store that fails now must not hide what went wrong before; a lease runs out, and at once when its process has ended.
            with suppress(RelevoError):
                self._reconciler.store.release(record)
        return record


def _given_up(record: Record, error: Transient) -> Transient:
    """The trouble, and that nobody waits for its end any more."""
    target = record.rollout.spec.target
    return Transient(
        f"{error.message}. Given up after {GIVE_UP_SECONDS:g} s; the rollout stays {record.state.shown_phase}",
        next_step=f"When that is mended, `relevo {deploy_verb(record.rollout.spec)} {target}` goes on with it.",
    )
