"""Windows of time, in each of which one arm was slower or neither: what the latency check remembers besides counts. Pure.

A window belongs to one source and one step. It closes at the first look at which both arms have at least so many answers as the policy
says (`checks.latency.window`), and the next one opens with what is counted from then on. What a step's last window has not filled is
dropped. `relevo.statistics.windows` says what the windows prove, `relevo.rollout.assessment` keeps them up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from relevo.statistics.windows import KEPT, compared, correlation

__all__ = ["MOST_OVER", "USUAL_SHARE", "Windows", "reference"]

MOST_OVER = 0.6
"""A threshold that the stable revision exceeds more often than this (it has become slower since the threshold was taken) is not bet on."""

USUAL_SHARE = 0.25
"""How alike neighbouring windows are is measured at the threshold that is usually exceeded about so often."""


@dataclass(frozen=True, slots=True)
class Windows:
    """One source's windows so far, the last of them open."""

    step: str = ""
    """The key of the step in which the open one lies."""
    opened: tuple[int, ...] = ()
    """What had been counted in that step when it opened, as `Table.slow_counts` tells it."""
    slower: tuple[int, ...] = ()
    """Per threshold, the windows in which the candidate was the slower one, as `statistics.windows.compared` says."""
    faster: tuple[int, ...] = ()
    differences: tuple[float, ...] = ()
    """By how much the candidate's share was larger at the reference threshold, in the last windows, oldest first."""
    alike: float = 0.0
    """The correlation of neighbouring ones among them, from 0 to below 1."""

    def with_counts(self, step: str, counted: tuple[int, ...], usual_rates: Sequence[float], least: int) -> Windows:
        """With the counts of the present step: closed and opened anew, if both arms have `least` answers since it opened.

        `counted`: answers of the stable and of the candidate arm in this step, then for each threshold the same over it.
        `usual_rates`: the stable revision's of exceeding each threshold.
        """
        thresholds = len(usual_rates)
        if step != self.step or len(counted) != len(self.opened):
            none = (0,) * thresholds
            fresh = replace(self, step=step, opened=(0,) * len(counted))
            before = fresh if len(self.slower) == thresholds else replace(fresh, slower=none, faster=none)
        else:
            before = self
        since = [now - then for now, then in zip(counted, before.opened, strict=True)]
        if min(since) < 0:
            return replace(before, opened=counted)
        if min(since[:2]) < least:
            return before
        return before._closed(counted, since, usual_rates)

    def _closed(self, counted: tuple[int, ...], since: list[int], usual_rates: Sequence[float]) -> Windows:
        stable, candidate = since[:2]
        slower, faster = list(self.slower), list(self.faster)
        for k, usual in enumerate(usual_rates):
            # Both are fixed before the window: a bet must not be chosen by its outcome.
            stable_before, over_before = self.opened[0], self.opened[2 + 2 * k]
            if (over_before / stable_before if stable_before else usual) > MOST_OVER:
                continue
            verdict = compared(stable, candidate, since[2 + 2 * k], since[3 + 2 * k])
            slower[k] += bool(verdict > 0)
            faster[k] += bool(verdict < 0)
        at = reference(usual_rates)
        difference_there = since[3 + 2 * at] / candidate - since[2 + 2 * at] / stable
        differences = (*self.differences, difference_there)[-KEPT:]
        return Windows(self.step, counted, tuple(slower), tuple(faster), differences, correlation(differences))


def reference(usual_rates: Sequence[float]) -> int:
    """Which threshold is exceeded about USUAL_SHARE of the time."""
    return min(range(len(usual_rates)), key=lambda k: abs(usual_rates[k] - USUAL_SHARE))
