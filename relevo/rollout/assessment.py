"""What the counts say, all checks together: the evidence of `relevo.rollout.checks`, weighed, with verdicts. Pure.

Against the candidate the checks are combined by their weights; for it, every gated check must pass on its own (an intersection-union test).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from relevo.rollout.checks import CLIENT, Evidence, gather, judge_split, log_mean
from relevo.rollout.ledger import SHADOW, WATCH, SourceLedger, cell
from relevo.rollout.observation import Arm, Counts
from relevo.rollout.ramp import Step, expand
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import Phase, RolloutState, Verdict
from relevo.rollout.switched import with_users
from relevo.rollout.tables import latency_thresholds, slow_counts, table_of, usual_rates
from relevo.rollout.windowing import with_counts
from relevo.rollout.windows import Windows

__all__ = [
    "CLIENT",
    "Assessment",
    "CheckResult",
    "assess",
    "exposed_requests",
    "has_baseline",
    "with_baseline",
    "with_traffic",
    "with_windows",
]

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
    limit_against, limit_for = -math.log(spec.decision.alpha), -math.log(spec.decision.promotion_alpha)
    if not steps:
        return Assessment((), 0.0, limit_against, limit_for)
    sources = spec.counting_sources
    tables = [table_of(state, name, known, steps) for name, known in state.ledger.sources.items() if name in sources]
    # Where no step shares the users out, who has not seen the rows that went to both has nothing to compare.
    compares = [t for t in tables if t.rehearsed] if all(step.is_switch for step in steps) else tables
    evidence = with_users(spec, state, tables, gather(spec, state, compares))
    weights = {e.name: getattr(spec.decision.weights, e.name) for e in evidence if e.against is not None}
    # Each check's share in the sum, in logs; those without evidence are left out and the rest scaled.
    shares = {e.name: e.against + math.log(w) for e in evidence if e.against is not None and (w := weights[e.name]) > 0}
    total = (
        log_mean(
            [e.against for e in evidence if e.against is not None and e.name in shares],
            [weights[name] for name in shares],
        )
        if shares
        else 0.0
    )
    culprit = max(shares, key=shares.__getitem__) if total >= limit_against else None
    checks = tuple(
        CheckResult(e.name, e.gated, e.against, e.in_favour, _verdict(e, limit_for, failed=e.name == culprit))
        for e in evidence
    )
    return Assessment(checks, total, limit_against, limit_for, judge_split(tables))


def _verdict(evidence: Evidence, limit_for: float, *, failed: bool) -> Verdict:
    """A check is told to fail when the rollout fails mostly by its hand, not when it alone crosses a limit that was never its own."""
    if evidence.against is None:
        return Verdict.UNMEASURABLE
    if failed:
        return Verdict.FAIL
    passed = evidence.in_favour is not None and evidence.in_favour >= limit_for
    return Verdict.PASS if passed else Verdict.INCONCLUSIVE


def with_baseline(spec: RolloutSpec, state: RolloutState) -> RolloutState:
    """Fix what the bets need to know of the stable revision, from its traffic before the candidate had any: thresholds, rates, classes."""
    sources = state.ledger.sources
    check = spec.checks.latency
    thresholds = {name: latency_thresholds(ledger, check) for name, ledger in sources.items()} if check else {}
    rates = {name: usual_rates(sources[name], chosen) for name, chosen in thresholds.items()}
    classes = tuple(sorted(state.ledger.total(CLIENT, Arm.STABLE, ["0"]).predictions))
    return replace(state, thresholds=thresholds, usual_rates=rates, classes=classes)


def with_windows(spec: RolloutSpec, state: RolloutState) -> RolloutState:
    """Bring each source's windows of time up to the ledger."""
    check = spec.checks.latency
    if check is None or state.phase not in (Phase.SHADOWING, Phase.SHIFTING):
        return state
    step = SHADOW if state.phase is Phase.SHADOWING else str(state.step)
    if state.phase is Phase.SHIFTING and expand(spec)[state.step - 1].is_switch:
        step = WATCH
    longest = timedelta(seconds=check.window_seconds) if check.window_seconds is not None else None
    windows = dict(state.windows)
    for name, ledger in state.ledger.sources.items():
        if (thresholds := state.thresholds.get(name)) and (rates := state.usual_rates.get(name)):
            counted = slow_counts(ledger, step, thresholds, check.tolerance)
            windows[name] = with_counts(
                windows.get(name, Windows()), step, counted, rates, check.window, longest=longest, now=state.looked_at
            )
    return replace(state, windows=windows)


def has_baseline(spec: RolloutSpec, state: RolloutState) -> bool:
    """Whether every source that can has seen enough of the stable revision alone."""
    sources = [state.ledger.sources.get(name, SourceLedger()) for name in spec.baseline_sources]
    return all(source.counts(cell(0, Arm.STABLE)).requests >= spec.baseline.requests for source in sources)


def exposed_requests(state: RolloutState, steps: Iterable[str] | None = None) -> int:
    """How many users' requests the candidate had, by the source that saw most; in all steps of the ramp unless some are named."""
    keys = [str(i) for i in range(1, state.step + 1)] if steps is None else list(steps)
    cells = [cell(key, Arm.CANDIDATE) for key in keys]
    sources = state.ledger.sources.values()
    return max((sum(source.counts(c).requests for c in cells) for source in sources), default=0)


def with_traffic(state: RolloutState, arm: Arm, source: str) -> Counts:
    """One arm's counts over the shadow stage, all steps so far and the watch."""
    return state.ledger.total(source, arm, [SHADOW, *(str(i) for i in range(1, state.step + 1)), WATCH])
