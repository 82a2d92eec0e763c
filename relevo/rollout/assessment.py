"""What the counts say, check by check: from the ledger to e-values and verdicts. Pure; the tests themselves are in `relevo.statistics`.

Every check has, per source that can see it, evidence against the candidate and evidence for it. Sources overlap (Envoy sees Locust's
requests too), so their evidence against is averaged, which is valid however they depend on each other, and their evidence for must suffice
in each. Against the candidate the checks are combined by their weights; for it, every gated check must pass on its own (an
intersection-union test).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from relevo.rollout.ledger import SourceLedger, cell
from relevo.rollout.observation import Arm, Counts
from relevo.rollout.ramp import Step
from relevo.rollout.spec import AccuracyCheck, ErrorsCheck, LatencyCheck, PredictionsCheck, RolloutSpec
from relevo.rollout.state import RolloutState, Verdict
from relevo.rollout.tables import Table, latency_thresholds, table_of, usual_rates
from relevo.statistics import betting, bounded, combine, exceedance, sample_ratio
from relevo.statistics.counts import Floats

__all__ = [
    "Assessment",
    "CheckResult",
    "assess",
    "exposed_requests",
    "has_baseline",
    "with_baseline",
    "with_traffic",
]

CLIENT = "locust"
"""The source that sees answers as a client does: predictions, labels, shadow pairs."""

LEAST_GATED_RATE = 0.04
"""Promotion waits for the thresholds up to about p95; at p99 too few requests are over to wait for."""

SPLIT_LOG_LIMIT = math.log(1000)
"""When a split as seen is told to differ from the one set: one false alarm in a thousand rollouts."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check. Log e-values are natural logs; None where nothing can be said."""

    name: str
    gated: bool
    log_against: float | None
    log_for: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Assessment:
    """All checks, and what follows from them together."""

    checks: tuple[CheckResult, ...]
    log_against: float
    """The weighted evidence against the candidate, over all checks."""
    limit_against: float
    """The log e-value at which it is rolled back: log(1/alpha)."""
    limit_for: float
    """The log e-value that each gated check needs for promotion."""
    log_split: float = 0.0
    """Evidence that the traffic does not arrive in the shares that were set."""

    @property
    def failed(self) -> bool:
        """The candidate is proven worse."""
        return self.log_against >= self.limit_against

    @property
    def passed(self) -> bool:
        """Every gated check is proven no worse by its margin."""
        gated = [c for c in self.checks if c.gated]
        return not self.failed and bool(gated) and all(c.verdict is Verdict.PASS for c in gated)

    @property
    def split_mismatch(self) -> bool:
        return self.log_split >= SPLIT_LOG_LIMIT

    def check(self, name: str) -> CheckResult | None:
        """The check of this name, if it is made."""
        return next((c for c in self.checks if c.name == name), None)


def assess(spec: RolloutSpec, steps: tuple[Step, ...], state: RolloutState) -> Assessment:
    """Judge the counts in the ledger."""
    limit_for = float(combine.log_limit(spec.decision.promotion_alpha))
    limit_against = float(combine.log_limit(spec.decision.alpha))
    if not steps:
        return Assessment((), 0.0, limit_against, limit_for)
    tables = {name: table_of(state, name, ledger, steps) for name, ledger in state.ledger.sources.items()}
    tables = {name: table for name, table in tables.items() if name in spec.counting_sources}
    evidence: dict[str, tuple[bool, list[float], float | None]] = {}
    if spec.checks.errors is not None:
        evidence["errors"] = _errors(spec.checks.errors, tables)
    if spec.checks.latency is not None:
        evidence["latency"] = _latency(spec.checks.latency, state, tables)
    if spec.checks.predictions is not None and spec.has_client:
        evidence["predictions"] = _predictions(spec.checks.predictions, spec, state, tables)
    if spec.checks.accuracy is not None and spec.has_client:
        evidence["accuracy"] = _accuracy(spec.checks.accuracy, tables)
    against = {name: float(combine.weighted_mean(logs)) for name, (_, logs, _) in evidence.items() if logs}
    weights = {name: getattr(spec.decision.weights, name) for name in against}
    weighted = [name for name, weight in weights.items() if weight > 0]
    total = (
        float(combine.weighted_mean([against[n] for n in weighted], [weights[n] for n in weighted]))
        if weighted
        else 0.0
    )
    checks = tuple(
        CheckResult(
            name, gated, against.get(name), log_for, _verdict(name, against, log_for, total, limit_against, limit_for)
        )
        for name, (gated, _, log_for) in evidence.items()
    )
    return Assessment(checks, total, limit_against, limit_for, _split(tables))


def _verdict(
    name: str, against: dict[str, float], log_for: float | None, total: float, limit: float, limit_for: float
) -> Verdict:
    if name not in against:
        return Verdict.UNMEASURABLE
    # A check is told to fail when the rollout fails by its hand, not when it alone crosses a limit that was never its own.
    if total >= limit and against[name] == max(against.values()):
        return Verdict.FAIL
    return Verdict.PASS if log_for is not None and log_for >= limit_for else Verdict.INCONCLUSIVE


def _errors(check: ErrorsCheck, tables: dict[str, Table]) -> tuple[bool, list[float], float | None]:
    against, proofs = [], []
    for table in tables.values():
        bad, total = table.count(lambda c: c.errors), table.count(lambda c: c.requests)
        against.append(float(betting.log_e_worse(bad, table.rho, check.tolerance)))
        proofs.append(_no_worse(bad, total, table, check.margin, check.objective))
    return check.gate, against, min(proofs) if proofs else None


def _accuracy(check: AccuracyCheck, tables: dict[str, Table]) -> tuple[bool, list[float], float | None]:
    table = tables.get(CLIENT)
    if table is None or not table.has_labels:
        return check.gate, [], None
    wrong, total = table.count(lambda c: c.wrong), table.count(lambda c: c.labelled)
    against = float(betting.log_e_worse(wrong, table.rho, check.tolerance))
    return check.gate, [against], _no_worse(wrong, total, table, check.margin, check.objective)


def _no_worse(bad: Floats, total: Floats, table: Table, margin: float, objective: float) -> float:
    """Evidence that the candidate is below margin times the stable arm's rate, or below the objective whatever the stable arm does.

    The hypothesis bet against is that it is neither, so the two e-values are averaged. With no bad event only the second moves.
    """
    ratio = betting.log_e_not_worse(bad, table.rho, margin)
    rate = bounded.log_e_rate_below(bad[:, 1].sum(), total[:, 1].sum(), objective)
    return float(combine.weighted_mean([float(ratio), float(rate)]))


def _latency(
    check: LatencyCheck, state: RolloutState, tables: dict[str, Table]
) -> tuple[bool, list[float], float | None]:
    against, proofs = [], []
    for name, table in tables.items():
        thresholds = state.thresholds.get(name, ())
        if not thresholds:
            continue
        rates = np.array(state.usual_rates.get(name, ()))
        over, total = table.exceedances(thresholds, check.tolerance)
        against.append(float(exceedance.log_e_slower(over, total, table.rho, rates)))
        gated = rates >= LEAST_GATED_RATE if (rates >= LEAST_GATED_RATE).any() else np.ones(len(rates), dtype=bool)
        margins = exceedance.margin_at(check.margin, rates[gated])
        proofs.append(
            float(combine.weakest(exceedance.log_e_not_slower(over[gated], total, table.rho, rates[gated], margins)))
        )
    return check.gate, against, min(proofs) if proofs else None


def _predictions(
    check: PredictionsCheck, spec: RolloutSpec, state: RolloutState, tables: dict[str, Table]
) -> tuple[bool, list[float], float | None]:
    table = tables.get(CLIENT)
    gated = check.gate and spec.has_shadow_stage
    if table is None:
        return gated, [], None
    known = state.classes
    streams = [table.count(lambda c, k=k: c.predictions.get(k, 0)) for k in known]  # type: ignore[misc]
    streams.append(table.count(lambda c: sum(n for k, n in c.predictions.items() if k not in known)))
    counts = np.stack(streams)
    # Swapping the arms asks whether a share fell; the candidate's share of the traffic is then the stable arm's.
    rose = betting.log_e_worse(counts, table.rho, 1 + check.tolerance)
    fell = betting.log_e_worse(counts[..., ::-1], 1 - table.rho, 1 + check.tolerance)
    mix = float(combine.weighted_mean(np.concatenate([rose, fell])))
    if not spec.has_shadow_stage:
        return gated, [mix], None
    pairs, limit = state.ledger.pairs(), spec.shadow.max_disagreement
    disagreement = float(bounded.log_e_rate_above(pairs.disagreed, pairs.compared, limit))
    return gated, [mix, disagreement], float(bounded.log_e_rate_below(pairs.disagreed, pairs.compared, limit))


def _split(tables: dict[str, Table]) -> float:
    """The shadow stage is left out: there both arms get each row, which no chance decided."""
    logs = [
        float(sample_ratio.log_e_split_differs(t.count(lambda c: c.requests)[1:], t.rho[1:])) for t in tables.values()
    ]
    return float(combine.weighted_mean(logs)) if logs else 0.0


def with_baseline(spec: RolloutSpec, state: RolloutState) -> RolloutState:
    """Fix what the bets need to know of the stable revision, from its traffic before the candidate had any: thresholds, rates, classes."""
    sources = state.ledger.sources
    check = spec.checks.latency
    thresholds = {name: latency_thresholds(ledger, check) for name, ledger in sources.items()} if check else {}
    rates = {name: usual_rates(sources[name], chosen) for name, chosen in thresholds.items()}
    classes = tuple(sorted(state.ledger.total(CLIENT, Arm.STABLE, ["0"]).predictions))
    return replace(state, thresholds=thresholds, usual_rates=rates, classes=classes)


def has_baseline(spec: RolloutSpec, state: RolloutState) -> bool:
    """Whether every source that can has seen enough of the stable revision alone."""
    sources = [state.ledger.sources.get(name, SourceLedger()) for name in spec.baseline_sources]
    return all(s.table.get(cell(0, Arm.STABLE), Counts()).requests >= spec.baseline.requests for s in sources)


def exposed_requests(state: RolloutState, steps: Iterable[str] | None = None) -> int:
    """How many users' requests the candidate had, by the source that saw most; in all steps of the ramp unless some are named."""
    keys = [str(i) for i in range(1, state.step + 1)] if steps is None else list(steps)
    cells = [cell(key, Arm.CANDIDATE) for key in keys]
    tables = [ledger.table for ledger in state.ledger.sources.values()]
    return max((sum(t[c].requests for c in cells if c in t) for t in tables), default=0)


def with_traffic(state: RolloutState, arm: Arm, source: str) -> Counts:
    """One arm's counts over the shadow stage and all steps so far."""
    return state.ledger.total(source, arm, ["shadow", *(str(i) for i in range(1, state.step + 1))])
