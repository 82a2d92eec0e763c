"""Rollouts on this machine, driven by the command line itself: `begin` and `orders` do the work."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo.cli.output import Output
from relevo.cli.site import Journal, Watching, Wish
from relevo.cli.wiring import Local
from relevo.errors import RelevoError
from relevo.reconcile.lease import is_dead
from relevo.rollout.wording import deploy_verb

if TYPE_CHECKING:
    from relevo.cli.exit_codes import ExitCode
    from relevo.packaging import Package
    from relevo.reconcile.snapshot import Snapshot
    from relevo.store.rollouts import Record, RolloutStore

__all__ = ["LocalJournal", "LocalSite"]


class LocalSite:
    """Implements `Site`."""

    def deploy(self, wish: Wish, watching: Watching) -> ExitCode:
        """Roll out what is wished for, or go on with it, in the foreground."""
        from relevo.cli import begin

        return begin.deploy(wish, watching)

    def retry(self, target: str | None, watching: Watching) -> ExitCode:
        """Begin the last rollout anew."""
        from relevo.cli import begin

        return begin.retry(target, watching)

    def undo(self, target: str | None, to: int | None, watching: Watching) -> ExitCode:
        """Bring an earlier version back."""
        from relevo.cli import begin

        return begin.undo(target, to, watching)

    def switch(self, target: str | None, to: str | None, watching: Watching) -> ExitCode:
        """Send all users to the other colour, or to the one that is named."""
        from relevo.cli import switch

        return switch.switch(target, to, watching.output)

    def order(self, target: str | None, verb: str, *, to_the_end: bool, output: Output) -> ExitCode:
        """Have an order carried out by whoever drives the rollout; if nobody does, by us."""
        from relevo.cli import orders
        from relevo.rollout.commands import Verb

        return orders.order(target, Verb(verb), to_the_end=to_the_end, output=output)

    def journal(self) -> Journal:
        """What RELEVO_HOME knows."""
        return LocalJournal()


class LocalJournal:
    """Implements `Journal`."""

    @cached_property
    def _local(self) -> Local:
        return Local.open()

    @property
    def archive(self) -> RolloutStore:
        """SQLite."""
        return self._local.store

    @property
    def home(self) -> Path:
        """RELEVO_HOME/reports."""
        return self._local.home / "reports"

    @property
    def locust_url(self) -> str:
        """Where the Locust of the last rollout answers."""
        return self._local.locust_url() or ""

    def known(self, target: str | None) -> str:
        """The target that is meant; also one that is down but has a history."""
        record = self.archive.latest(target)
        if record is not None and (target is not None or not self._local.services()):
            return record.rollout.spec.target
        return self._local.target(target)

    def snapshot(self, record: Record) -> Snapshot | None:
        """What the last tick stored."""
        from relevo.reconcile.snapshot import Snapshot

        sample = self.archive.last_sample(record.state.uid)
        return Snapshot.from_json(sample) if sample else None

    def idle(self, target: str) -> dict[str, Any]:
        """What the platform serves."""
        stable = self._local.platform.observe(target).stable
        return {
            "revision": stable.name,
            "storageUri": stable.storage_uri,
            "ready": stable.ready,
            "detail": stable.detail,
        }

    def driver(self, record: Record) -> str:
        """The process that has the lease."""
        return "" if is_dead(record.driver) else record.driver

    def neglect(self, record: Record) -> str:
        """Whether a process drives it."""
        if record.state.phase.is_terminal or self.driver(record):
            return ""
        return f"No process drives this rollout; `relevo {deploy_verb(record.rollout.spec)} {record.rollout.spec.target}` goes on with it."

    def package(self, storage_uri: str) -> Package | None:
        """A package, where it is still there and whole."""
        try:
            return self._local.package(storage_uri)
        except RelevoError:
            return None
