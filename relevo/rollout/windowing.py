"""Closes the windows of time in which the latency check compares the arms. Pure.

`windows` is what is kept of them, `relevo.statistics.windows` says what they prove, `assessment` keeps them up to the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relevo.rollout.windows import Windows
from relevo.statistics.windows import KEPT, compared, correlation

__all__ = ["MOST_OVER", "USUAL_SHARE", "reference", "with_counts"]

MOST_OVER = 0.6
"""A threshold that the stable revision exceeds more often than this (it has become slower since the threshold was taken) is not bet on."""

USUAL_SHARE = 0.25
"""How alike neighbouring windows are is measured at the threshold that is usually exceeded about so often."""


def with_counts(
    windows: Windows, step: str, counted: tuple[int, ...], usual_rates: Sequence[float], least: int
) -> Windows:
    """With the counts of the present step: closed and opened anew, if both arms have `least` answers since it opened.

    `counted`: answers of the stable and of the candidate arm in this step, then for each threshold the same over it.
    `usual_rates`: the stable revision's of exceeding each threshold.
    """
    before = windows
    if step != windows.step or len(counted) != len(windows.opened):
        before = replace(windows, step=step, opened=(0,) * len(counted))
        if len(windows.slower) != len(usual_rates):
            none = (0,) * len(usual_rates)
            before = replace(before, slower=none, faster=none)
    since = [now - then for now, then in zip(counted, before.opened, strict=True)]
    if min(since) < 0:
        return replace(before, opened=counted)
    if min(since[:2]) < least:
        return before
    return _closed(before, counted, since, usual_rates)


def _closed(before: Windows, counted: tuple[int, ...], since: list[int], usual_rates: Sequence[float]) -> Windows:
    stable, candidate = since[:2]
    slower, faster = list(before.slower), list(before.faster)
    for k, usual in enumerate(usual_rates):
        # Both are fixed before the window: a bet must not be chosen by its outcome.
        stable_before, over_before = before.opened[0], before.opened[2 + 2 * k]
        if (over_before / stable_before if stable_before else usual) > MOST_OVER:
            continue
        verdict = compared(stable, candidate, since[2 + 2 * k], since[3 + 2 * k])
        slower[k] += bool(verdict > 0)
        faster[k] += bool(verdict < 0)
    at = reference(usual_rates)
    difference = since[3 + 2 * at] / candidate - since[2 + 2 * at] / stable
    differences = (*before.differences, difference)[-KEPT:]
    return Windows(before.step, counted, tuple(slower), tuple(faster), differences, correlation(differences))


def reference(usual_rates: Sequence[float]) -> int:
    """Which threshold is exceeded about USUAL_SHARE of the time."""
    return min(range(len(usual_rates)), key=lambda k: abs(usual_rates[k] - USUAL_SHARE))
