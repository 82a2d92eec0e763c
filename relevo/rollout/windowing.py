"""Closes the windows of time in which the latency check compares the arms. Pure.

`windows` is what is kept of them, `relevo.statistics.windows` says what they prove, `assessment` keeps them up to the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import add

from relevo.rollout.windows import Windows
from relevo.statistics.windows import KEPT, RATIOS, correlation, log_e_of_windows, log_factor, witnesses

__all__ = ["MOST_OVER", "USUAL_SHARE", "reference", "with_counts"]

MOST_OVER = 0.6
"""A threshold that the stable revision exceeds more often than this (it has become slower since the threshold was taken) is not bet on."""

USUAL_SHARE = 0.25
"""How alike neighbouring windows are is measured at the threshold that is usually exceeded about so often."""


def with_counts(
    windows: Windows,
    step: str,
    counted: tuple[int, ...],
    usual_rates: Sequence[float],
    least: int,
    *,
    longest: timedelta | None = None,
    now: datetime | None = None,
) -> Windows:
    """With the counts of the present step: closed and opened anew, if both arms have `least` answers since it opened.

    Once it has lasted `longest`, seen from `now`, one answer of each is enough.

    `counted`: answers of the stable and of the candidate arm in this step, then for each threshold the same over it.
    `usual_rates`: the stable revision's of exceeding each threshold.
    """
    before = windows
    if step != windows.step or len(counted) != len(windows.opened):
        before = replace(windows, step=step, opened=(0,) * len(counted), opened_at=now)
    since = [now - then for now, then in zip(counted, before.opened, strict=True)]
    if min(since) < 0:
        return replace(before, opened=counted, opened_at=now)
    lasted = (
        now is not None and before.opened_at is not None and longest is not None and now - before.opened_at >= longest
    )
    if min(since[:2]) < (1 if lasted else least):
        return before
    return replace(_closed(before, counted, since, usual_rates), opened_at=now)


def _closed(before: Windows, counted: tuple[int, ...], since: list[int], usual_rates: Sequence[float]) -> Windows:
    stable, candidate, over_stable, over_candidate = *since[:2], since[2::2], since[3::2]
    # Both are fixed before the window: a bet must not be chosen by its outcome.
    stable_before, over_before = before.opened[0], before.opened[2::2]
    rates = [over / stable_before for over in over_before] if stable_before else usual_rates
    capitals = before.log_capitals or ((0.0,) * RATIOS.size,) * len(usual_rates)
    after = tuple(
        tuple(map(add, capital, log_factor(stable, candidate, slow_stable, slow_candidate)))
        if rate <= MOST_OVER
        else capital
        for capital, slow_stable, slow_candidate, rate in zip(capitals, over_stable, over_candidate, rates, strict=True)
    )
    at = reference(usual_rates)
    difference = over_candidate[at] / candidate - over_stable[at] / stable
    differences = (*before.differences, difference)[-KEPT:]
    alike = correlation(differences)
    log_e = log_e_of_windows(after) * witnesses(alike)
    return Windows(before.step, counted, None, after, before.closed + 1, differences, alike, log_e)


def reference(usual_rates: Sequence[float]) -> int:
    """Which threshold is exceeded about USUAL_SHARE of the time."""
    return min(range(len(usual_rates)), key=lambda k: abs(usual_rates[k] - USUAL_SHARE))
