"""What a reconcile tick needs of a store. `relevo.store.rollouts` keeps rollouts in SQLite, `relevo.operator` in the resource's status."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from relevo.rollout.commands import Command
from relevo.rollout.state import RolloutState
from relevo.store.rollouts import Record

if TYPE_CHECKING:
    from relevo.rollout.decision import Transition

__all__ = ["TickStore"]


class TickStore(Protocol):
    """Where a tick's outcome goes before it is acted on, and where orders come from."""

    def save(
        self,
        record: Record,
        state: RolloutState,
        transitions: Iterable[Transition],
        *,
        sample: dict[str, Any] | None = None,
        at: datetime,
        lease_until: float,
    ) -> Record:
        """Store a tick; when this returns, whoever comes after us knows every transition of it. Raises `Conflict`, `Transient`."""

    def commands(self, uid: str, after: int) -> tuple[Command, ...]:
        """What was asked of a rollout since a command, oldest first."""

    def release(self, record: Record) -> None:
        """Let another process drive the rollout."""
