"""How much worse: the effect behind each check, with an interval that holds at every look. For messages, not to decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relevo.rollout.assessment import CLIENT, with_traffic
from relevo.rollout.observation import Arm, Counts
from relevo.rollout.ramp import expand
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import RolloutState
from relevo.rollout.tables import Table, table_of
from relevo.rollout.wording import ratio as ratio_in_words
from relevo.statistics import confidence, exceedance
from relevo.statistics.counts import Floats

__all__ = ["Effect", "effect_of"]


@dataclass(frozen=True, slots=True)
class Effect:
    """How many times as often the candidate's events are bad, with an interval that holds at every look."""

    what: str
    """What a bad event is, as a past participle with its object: "failed", "took over 12 ms"."""
    stable: tuple[int, int]
    """Bad events and all, of the stable arm."""
    candidate: tuple[int, int]
    ratio: float
    low: float
    high: float

    @property
    def times(self) -> str:
        """As in "31 times as often"."""
        if math.isnan(self.ratio):
            return "no such event on either side"
        return f"{ratio_in_words(self.ratio)} times as often" if math.isfinite(self.ratio) else "only the candidate"

    @property
    def interval(self) -> str:
        """As in "95 % interval 15 to 64"."""
        high = ratio_in_words(self.high) if math.isfinite(self.high) else "infinity"
        return f"95 % interval {ratio_in_words(self.low)} to {high}"


def effect_of(spec: RolloutSpec, state: RolloutState, check: str) -> Effect | None:
    """The effect behind a check, by the source that has the most to say of it; None where there is nothing to compare."""
    measure: dict[str, Callable[[RolloutSpec, RolloutState, Table], Effect | None]] = {
        "errors": _failures,
        "latency": _exceedances,
        "predictions": _shift,
        "accuracy": _wrong_answers,
    }
    tables = [table_of(state, source, ledger, expand(spec)) for source, ledger in state.ledger.sources.items()]
    effects = [effect for table in tables if (effect := measure[check](spec, state, table)) is not None]
    return max(effects, key=lambda e: (e.low > 1, sum(e.stable) + sum(e.candidate)), default=None)


def _failures(spec: RolloutSpec, state: RolloutState, table: Table) -> Effect | None:
    return _clearer(
        _compare("failed", table, table.count(lambda c: c.errors), table.count(lambda c: c.requests)),
        _since_switch("failed", table, lambda c: c.errors, lambda c: c.requests),
    )


def _wrong_answers(spec: RolloutSpec, state: RolloutState, table: Table) -> Effect | None:
    return _clearer(
        _compare("answered wrongly", table, table.count(lambda c: c.wrong), table.count(lambda c: c.labelled)),
        _since_switch("answered wrongly", table, lambda c: c.wrong, lambda c: c.labelled),
    )


def _exceedances(spec: RolloutSpec, state: RolloutState, table: Table) -> Effect | None:
    rates = state.usual_rates.get(table.source)
    if spec.checks.latency is None or not rates:
        return None
    thresholds, tolerance = state.thresholds[table.source], spec.checks.latency.tolerance
    over, seen = table.exceedances(thresholds, tolerance)
    chosen = _most_telling(over, seen, table.rho, rates)
    edge = table.edges_ms[thresholds[chosen]]
    what = f"took over {ratio_in_words(edge)} ms (the candidate: over {ratio_in_words(edge * (1 + tolerance))} ms)"
    return _compare(what, table, over[chosen], seen)


def _most_telling(over: Floats, seen: Floats, rho: Floats, usual_rates: tuple[float, ...]) -> int:
    """The threshold with the most evidence that the candidate is slower."""
    by_threshold = [
        float(exceedance.log_e_slower(over[i : i + 1], seen, rho, usual_rates[i : i + 1]))
        for i in range(len(usual_rates))
    ]
    return by_threshold.index(max(by_threshold))


def _shift(spec: RolloutSpec, state: RolloutState, table: Table) -> Effect | None:
    """The class whose share differs most between the arms."""
    stable, candidate = with_traffic(state, Arm.STABLE, table.source), with_traffic(state, Arm.CANDIDATE, table.source)
    names = sorted({**stable.predictions, **candidate.predictions})
    if table.source != CLIENT or not names:
        return None
    name = max(names, key=lambda k: abs(_share(candidate, k) - _share(stable, k)))
    total = table.count(lambda c: sum(c.predictions.values()))
    return _compare(f"predicted class {name} for", table, table.count(lambda c: c.predictions.get(name, 0)), total)


def _share(counts: Counts, name: str) -> float:
    return counts.predictions.get(name, 0) / max(sum(counts.predictions.values()), 1)


def _clearer(first: Effect | None, second: Effect | None) -> Effect | None:
    """The one of two that says more clearly that the candidate is worse."""
    there = [effect for effect in (first, second) if effect is not None]
    return max(there, key=lambda e: e.low, default=None)


def _since_switch(
    what: str, table: Table, bad: Callable[[Counts], int], total: Callable[[Counts], int]
) -> Effect | None:
    """What users have had of the candidate since the switch, beside what they had of the stable revision before the first step."""
    if table.switched is None or not all(map(total, table.switched)):
        return None
    before, now = table.switched
    share = total(now) / (total(before) + total(now))
    events = np.array([[bad(before), bad(now)]], dtype=np.float64)
    requests = np.array([[total(before), total(now)]], dtype=np.float64)
    return _effect(f"{what} since the switch, with the users' own requests,", events, requests, np.array([share]))


def _compare(what: str, table: Table, bad: Floats, total: Floats) -> Effect | None:
    """`bad`, `total`: counts per step and arm, shape (steps, 2)."""
    return _effect(what, bad, total, table.rho)


def _effect(what: str, bad: Floats, total: Floats, rho: Floats) -> Effect | None:
    events, requests = bad.sum(axis=0).astype(int), total.sum(axis=0).astype(int)
    if not requests.sum():
        return None
    low, high = confidence.ratio_interval(bad, rho)
    stable, candidate = ((int(events[arm]), int(requests[arm])) for arm in (0, 1))
    return Effect(what, stable, candidate, float(confidence.ratio_estimate(bad, rho)), float(low), float(high))
