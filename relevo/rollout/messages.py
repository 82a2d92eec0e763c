"""The sentences that say why: which check, how many requests, the effect and its interval. And the same numbers for the audit log."""

from __future__ import annotations

import math
from typing import Any

from relevo.rollout.assessment import Assessment, with_traffic
from relevo.rollout.effects import Effect, effect_of
from relevo.rollout.observation import Arm
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import RolloutState, Verdict
from relevo.rollout.wording import e_value, percent
from relevo.statistics import bounded

__all__ = ["explain_failure", "explain_limit", "explain_promotion", "explain_split", "facts_of"]


def explain_failure(spec: RolloutSpec, state: RolloutState, assessment: Assessment) -> str:
    """One sentence: which check decided, how many requests, the effect and its interval, the e-value and its limit."""
    culprit = next(c for c in assessment.checks if c.verdict is Verdict.FAIL)
    e_values = f"e-value {_e(assessment.log_against)}, limit {_e(assessment.limit_against)}"
    pairs, limit = state.ledger.pairs(), spec.shadow.max_disagreement
    if culprit.name == "predictions" and pairs.disagreed > limit * pairs.compared:
        low, high = bounded.rate_interval(pairs.disagreed, pairs.compared)
        return (
            f"predictions. {state.candidate} answered {pairs.disagreed:,} of {pairs.compared:,} shadowed rows differently from "
            f"{state.stable}: {percent(pairs.disagreed, pairs.compared, 1)} (95 % interval {100 * float(low):.1f} to "
            f"{100 * float(high):.1f} %; limit {100 * limit:g} %; {e_values})."
        )
    effect = effect_of(spec, state, culprit.name)
    return (
        f"{culprit.name}. {_compared(state, effect)}; {e_values})."
        if effect is not None
        else f"{culprit.name}. {e_values}."
    )


def _compared(state: RolloutState, effect: Effect) -> str:
    """Up to an open parenthesis."""
    (bad_stable, all_stable), (bad_candidate, all_candidate) = effect.stable, effect.candidate
    return (
        f"{state.candidate} {effect.what} {bad_candidate:,} of {all_candidate:,} requests, "
        f"{state.stable} {bad_stable:,} of {all_stable:,}: {effect.times} ({effect.interval}"
    )


def explain_promotion(spec: RolloutSpec, state: RolloutState, assessment: Assessment) -> str:
    """One sentence: what was proven, over how many requests."""
    proven = [f"{c.name} (e-value {_e(c.log_for)})" for c in assessment.checks if c.gated and c.log_for is not None]
    requests = max((with_traffic(state, Arm.CANDIDATE, s).requests for s in state.ledger.sources), default=0)
    limit = _e(assessment.limit_for)
    return f"{state.candidate} is no worse than {state.stable} over {requests:,} requests: {', '.join(proven)}; each needed {limit}."


def explain_limit(assessment: Assessment) -> str:
    """Which gated checks are still open, and how far they are."""
    missing = [c for c in assessment.checks if c.gated and c.verdict is not Verdict.PASS]
    if not missing:
        return "the ramp is not at its end"
    limit = _e(assessment.limit_for)
    return ", ".join(
        f"{c.name}: nothing to measure it by"
        if c.verdict is Verdict.UNMEASURABLE
        else f"{c.name} at {_e(c.log_for)} of {limit}"
        for c in missing
    )


def explain_split(assessment: Assessment) -> str:
    """What is wrong with a split that does not match."""
    return (
        f"the share of requests that reached the candidate is not the one that was set (e-value {_e(assessment.log_split)}, "
        "limit 1,000): sticky sessions or another route may choose the arm, so nothing can be compared."
    )


def facts_of(spec: RolloutSpec, state: RolloutState, assessment: Assessment) -> dict[str, Any]:
    """The numbers behind a transition, for the audit log: per check the counts by arm, effect and interval, and e-values."""
    facts: dict[str, Any] = {
        "e_against": _finite(assessment.log_against),
        "limit_against": _finite(assessment.limit_against),
        "limit_for": _finite(assessment.limit_for),
    }
    for check in assessment.checks:
        entry: dict[str, Any] = {
            "verdict": check.verdict.value,
            "e_against": _finite(check.log_against),
            "e_for": _finite(check.log_for),
        }
        if effect := effect_of(spec, state, check.name):
            entry |= {
                "bad_event": effect.what,
                "stable": {"bad": effect.stable[0], "of": effect.stable[1]},
                "candidate": {"bad": effect.candidate[0], "of": effect.candidate[1]},
                "ratio": None if not math.isfinite(effect.ratio) else effect.ratio,
                "interval": [effect.low, effect.high if math.isfinite(effect.high) else None],
            }
        if check.name == "latency":
            # How alike neighbouring windows are says how far requests queue, and so how much the windows are worth.
            entry["windows"] = {
                source: {"compared": windows.closed, "alike": round(windows.alike, 3)}
                for source, windows in state.windows.items()
            }
        facts[check.name] = entry
    if pairs := state.ledger.pairs():
        facts["shadow"] = {"compared": pairs.compared, "disagreed": pairs.disagreed}
    return facts


def _e(log_e: float | None) -> str:
    """An e-value in words, from its natural log."""
    return e_value(_finite(log_e))


def _finite(log_e: float | None) -> float | None:
    """An e-value that JSON can hold."""
    return None if log_e is None or math.isnan(log_e) else math.exp(min(log_e, 700.0))
