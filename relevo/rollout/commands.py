"""What a human can ask of a running rollout, from the command line here and through the resource on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["Command", "Verb"]


class Verb(StrEnum):
    """What a human can ask of a running rollout."""

    PROMOTE = "promote"
    PROMOTE_FULL = "promote-full"
    ROLLBACK = "rollback"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Command:
    """One request of a human. `seq` grows; a command is handled once."""

    seq: int
    verb: Verb
    by: str
    at: datetime
