"""Closes the windows of time in which the latency check compares the arms. Pure.

`windows` is what is kept of them, `relevo.statistics.windows` says what they prove, `assessment` keeps them up to the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from relevo.rollout.windows import Windows
from relevo.statistics.windows import (
    KEPT,
    MOST_CAPITAL,
    ODDS,
    RARE_RATE,
    correlation,
    dealt,
    prior,
    rank_factor,
    standing,
    tail_factor,
    witnesses,
)

__all__ = ["MOST_OVER", "with_counts"]

MOST_OVER = 0.6
"""A rare threshold that the stable revision now exceeds more often than this (it has become slower) is not bet on by itself."""

_NOT_BET_ON = (1.0,) * len(ODDS)


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

    `counted`: answers of the stable and of the candidate arm in this step, then for each threshold, in rising order, the same over it.
    `usual_rates`: the stable revision's of exceeding each threshold.
    """
    before = windows
    if step != windows.step or len(counted) != len(windows.opened):
        before = _entered(windows, step, counted, usual_rates, now)
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
    z = standing(stable, candidate, over_stable, over_candidate)
    factors = [*rank_factor(z)]
    stable_before, over_before = before.opened[0], before.opened[2::2]
    for k, usual in enumerate(usual_rates):
        if usual < RARE_RATE:
            # Fixed before the window: a bet must not be chosen by its outcome.
            rate = over_before[k] / stable_before if stable_before else usual
            outgrown = rate > MOST_OVER
            factors += _NOT_BET_ON if outgrown else tail_factor(stable, candidate, over_stable[k], over_candidate[k])
    pairs = zip(_capitals(before, usual_rates), factors, strict=True)
    after = tuple([min(capital * factor, MOST_CAPITAL) for capital, factor in pairs])
    scores, fresh = (*before.scores, z)[-KEPT:], min(before.fresh + 1, KEPT)
    alike = correlation(scores, fresh)
    log_e = math.log(sum(after)) * witnesses(alike)
    return Windows(before.step, counted, None, after, before.closed + 1, scores, fresh, alike, log_e)


def _entered(
    windows: Windows, step: str, counted: tuple[int, ...], usual_rates: Sequence[float], now: datetime | None
) -> Windows:
    """With its first window in a new step open."""
    capitals = dealt(_capitals(windows, usual_rates), _shares(usual_rates))
    scores = _settled(windows.scores, windows.fresh)
    opened = (0,) * len(counted)
    return replace(windows, step=step, opened=opened, opened_at=now, capitals=capitals, scores=scores, fresh=0)


def _capitals(windows: Windows, usual_rates: Sequence[float]) -> tuple[float, ...]:
    shares = _shares(usual_rates)
    return windows.capitals if len(windows.capitals) == len(shares) else shares


def _shares(usual_rates: Sequence[float]) -> tuple[float, ...]:
    return prior(len([rate for rate in usual_rates if rate < RARE_RATE]))


def _settled(scores: tuple[float, ...], fresh: int) -> tuple[float, ...]:
    """With the last `fresh` of them less their mean."""
    if not fresh:
        return scores
    old, new = scores[: len(scores) - fresh], scores[len(scores) - fresh :]
    mean = math.fsum(new) / fresh
    return (*old, *(score - mean for score in new))
