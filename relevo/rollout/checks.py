"""The four checks and the split: from the counts to log e-values, by the bets of `relevo.statistics`. Pure.

Every check has, per source that can see it, evidence against the candidate and evidence for it; `relevo.rollout.assessment` puts the
checks together. Errors, wrong answers and predicted classes are streams of events of which the arm is bet on: they are judged in one
go by `relevo.rollout.panel`, and so are the latencies, for a tick has a thousandth of a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from relevo.rollout.panel import label_panel, not_slower_panel, rate_panel
from relevo.rollout.ramp import expand
from relevo.rollout.spec import AccuracyCheck, ErrorsCheck, LatencyCheck, PredictionsCheck, RolloutSpec
from relevo.rollout.state import RolloutState
from relevo.rollout.tables import Table
from relevo.rollout.windows import Windows
from relevo.statistics import exceedance, sample_ratio

__all__ = ["CLIENT", "Evidence", "allowed_rates", "gather", "judge_split", "log_mean"]

CLIENT = "locust"
"""The source that sees answers as a client does: predictions, labels, shadow pairs."""

LEAST_GATED_RATE = 0.08
"""Promotion waits for the thresholds up to about p90; beyond, too few requests are over to wait for. Rollback looks at all of them."""

MOST_GATED_RATE = 0.6
"""Nor for those that most answers exceed: that hardly fewer of the candidate's do says little."""

CANDIDATE_OVER = 1
"""Which of a step's four events are the candidate's requests over the threshold: see `Table.latency_events`."""

_NO_WINDOWS = Windows()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one check has to say, as natural logs of e-values; None where nothing can be said.

    Sources overlap (Envoy sees Locust's requests too), so their evidence against is averaged, which is valid however they depend on each
    other, and their evidence for must suffice in each.
    """

    name: str
    gated: bool
    against: float | None = None
    in_favour: float | None = None


def gather(spec: RolloutSpec, state: RolloutState, tables: Sequence[Table]) -> list[Evidence]:
    """What each check that is made has to say of the counts in the sources' tables."""
    checks, client = spec.checks, next((t for t in tables if t.source == CLIENT), None)
    errors, accuracy, predictions = checks.errors, checks.accuracy, checks.predictions
    if not tables:
        return [Evidence(name, check.gate) for name, check in checks if check is not None]
    # The streams of events, each with its counts per step and arm: failures by source, wrong answers, predicted classes.
    failed = [[min(c.errors, c.requests) for row in t.cells for c in row] for t in tables]
    wrong = [[min(c.wrong, c.labelled) for row in client.cells for c in row]] if client and client.has_labels else []
    classes = _class_streams(client, state.classes) if client else []
    of_errors, of_accuracy = errors or ErrorsCheck(), accuracy or AccuracyCheck()
    ratios = (of_errors.tolerance, of_errors.margin), (of_accuracy.tolerance, of_accuracy.margin)
    panel = label_panel(tables[0].shares, ratios, 1 + (predictions or PredictionsCheck()).tolerance)
    logs = panel.log_e(np.array(failed + wrong + classes, dtype=np.float64)).tolist()
    slow = _slow_requests(spec, state, tables) if checks.latency is not None else None
    pairs, most_disagreed = state.ledger.pairs(), spec.shadow.max_disagreement
    # The candidate's own rates, each with its limit, in one question to the panel.
    rates = [
        _Rate(sum(row[1::2]), sum(c.requests for _, c in t.cells), of_errors.objective)
        for row, t in zip(failed, tables, strict=True)
    ]
    if client and wrong:
        rates.append(_Rate(sum(wrong[0][1::2]), sum(c.labelled for _, c in client.cells), of_accuracy.objective))
    rates.append(_Rate(min(pairs.disagreed, pairs.compared), pairs.compared, most_disagreed))
    rates += slow.rates if slow else ()
    own = rate_panel(tuple(r.limit for r in rates)).log_e(
        np.array([[r.bad, r.total] for r in rates], dtype=np.float64)[:, None]
    )
    above, below = own[:, 0, 0].tolist(), own[:, 0, 1].tolist()
    at = len(failed) + len(wrong)  # where the pairs are
    found: list[Evidence] = []
    if errors is not None:
        found.append(_judge_failures("errors", errors.gate, [row[0:2] for row in logs[: len(failed)]], below))
    if checks.latency is not None:
        found.append(_judge_latency(checks.latency, slow, below[at + 1 :]))
    if predictions is not None and spec.has_client:
        mix = [log_e for row in logs[at:] for log_e in row[4:6]]
        disagreement = (above[at], below[at]) if spec.has_shadow_stage else None
        found.append(_judge_predictions(predictions, mix, disagreement))
    if accuracy is not None and spec.has_client:
        logs_of_wrong = [row[2:4] for row in logs[len(failed) : at]]
        found.append(_judge_failures("accuracy", accuracy.gate, logs_of_wrong, below[len(failed) : at]))
    return found


class _Rate(NamedTuple):
    """Bad ones among all, and the rate they are judged against."""

    bad: float
    total: float
    limit: float


def _class_streams(table: Table, classes: tuple[str, ...]) -> list[list[int]]:
    """Answers by predicted class: those of the stable revision, and all others as one more."""
    predicted = [c.predictions for row in table.cells for c in row]
    known = [[p.get(name, 0) for p in predicted] for name in classes]
    counted = [sum(column) for column in zip(*known, strict=True)] if known else [0] * len(predicted)
    return [*known, [sum(p.values()) - n for p, n in zip(predicted, counted, strict=True)]]


def _judge_failures(name: str, gated: bool, logs: Sequence[Sequence[float]], below: Sequence[float]) -> Evidence:
    """Bad events by source. `logs`: what betting on "worse" and on "not worse" has won; `below`: on "its rate is below the objective".

    The candidate may be promoted when it is below margin times the stable arm's rate, or below the objective whatever the stable arm does.
    The hypothesis bet against is that it is neither, so the two e-values are averaged. With no bad event only the second moves.
    """
    if not logs:
        return Evidence(name, gated)
    in_favour = min(log_mean((not_worse, rate)) for (_, not_worse), rate in zip(logs, below, strict=False))
    return Evidence(name, gated, log_mean([worse for worse, _ in logs]), in_favour)


@dataclass(frozen=True, slots=True)
class _SlowRequests:
    """Requests over each source's thresholds, one stream per threshold, judged."""

    against: float
    """By the windows of all steps."""
    usual_rates: tuple[float, ...] = ()
    not_slower: tuple[float, ...] = ()
    """By the last step's requests alone; empty before that step."""
    rates: tuple[_Rate, ...] = ()
    """The candidate's of the last step, against what the margin allows; empty before that step."""


def _slow_requests(spec: RolloutSpec, state: RolloutState, tables: Sequence[Table]) -> _SlowRequests | None:
    """The latency streams of every source that has thresholds; None where none has.

    Against the candidate are windows of time (`relevo.statistics.windows`), averaged over thresholds and sources. For it, requests are
    counted, each by itself, in the last step alone: a revision with little traffic waits less, and its share is largest there.
    """
    check = spec.checks.latency
    measured = [t for t in tables if state.thresholds.get(t.source) and state.usual_rates.get(t.source)]
    if not measured or check is None:
        return None
    against = log_mean([state.windows.get(t.source, _NO_WINDOWS).log_e for t in measured])
    if state.step < sum(not step.is_switch for step in expand(spec)):
        return _SlowRequests(against)
    usual = tuple(rate for t in measured for rate in state.usual_rates[t.source])
    rows = [
        row for t in measured for row in t.latency_events(state.thresholds[t.source], check.tolerance, last_alone=True)
    ]
    panel = not_slower_panel(tables[0].shares[tables[0].last_step], usual, check.margin)
    not_slower = panel.log_e(np.array(rows, dtype=np.float64)[:, None])[:, 0, 0].tolist()
    limits = allowed_rates(check.margin, usual)
    rates = [_Rate(row[CANDIDATE_OVER], row[CANDIDATE_OVER] + row[-1], p) for row, p in zip(rows, limits, strict=True)]
    return _SlowRequests(against, usual, tuple(not_slower), tuple(rates))


def _judge_latency(check: LatencyCheck, slow: _SlowRequests | None, below: Sequence[float]) -> Evidence:
    """Slow windows against the candidate; for it the weakest of the gated thresholds.

    Requests that wait behind one another are slow together, so they are fewer witnesses than they seem: the e-value for it is raised to
    1 / clustering, which keeps it one (Jensen).
    """
    if slow is None:
        return Evidence("latency", check.gate)
    if not slow.not_slower:
        return Evidence("latency", check.gate, slow.against)
    # Where hardly anything is over, the ratio moves slowly, but then the candidate is under the rate that the margin allows.
    proofs = [log_mean(pair) for pair in zip(slow.not_slower, below, strict=True)]
    rates = slow.usual_rates
    gated = [e for e, rate in zip(proofs, rates, strict=True) if LEAST_GATED_RATE <= rate <= MOST_GATED_RATE]
    return Evidence("latency", check.gate, slow.against, min(gated or proofs) / check.clustering)


@lru_cache(maxsize=64)
def allowed_rates(margin: float, usual: tuple[float, ...]) -> tuple[float, ...]:
    """The rates of exceeding the thresholds that the margin allows, by the stable revision's usual ones."""
    return tuple((exceedance.margin_at(margin, usual) * usual).tolist())


def _judge_predictions(
    check: PredictionsCheck, mix: Sequence[float], disagreement: tuple[float, float] | None
) -> Evidence:
    """Has the mix of predicted classes shifted, and do the arms disagree on more shadowed rows than they may?

    `disagreement`: evidence that they do and that they do not; None without a shadow stage. Only it is gated: a better model may well
    shift the mix a little.
    """
    gated = check.gate and disagreement is not None
    if not mix:
        return Evidence("predictions", gated)
    if disagreement is None:
        return Evidence("predictions", gated, log_mean(mix))
    above, below = disagreement
    return Evidence("predictions", gated, log_mean((log_mean(mix), above)), below)


def judge_split(tables: Sequence[Table]) -> float:
    """Evidence that the traffic does not arrive in the shares that were set.

    The shadow stage and the watch over a switch are left out: there both arms get each row, which no chance decided.
    """
    if not tables or not (end := tables[0].last_step):
        return 0.0
    end += 1
    requests = np.array([[[c.requests for c in row] for row in t.cells[1:end]] for t in tables], dtype=np.float64)
    return log_mean(sample_ratio.log_e_split_differs(requests, tables[0].shares[1:end]).tolist())


def log_mean(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The log of the weighted average of e-values, from their logs. `combine.weighted_mean` for a few numbers, without an array."""
    highest = max(logs)
    if math.isinf(highest):
        return highest
    if weights is None:
        return highest + math.log(sum([math.exp(log_e - highest) for log_e in logs]) / len(logs))
    total = sum([share * math.exp(log_e - highest) for share, log_e in zip(weights, logs, strict=True)])
    return highest + math.log(total / sum(weights))
