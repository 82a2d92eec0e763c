"""Warns of policies that cannot work with a given traffic, before anything is simulated or rolled out.

How long a proof takes is read off production's own tests, given the counts that are to be expected (they take fractions): the evidence on
expected counts reaches its limit about when the median rollout's does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from relevo.rollout.checks import LEAST_GATED_RATE, MOST_GATED_RATE
from relevo.rollout.ramp import expand
from relevo.rollout.rules import EXTENSION
from relevo.rollout.spec import AccuracyCheck, Canary, ErrorsCheck, RolloutSpec
from relevo.simulation.traffic import HEALTHY, Traffic
from relevo.simulation.world import World
from relevo.statistics import betting, bounded, exceedance
from relevo.statistics.windows import RANKS_SHARE

__all__ = ["Needs", "lint", "needs"]

_OUT_OF_REACH = 1e9
"""Requests beyond which a proof is told to be impossible."""

_TOLD_RATIO = 3.0
"""A candidate that fails so many times as often should be found within the limits."""


@dataclass(frozen=True, slots=True)
class Needs:
    """How long a healthy candidate takes, in seconds; infinite where it never arrives."""

    ramp_seconds: float
    """Until the last step has its minimum of time and of requests, the shadow stage included."""
    proof_seconds: dict[str, float]
    """How long the last step lasts until each gated check has its proof."""

    @property
    def seconds(self) -> float:
        """From the first request to the promotion."""
        return self.ramp_seconds + max(self.proof_seconds.values(), default=0.0)


def needs(spec: RolloutSpec, traffic: Traffic) -> Needs:
    """What this policy needs, with this traffic, to promote a candidate that is as good as the stable revision."""
    checks, rate = spec.checks, traffic.requests_per_second
    canary, steps = spec.strategy.canary or Canary(), expand(spec)
    ramp = spec.baseline.requests / rate
    proofs: dict[str, float] = {}
    if spec.has_shadow_stage:
        pairs = float(spec.shadow.requests)
        if checks.predictions is not None and checks.predictions.gate:
            pairs = max(pairs, _first(lambda n: _pairs_proof(spec, traffic, n)))
        ramp += pairs / (rate / 2)
    for step in steps[:-1]:
        ramp += max(canary.step_seconds, canary.step_requests / (rate * step.weight_percent / 100))
    rho = steps[-1].weight_percent / 100
    proofs["step"] = max(canary.step_seconds, canary.step_requests / (rate * rho))
    if checks.errors is not None and checks.errors.gate:
        errors = checks.errors
        proofs["errors"] = _first(lambda n: _failures_proof(spec, errors, traffic.error_rate, rho, n)) / rate
    if checks.accuracy is not None and checks.accuracy.gate and spec.has_client:
        accuracy, wrong = checks.accuracy, traffic.wrong_rate
        unlabelled = wrong is None
        requests = math.inf if wrong is None else _first(lambda n: _failures_proof(spec, accuracy, wrong, rho, n))
        proofs["accuracy"] = math.inf if unlabelled else requests / rate
    if checks.latency is not None and checks.latency.gate:
        proofs["latency"] = _first(lambda n: _latency_proof(spec, traffic, rho, n)) / rate
    return Needs(ramp, proofs)


def lint(spec: RolloutSpec, traffic: Traffic) -> list[str]:
    """What is wrong with the policy, in sentences; empty where nothing is."""
    return list(_warnings(World(spec, traffic)))


def _warnings(world: World) -> Iterator[str]:
    spec, traffic = world.spec, world.traffic
    yield from _of_settings(spec, traffic)
    yield from _of_durations(spec, traffic, needs(spec, traffic))


def _of_settings(spec: RolloutSpec, traffic: Traffic) -> Iterator[str]:
    """Settings that contradict each other or the traffic."""
    checks, limits = spec.checks, spec.limits
    if checks.accuracy is not None and checks.accuracy.gate and spec.has_client and traffic.wrong_rate is None:
        yield "checks.accuracy gates promotion, but the load carries no labels: nothing can ever be promoted."
    if traffic.disagreement >= spec.shadow.max_disagreement and checks.predictions and checks.predictions.gate:
        yield (
            f"shadow.maxDisagreement is {spec.shadow.max_disagreement:g}, but equally good revisions disagree on "
            f"{traffic.disagreement:g} of the rows: the shadow stage never ends."
        )
    if expand(spec)[-1].weight_percent == 100:
        yield "the last step sends 100 % to the candidate: there is nothing to compare with, so it proves nothing."
    if spec.tick_seconds > limits.evidence_timeout_seconds:
        yield (
            f"tickSeconds ({spec.tick_seconds:g}) is longer than limits.evidenceTimeoutSeconds "
            f"({limits.evidence_timeout_seconds:g}): one missed answer holds the rollout."
        )


def _of_durations(spec: RolloutSpec, traffic: Traffic, needed: Needs) -> Iterator[str]:
    """What takes longer than there is time."""
    limits, canary, steps = spec.limits, spec.strategy.canary or Canary(), expand(spec)
    rate, longest = traffic.requests_per_second, EXTENSION * spec.limits.max_seconds
    pace = f"with {rate:g} requests per second"
    for index, step in enumerate(steps, 1):
        seconds = canary.step_requests / (rate * step.weight_percent / 100)
        if seconds > max(canary.step_seconds * 5, 60):
            yield (
                f"{pace}, step {index} ({step.weight_percent} %) needs {_duration(seconds)} for its "
                f"{canary.step_requests} candidate requests."
            )
    if needed.ramp_seconds > longest:
        yield f"{pace}, the ramp alone takes {_duration(needed.ramp_seconds)}, longer than its limit of {_duration(longest)}."
        return  # whatever comes after it cannot be reached
    for name, seconds in needed.proof_seconds.items():
        if name != "step" and math.isinf(seconds) and not (name == "accuracy" and traffic.wrong_rate is None):
            yield f"{name} can never be proven no worse with these margins and rates: nothing can ever be promoted."
        elif name != "step" and math.isfinite(seconds) and seconds + needed.ramp_seconds > longest:
            yield (
                f"{pace}, the ramp takes {_duration(needed.ramp_seconds)} and the last step needs {_duration(seconds)} to prove "
                f"{name} no worse, but the rollout ends after {_duration(longest)}: a healthy candidate ends as inconclusive."
            )
    exposed = _candidate_requests_of(needed, rate, steps[-1].weight_percent / 100)
    if exposed > limits.max_candidate_requests * EXTENSION:
        yield (
            f"limits.maxCandidateRequests is {limits.max_candidate_requests:,}, but a promotion takes about "
            f"{exposed:,.0f} candidate requests: a healthy candidate ends as inconclusive."
        )
    if spec.checks.latency is not None and spec.decision.weights.latency:
        windows, enough = _windows(spec, traffic), _windows_needed(spec)
        if windows < enough:
            yield (
                f"{pace}, the ramp has time for {windows} windows of checks.latency.window answers, and a slower candidate must lose at "
                f"least {enough}: until the last step is over its latency cannot be the reason for a rollback."
            )
    errors, weight = spec.checks.errors, steps[-1].weight_percent / 100
    if errors is not None and traffic.error_rate > 0:
        found = _first(lambda n: _regression_proof(spec, errors, traffic.error_rate, weight, n)) / rate
        if found > longest:
            yield (
                f"{pace} and {100 * traffic.error_rate:g} % errors, a candidate that fails {_TOLD_RATIO:g} times as often is "
                f"not found within {_duration(longest)}."
            )


def _windows(spec: RolloutSpec, traffic: Traffic) -> int:
    """How many windows of latency there are until the last step has lasted its least time."""
    check, canary, rate = spec.checks.latency, spec.strategy.canary or Canary(), traffic.requests_per_second
    assert check is not None

    def within(seconds: float, answers_per_second: float) -> int:
        full = check.window / answers_per_second
        if check.window_seconds is not None:
            full = min(full, max(check.window_seconds, 1 / answers_per_second))
        return int(seconds / max(spec.tick_seconds, full))

    total = within(spec.shadow.requests / (rate / 2), rate / 2) if spec.has_shadow_stage else 0
    for step in expand(spec):
        share = step.weight_percent / 100
        seconds = max(canary.step_seconds, canary.step_requests / (rate * share))
        total += within(seconds, rate * min(share, 1 - share)) if share < 1 else 0
    return total


def _windows_needed(spec: RolloutSpec) -> int:
    """How many windows it takes, all of them lost, until latency alone rolls back."""
    weights = spec.decision.weights
    total = sum(getattr(weights, n) for n in type(weights).model_fields if getattr(spec.checks, n) is not None)
    limit = math.log(total / weights.latency / spec.decision.alpha)
    return math.ceil((limit - math.log(RANKS_SHARE)) / math.log(2))  # a window wins at most twice the capital on ranks


def _first(proven: Callable[[float], bool]) -> float:
    """The least number of requests with which something is proven; infinite where it is out of reach."""
    low, high = 0.0, 16.0
    while not proven(high):
        low, high = high, high * 2
        if high > _OUT_OF_REACH:
            return math.inf
    while high - low > max(1.0, 0.01 * high):
        middle = (low + high) / 2
        low, high = (low, middle) if proven(middle) else (middle, high)
    return high


def _limit_for(spec: RolloutSpec) -> float:
    return -math.log(spec.decision.promotion_alpha)


def _failures_proof(
    spec: RolloutSpec, check: ErrorsCheck | AccuracyCheck, rate: float, rho: float, requests: float
) -> bool:
    bad = requests * rate * np.array([[1 - rho, rho]])
    ratio = float(betting.log_e_not_worse(bad, rho, check.margin))
    below = float(bounded.log_e_rate_below(requests * rho * rate, requests * rho, check.objective))
    return bool(np.logaddexp(ratio, below) - math.log(2) >= _limit_for(spec))


def _latency_proof(spec: RolloutSpec, traffic: Traffic, rho: float, requests: float) -> bool:
    """At every gated threshold, of the client's source or the only one."""
    check = spec.checks.latency
    assert check is not None
    rates = np.array(sorted((1 - q for q in check.quantiles), reverse=True))
    common = (rates >= LEAST_GATED_RATE) & (rates <= MOST_GATED_RATE)
    gated = rates[common] if common.any() else rates
    thresholds = np.exp(traffic.log_median - traffic.log_spread * ndtri(gated))
    slower = HEALTHY.survival(traffic, thresholds * (1 + check.tolerance))
    over = requests * np.stack(((1 - rho) * gated, rho * slower), axis=-1)[:, None, :]
    total = requests * np.array([[1 - rho, rho]])
    margins = exceedance.margin_at(check.margin, gated)
    ratio = exceedance.log_e_not_slower(over, total, rho, gated, margins)
    below = bounded.log_e_rate_below(over[:, 0, 1], np.full(gated.size, total[0, 1]), margins * gated)
    either = np.logaddexp(ratio, below) - math.log(2)
    return bool(either.min() / check.clustering >= _limit_for(spec))


def _pairs_proof(spec: RolloutSpec, traffic: Traffic, pairs: float) -> bool:
    log_e = bounded.log_e_rate_below(pairs * traffic.disagreement, pairs, spec.shadow.max_disagreement)
    return bool(log_e >= _limit_for(spec))


def _regression_proof(spec: RolloutSpec, check: ErrorsCheck, rate: float, rho: float, requests: float) -> bool:
    """Whether errors `_TOLD_RATIO` times as frequent are found, the other checks having nothing to say (an e-value of 1)."""
    bad = requests * rate * np.array([[1 - rho, rho * _TOLD_RATIO]])
    weights = spec.decision.weights
    others = sum(
        getattr(weights, n) for n in ("latency", "predictions", "accuracy") if getattr(spec.checks, n) is not None
    )
    share = weights.errors / (weights.errors + others) if weights.errors else 0.0
    log_e = float(betting.log_e_worse(bad, rho, check.tolerance))
    return bool(share > 0 and log_e + math.log(share) >= -math.log(spec.decision.alpha))


def _candidate_requests_of(needed: Needs, rate: float, rho: float) -> float:
    seconds = max((s for s in needed.proof_seconds.values() if math.isfinite(s)), default=0.0)
    return seconds * rate * rho


def _duration(seconds: float) -> str:
    """As people say it: 40 s, 12 minutes, 9 hours, 3 days."""
    if math.isinf(seconds):
        return "for ever"
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
