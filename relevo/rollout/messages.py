"""The sentences that say why: which check, how many requests, the effect and its interval. And the same numbers for the audit log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from relevo.rollout.assessment import CLIENT, Assessment, with_traffic
from relevo.rollout.observation import Arm, Counts
from relevo.rollout.ramp import expand
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import RolloutState, Verdict
from relevo.rollout.tables import table_of
from relevo.statistics import confidence, exceedance
from relevo.statistics.counts import Floats

__all__ = [
    "Effect",
    "effect_of",
    "explain_failure",
    "explain_limit",
    "explain_promotion",
    "explain_split",
    "facts_of",
    "format_e",
]


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
    def sentence(self) -> str:
        """As in "31 times as often (95 % interval 15 to 64)", or "only the candidate (95 % interval 1.3 to infinity)"."""
        if math.isnan(self.ratio):
            return "no such event on either side"
        times = f"{_short(self.ratio)} times as often" if math.isfinite(self.ratio) else "only the candidate"
        return f"{times} (95 % interval {_short(self.low)} to {_short(self.high)})"


def effect_of(spec: RolloutSpec, state: RolloutState, check: str) -> Effect | None:
    """The effect behind a check, by the source that has the most to say of it; None where there is nothing to compare."""
    best: Effect | None = None
    for source, ledger in state.ledger.sources.items():
        table = table_of(state, source, ledger, expand(spec))
        stable, candidate = with_traffic(state, Arm.STABLE, source), with_traffic(state, Arm.CANDIDATE, source)
        if check == "errors":
            bad, what = table.count(lambda c: c.errors), "failed"
            totals = stable.requests, candidate.requests
        elif check == "accuracy" and source == CLIENT and table.has_labels:
            bad, what = table.count(lambda c: c.wrong), "answered wrongly"
            totals = stable.labelled, candidate.labelled
        elif check == "latency" and spec.checks.latency is not None and state.usual_rates.get(source):
            thresholds, tolerance = state.thresholds[source], spec.checks.latency.tolerance
            over, seen = table.exceedances(thresholds, tolerance)
            chosen = _most_telling(over, seen, table.rho, state.usual_rates[source])
            bad, edge = over[chosen], table.edges_ms[thresholds[chosen]]
            what = f"took over {_short(edge)} ms (the candidate: over {_short(edge * (1 + tolerance))} ms)"
            totals = int(seen[:, 0].sum()), int(seen[:, 1].sum())
        else:
            continue
        if not sum(totals):
            continue
        low, high = confidence.ratio_interval(bad, table.rho)
        counted = bad.sum(axis=0).astype(int)
        effect = Effect(
            what,
            (int(counted[0]), totals[0]),
            (int(counted[1]), totals[1]),
            float(confidence.ratio_estimate(bad, table.rho)),
            float(low),
            float(high),
        )
        if best is None or sum(effect.candidate) + sum(effect.stable) > sum(best.candidate) + sum(best.stable):
            best = effect
    return best


def _most_telling(over: Floats, seen: Floats, rho: Floats, usual_rates: tuple[float, ...]) -> int:
    """The threshold with the most evidence that the candidate is slower."""
    by_threshold = [
        float(exceedance.log_e_slower(over[i : i + 1], seen, rho, usual_rates[i : i + 1]))
        for i in range(len(usual_rates))
    ]
    return by_threshold.index(max(by_threshold))


def explain_failure(spec: RolloutSpec, state: RolloutState, assessment: Assessment) -> str:
    """One sentence: which check decided, how many requests, the effect and its interval, the e-value and its limit."""
    culprit = next(c for c in assessment.checks if c.verdict is Verdict.FAIL)
    e_value = f"e-value {format_e(assessment.log_against)}, limit {format_e(assessment.limit_against)}"
    if culprit.name == "predictions":
        return f"predictions. {_predictions_sentence(spec, state)}; {e_value}."
    effect = effect_of(spec, state, culprit.name)
    if effect is None:
        return f"{culprit.name}. {e_value}."
    (bad_stable, all_stable), (bad_candidate, all_candidate) = effect.stable, effect.candidate
    return (
        f"{culprit.name}. {state.candidate} {effect.what} {bad_candidate:,} of {all_candidate:,} requests, "
        f"{state.stable} {bad_stable:,} of {all_stable:,}: {effect.sentence.rstrip(')')}; {e_value})."
        if effect.sentence.endswith(")")
        else f"{culprit.name}. {state.candidate} {effect.what} {bad_candidate:,} of {all_candidate:,} requests; {e_value}."
    )


def _predictions_sentence(spec: RolloutSpec, state: RolloutState) -> str:
    pairs = state.ledger.pairs()
    if pairs.compared and pairs.disagreed / pairs.compared > spec.shadow.max_disagreement:
        share, limit = 100 * pairs.disagreed / pairs.compared, 100 * spec.shadow.max_disagreement
        return (
            f"{state.candidate} predicted {pairs.disagreed:,} of {pairs.compared:,} shadowed rows differently from "
            f"{state.stable} ({share:.1f} %, limit {limit:g} %)"
        )
    stable, candidate = with_traffic(state, Arm.STABLE, CLIENT), with_traffic(state, Arm.CANDIDATE, CLIENT)
    name = max(
        {**stable.predictions, **candidate.predictions}, key=lambda k: abs(_rate(candidate, k) - _rate(stable, k))
    )
    return (
        f"{state.candidate} predicted class {name} for {100 * _rate(candidate, name):.1f} % of its {candidate.requests:,} requests, "
        f"{state.stable} for {100 * _rate(stable, name):.1f} % of its {stable.requests:,}"
    )


def _rate(counts: Counts, name: str) -> float:
    return counts.predictions.get(name, 0) / max(sum(counts.predictions.values()), 1)


def explain_promotion(spec: RolloutSpec, state: RolloutState, assessment: Assessment) -> str:
    """One sentence: what was proven, over how many requests."""
    proven = [
        f"{c.name} (e-value {format_e(c.log_for)})" for c in assessment.checks if c.gated and c.log_for is not None
    ]
    requests = max((with_traffic(state, Arm.CANDIDATE, s).requests for s in state.ledger.sources), default=0)
    limit = format_e(assessment.limit_for)
    return f"{state.candidate} is no worse than {state.stable} over {requests:,} requests: {', '.join(proven)}; each needed {limit}."


def explain_limit(assessment: Assessment) -> str:
    """Which gated checks are still open, and how far they are."""
    missing = [c for c in assessment.checks if c.gated and c.verdict is not Verdict.PASS]
    if not missing:
        return "the ramp is not at its end"
    limit = format_e(assessment.limit_for)
    return ", ".join(
        f"{c.name}: nothing to measure it by"
        if c.verdict is Verdict.UNMEASURABLE
        else f"{c.name} at {format_e(c.log_for)} of {limit}"
        for c in missing
    )


def explain_split(assessment: Assessment) -> str:
    """What is wrong with a split that does not match."""
    return (
        f"the share of requests that reached the candidate is not the one that was set (e-value {format_e(assessment.log_split)}, "
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
        facts[check.name] = entry
    if pairs := state.ledger.pairs():
        facts["shadow"] = {"compared": pairs.compared, "disagreed": pairs.disagreed}
    return facts


def format_e(log_e: float | None) -> str:
    """An e-value as people read it, from its natural log: 0.6, 14, 2.1e11."""
    if log_e is None or math.isnan(log_e):
        return "-"
    if log_e > 700:
        return f"1e{log_e / math.log(10):.0f}"
    value = math.exp(log_e)
    return (
        f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
        if value >= 1e4
        else f"{value:,.3g}"
        if value >= 0.01
        else "< 0.01"
    )


def _finite(log_e: float | None) -> float | None:
    """An e-value that JSON can hold."""
    return None if log_e is None or math.isnan(log_e) else math.exp(min(log_e, 700.0))


def _short(number: float) -> str:
    if math.isinf(number):
        return "infinity"
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}" if number < 10 else f"{number:.3g}"
