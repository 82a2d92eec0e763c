"""Follows a rollout on a cluster from the terminal: the operator drives it, we look on until it has ended or a Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime

from rich.live import Live

from relevo.cli.cluster_records import ClusterJournal, ClusterRecord, transition_of
from relevo.cli.exit_codes import ExitCode
from relevo.cli.output import err, tell
from relevo.cli.site import Watching
from relevo.cli.watch import Watch, conclude
from relevo.errors import BadInput, Transient
from relevo.rollout.decision import Transition

__all__ = ["Follower", "lines_of"]

LOOK_SECONDS = 0.5
TAKEN_UP_SECONDS = 60.0
"""How long an operator may take to take a rollout up."""
ORDER_SECONDS = 60.0
LOST_SECONDS = 60.0
"""How long the API server may not answer before we stop looking on."""


class Follower:
    """Looks on. The clock and the pause are parameters, for tests."""

    def __init__(
        self,
        journal: ClusterJournal,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._sleep = sleep
        self._monotonic = monotonic

    def follow(self, name: str, watching: Watching, *, after: ClusterRecord | None = None) -> ExitCode:
        """Show a rollout until it has ended. `after` is how the resource was before a new run was asked for.

        Raises:
            Transient: no operator takes it up, or the cluster does not answer any more. BadInput: the Rollout was deleted.
        """
        watch = Watch(hold_timeout_seconds=watching.hold_timeout_seconds, flags=self._journal.flags)
        try:
            with Live(console=err, auto_refresh=False) if err.is_terminal else nullcontext() as live:
                watch.live = live
                record = self._look_on(name, watch, after.state.uid if after and after.run else "")
        except KeyboardInterrupt:
            flags = self._journal.flags
            tell(f"\nThe operator goes on with it. `relevo status {name}{flags} -w` follows it again;")
            tell(f"`relevo rollback {name}{flags}` gives all traffic back now.")
            return ExitCode.INTERRUPTED
        return conclude(record.state, watching.output)

    def wait_for(self, name: str, seq: int, *, to_the_end: bool) -> ClusterRecord:
        """Wait until an order was heard, and `to_the_end`, until the rollout has ended, if it was decided.

        Raises:
            Transient: that has not come to pass in time.
        """
        deadline = self._monotonic() + ORDER_SECONDS
        while self._monotonic() < deadline:
            record = self._read(name)
            state = record.state
            heard = state.command_seq >= seq
            # An order that should end the rollout and left it undecided was refused: there is nothing to wait for.
            if state.phase.is_terminal or (heard and not (to_the_end and state.phase.is_decided)):
                return record
            self._sleep(LOOK_SECONDS)
        raise Transient(
            f"{name}: the operator has not carried it out within {ORDER_SECONDS:g} s",
            next_step=self._journal.neglect(record) or f"See `kubectl describe rollout {name}`.",
        )

    def _look_on(self, name: str, watch: Watch, before: str) -> ClusterRecord:
        """`before` is the run that was there before ours; one that has no name yet is ours."""
        began = answered = self._monotonic()
        shown: tuple[Transition, ...] = ()
        while True:
            try:
                record = self._read(name)
                answered = self._monotonic()
            except Transient as error:
                if self._monotonic() - answered > LOST_SECONDS:
                    raise
                watch.on_trouble(error.message)
                self._sleep(LOOK_SECONDS)
                continue
            if record.trouble:
                watch.on_trouble(record.trouble)
            if record.run is None or record.state.uid == before:
                self._require_an_operator(record, began)
                self._sleep(LOOK_SECONDS)
                continue
            lines = lines_of(record)
            if snapshot := self._journal.snapshot(record):
                watch.show(snapshot, [line for line in lines if line not in shown])
            shown = lines
            if record.state.phase.is_terminal or watch.held_too_long(record.state, datetime.now(UTC)):
                return record
            self._sleep(LOOK_SECONDS)

    def _read(self, name: str) -> ClusterRecord:
        record = self._journal.read(name)
        if record is None:
            raise BadInput(
                f"Rollout {name} is not there any more: it was deleted, and the stable revision has all traffic",
                next_step="`relevo deploy-canary` makes another.",
            )
        return record

    def _require_an_operator(self, record: ClusterRecord, began: float) -> None:
        if not record.trouble and self._monotonic() - began > TAKEN_UP_SECONDS:
            raise Transient(
                f"{record.name}: no operator has taken it up within {TAKEN_UP_SECONDS:g} s",
                next_step="Install it with `helm install relevo charts/relevo -n relevo-system --create-namespace`, "
                f"and let it watch namespace {self._journal.namespace}.",
            )


def lines_of(record: ClusterRecord) -> tuple[Transition, ...]:
    """The lines of the status's history since this run began: it keeps those of earlier ones, too."""
    if record.run is None:
        return ()
    lines = (transition_of(line) for line in record.run.history)
    # Times in the status are rounded to milliseconds.
    return tuple(line for line in lines if (line.at - record.state.started_at).total_seconds() > -0.001)
