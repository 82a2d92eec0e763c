"""Windows of time, in each of which one arm was slower or neither: what the latency check remembers besides counts.

A window belongs to one source and one step. It closes at the first look at which both arms have at least so many answers as the policy
says (`checks.latency.window`), or any at all once it has lasted so long as the policy says (`windowSeconds`), and the next one opens with
what is counted from then on. What a step's last window has not filled is dropped. `relevo.rollout.windowing` closes them; this is what
the state keeps, and imports nothing, for all who only read it.
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
    log_capitals: tuple[tuple[float, ...], ...] = ()
    """Per threshold, what each bet on "the candidate is slower" has made of its capital, in natural logs."""
    closed: int = 0
    """How many windows have been compared."""
    differences: tuple[float, ...] = ()
    """By how much the candidate's share was larger at the reference threshold, in the last windows, oldest first."""
    alike: float = 0.0
    """The correlation of neighbouring ones among them, from 0 to below 1."""
    log_e: float = 0.0
    """The evidence against the candidate, with only so many witnesses as there are windows unlike their neighbours."""
