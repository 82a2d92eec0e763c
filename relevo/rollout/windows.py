"""Windows of time, in each of which one arm was slower or neither: what the latency check remembers besides counts.

A window belongs to one source and one step. It closes at the first look at which both arms have at least so many answers as the policy
says (`checks.latency.window`), or any at all once it has lasted so long as the policy says (`windowSeconds`), and the next one opens with
what is counted from then on. What a step's last window has not filled is dropped. `relevo.rollout.windowing` closes them; this is what
the state keeps, and imports nothing, for all who only read it.

A state that was stored before latency was judged by ranks lacks `capitals` and `scores`: its bets begin anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["Windows"]


@dataclass(frozen=True, slots=True)
class Windows:
    """One source's windows so far, the last of them open."""

    step: str = ""
    """The key of the step in which the open one lies."""
    opened: tuple[int, ...] = ()
    """What had been counted in that step when it opened, as `tables.slow_counts` tells it."""
    opened_at: datetime | None = None
    """The first look at it."""
    capitals: tuple[float, ...] = ()
    """What each bet on "the candidate is slower" has now, of 1 in all at the start: those on ranks, then those on each rare threshold."""
    closed: int = 0
    """How many windows have been compared."""
    scores: tuple[float, ...] = ()
    """The candidate's standings in the last windows, oldest first; those of earlier steps less the mean of their step."""
    fresh: int = 0
    """How many of them are of this step."""
    alike: float = 0.0
    """The correlation of neighbouring ones among them, from 0 to below 1."""
    log_e: float = 0.0
    """The evidence against the candidate, with only so many witnesses as there are windows unlike their neighbours."""
