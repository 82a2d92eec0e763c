"""What users meet after a switch, judged against what they met before it. Pure.

Once all users are with the candidate, none of them tells how the stable revision would have answered. `checks` still compares rows that
go to both, but some faults need users: inputs that no load sends. So each source's counts of the users' own requests are held against a
limit that was fixed before the switch, by the bet of `relevo.statistics.bounded` that the candidate's rate is above it. That compares two
times and not two arms, so a limit is generous: errors and wrong answers may be as frequent as the objective allows, or as the stable
revision's may have been. Slow answers count only where the rows that go to both say the same: one hour may be busier than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from relevo.rollout.checks import CLIENT, Evidence, allowed_rates, log_mean
from relevo.rollout.observation import Counts
from relevo.rollout.panel import rate_panel
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import RolloutState
from relevo.rollout.tables import Table, over_allowed
from relevo.statistics import bounded

__all__ = ["with_users"]

_Rates = list[tuple[float, float, float]]
"""Bad ones, all, and the limit."""


def with_users(
    spec: RolloutSpec, state: RolloutState, tables: Sequence[Table], evidence: list[Evidence]
) -> list[Evidence]:
    """The evidence with what the users' own requests say since the switch; as it is where there was none."""
    if not tables or tables[0].switched is None:
        return evidence
    return [_joined(each, _users(each.name, spec, state, tables), spec) for each in evidence]


def _joined(evidence: Evidence, users: float | None, spec: RolloutSpec) -> Evidence:
    if users is None:
        return evidence
    if evidence.name == "latency":
        # Slower than it was before, and slower than the old colour is now: the lesser of two e-values is one if either is.
        clustering = spec.checks.latency.clustering if spec.checks.latency is not None else 1.0
        slow = min(evidence.against or 0.0, users / clustering if users > 0 else users)
        return replace(evidence, against=slow)
    return replace(evidence, against=users if evidence.against is None else log_mean((evidence.against, users)))


def _users(name: str, spec: RolloutSpec, state: RolloutState, tables: Sequence[Table]) -> float | None:
    """The log e-value of one check, averaged over sources and thresholds; None where it sees nothing of users."""
    rates: _Rates = []
    for table in tables:
        if name == "errors" and spec.checks.errors is not None:
            rates += _failed(table, spec.checks.errors.objective)
        elif name == "accuracy" and spec.checks.accuracy is not None and table.source == CLIENT:
            rates += _wrong(table, spec.checks.accuracy.objective)
        elif name == "latency":
            rates += _slow(table, spec, state)
    if not rates:
        return None
    counts = np.array([[bad, total] for bad, total, _ in rates], dtype=np.float64)[:, None]
    above = rate_panel(tuple(limit for _, _, limit in rates)).log_e(counts)[:, 0, 0]
    return log_mean(above.tolist())


def _failed(table: Table, objective: float) -> _Rates:
    before, now = table.switched or (Counts(), Counts())
    return [(min(now.errors, now.requests), now.requests, _limit(before.errors, before.requests, objective))]


def _wrong(table: Table, objective: float) -> _Rates:
    before, now = table.switched or (Counts(), Counts())
    if not now.labelled:
        return []
    return [(min(now.wrong, now.labelled), now.labelled, _limit(before.wrong, before.labelled, objective))]


def _slow(table: Table, spec: RolloutSpec, state: RolloutState) -> _Rates:
    check, thresholds = spec.checks.latency, state.thresholds.get(table.source)
    usual = state.usual_rates.get(table.source)
    if check is None or not thresholds or not usual or table.switched is None:
        return []
    over, total = over_allowed(table, table.switched[1], thresholds, check.tolerance)
    return [(bad, total, limit) for bad, limit in zip(over, allowed_rates(check.margin, usual), strict=True)]


@lru_cache(maxsize=64)
def _limit(bad: int, total: int, objective: float) -> float:
    """The objective, or where it is higher, the highest rate that the stable revision may have had before the switch."""
    if not total:
        return objective
    return min(max(objective, float(bounded.rate_interval(min(bad, total), total)[1])), 0.99)
