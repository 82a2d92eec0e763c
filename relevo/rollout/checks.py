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

import numpy as np

from relevo.rollout.observation import Pairs
from relevo.rollout.panel import label_panel, latency_panel
from relevo.rollout.ramp import expand
from relevo.rollout.spec import AccuracyCheck, ErrorsCheck, LatencyCheck, PredictionsCheck, RolloutSpec
from relevo.rollout.state import RolloutState
from relevo.rollout.tables import Table
from relevo.statistics import bounded, exceedance, sample_ratio
from relevo.statistics.counts import Floats

__all__ = ["CLIENT", "Evidence", "gather", "judge_split", "log_mean"]

CLIENT = "locust"
"""The source that sees answers as a client does: predictions, labels, shadow pairs."""

LEAST_GATED_RATE = 0.08
"""Promotion waits for the thresholds up to about p90; beyond, too few requests are over to wait for. Rollback looks at all of them."""

EVENTS_PER_STEP = 4
"""Over the threshold or not, by arm: see `Table.latency_events`."""


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
    answered = [sum(c.requests for _, c in t.cells) for t in tables]
    labelled = [sum(c.labelled for _, c in client.cells)] if client and wrong else []
    limits = [of_errors.objective] * len(failed) + [of_accuracy.objective] * len(wrong)
    below = bounded.log_e_rate_below([sum(row[1::2]) for row in failed + wrong], answered + labelled, limits).tolist()
    found: list[Evidence] = []
    if errors is not None:
        found.append(_judge_failures("errors", errors.gate, [row[0:2] for row in logs[: len(failed)]], below))
    if checks.latency is not None:
        found.append(_judge_latency(checks.latency, state, tables, last_step=state.step == len(expand(spec))))
    if predictions is not None and spec.has_client:
        mix = [log_e for row in logs[len(failed) + len(wrong) :] for log_e in row[4:6]]
        limit = spec.shadow.max_disagreement if spec.has_shadow_stage else None
        found.append(_judge_predictions(predictions, mix, state.ledger.pairs(), limit))
    if accuracy is not None and spec.has_client:
        logs_of_wrong = [row[2:4] for row in logs[len(failed) : len(failed) + len(wrong)]]
        found.append(_judge_failures("accuracy", accuracy.gate, logs_of_wrong, below[len(failed) :]))
    return found


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


def _judge_latency(check: LatencyCheck, state: RolloutState, tables: Sequence[Table], *, last_step: bool) -> Evidence:
    """Requests over the thresholds, by every source that has some: the average over them against, and for it the weakest of the gated.

    Requests that wait behind one another are slow together, so they are fewer witnesses than they seem: the e-value against is raised to
    1 / clustering, which keeps it one (Jensen). And a revision with little traffic waits less: only the last step, where the
    candidate's share of the load is largest, counts for it.
    """
    measured = [t for t in tables if state.thresholds.get(t.source) and state.usual_rates.get(t.source)]
    if not measured:
        return Evidence("latency", check.gate)
    rates = [state.usual_rates[t.source] for t in measured]
    rows = [row for t in measured for row in t.latency_events(state.thresholds[t.source], check.tolerance)]
    events = np.array(rows, dtype=np.float64)
    panel = latency_panel(tables[0].shares, tuple(r for source in rates for r in source), check.margin)
    slower = iter(panel.log_e(events)[:, 0].tolist())
    against = log_mean([log_mean([next(slower) for _ in source]) / check.clustering for source in rates])
    if not last_step:
        return Evidence("latency", check.gate, against)
    events[:, :-EVENTS_PER_STEP] = 0
    not_slower = panel.log_e(events)[:, 1].tolist()
    usual = [rate for source in rates for rate in source]
    over, under = events[:, -EVENTS_PER_STEP + 1], events[:, -1]
    # Where hardly anything is over, the ratio moves slowly, but then the candidate is under the rate that the margin allows.
    below = bounded.log_e_rate_below(over, over + under, _allowed_rates(check.margin, tuple(usual))).tolist()
    proofs = [log_mean(pair) for pair in zip(not_slower, below, strict=True)]
    gated = [e for e, rate in zip(proofs, usual, strict=True) if rate >= LEAST_GATED_RATE]
    return Evidence("latency", check.gate, against, min(gated or proofs) / check.clustering)


@lru_cache(maxsize=64)
def _allowed_rates(margin: float, usual: tuple[float, ...]) -> Floats:
    """The rates of exceeding the thresholds that the margin allows, by the stable revision's usual ones."""
    allowed: Floats = exceedance.margin_at(margin, usual) * usual
    return allowed


def _judge_predictions(
    check: PredictionsCheck, mix: Sequence[float], pairs: Pairs, max_disagreement: float | None
) -> Evidence:
    """Has the mix of predicted classes shifted, and do the arms disagree on more shadowed rows than `max_disagreement`?

    `max_disagreement`: None without a shadow stage. Only the disagreement is gated: a better model may well shift the mix a little.
    """
    gated = check.gate and max_disagreement is not None
    if not mix:
        return Evidence("predictions", gated)
    if max_disagreement is None:
        return Evidence("predictions", gated, log_mean(mix))
    disagreed = min(pairs.disagreed, pairs.compared)
    above = float(bounded.log_e_rate_above(disagreed, pairs.compared, max_disagreement))
    below = float(bounded.log_e_rate_below(disagreed, pairs.compared, max_disagreement))
    return Evidence("predictions", gated, log_mean((log_mean(mix), above)), below)


def judge_split(tables: Sequence[Table]) -> float:
    """Evidence that the traffic does not arrive in the shares that were set.

    The shadow stage is left out: there both arms get each row, which no chance decided.
    """
    if not tables or len(tables[0].cells) < 2:
        return 0.0
    requests = np.array([[[c.requests for c in row] for row in t.cells[1:]] for t in tables], dtype=np.float64)
    return log_mean(sample_ratio.log_e_split_differs(requests, tables[0].shares[1:]).tolist())


def log_mean(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The log of the weighted average of e-values, from their logs. `combine.weighted_mean` for a few numbers, without an array."""
    shares = weights or (1.0,) * len(logs)
    highest = max(logs)
    if math.isinf(highest):
        return highest
    total = sum(share * math.exp(log_e - highest) for share, log_e in zip(shares, logs, strict=True))
    return highest + math.log(total / sum(shares))
