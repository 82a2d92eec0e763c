"""The four checks and the split: from the counts to log e-values, each by the tests of `relevo.statistics`. Pure.

Every check has, per source that can see it, evidence against the candidate and evidence for it; `relevo.rollout.assessment` puts the
checks together. What the sources have in common is judged in one call, with the sources as an axis: a tick has a thousandth of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from relevo.rollout.observation import Counts, Pairs
from relevo.rollout.spec import AccuracyCheck, ErrorsCheck, LatencyCheck, PredictionsCheck
from relevo.rollout.tables import Table
from relevo.statistics import betting, bounded, exceedance, mix, sample_ratio
from relevo.statistics.counts import Floats

__all__ = [
    "Evidence",
    "judge_accuracy",
    "judge_errors",
    "judge_latency",
    "judge_predictions",
    "judge_split",
    "log_mean",
]

LEAST_GATED_RATE = 0.04
"""Promotion waits for the thresholds up to about p95; at p99 too few requests are over to wait for."""


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


def judge_errors(check: ErrorsCheck, tables: Sequence[Table]) -> Evidence:
    """Failed requests, by every source."""
    if not tables:
        return Evidence("errors", check.gate)
    counts = np.array([[[(c.errors, c.requests) for c in row] for row in t.cells] for t in tables], dtype=np.float64)
    return _judge_failures("errors", check, counts, tables[0].rho)


def judge_accuracy(check: AccuracyCheck, table: Table | None) -> Evidence:
    """Wrong answers, where the load carries labels."""
    if table is None or not table.has_labels:
        return Evidence("accuracy", check.gate)
    counts = np.array([[[(c.wrong, c.labelled) for c in row] for row in table.cells]], dtype=np.float64)
    return _judge_failures("accuracy", check, counts, table.rho)


def _judge_failures(name: str, check: ErrorsCheck | AccuracyCheck, counts: Floats, rho: Floats) -> Evidence:
    """Bad events of all requests. `counts`: bad and all, shape (sources, steps, 2 arms, 2).

    The candidate may be promoted when it is below margin times the stable arm's rate, or below the objective whatever the stable arm does.
    The hypothesis bet against is that it is neither, so the two e-values are averaged. With no bad event only the second moves.
    """
    total = counts[..., 1]
    bad = np.minimum(
        counts[..., 0], total
    )  # a source may have counted a failure of which it has not yet counted the request
    worse = betting.log_e_worse(bad, rho, check.tolerance)
    ratio = betting.log_e_not_worse(bad, rho, check.margin)
    rate = bounded.log_e_rate_below(bad[..., 1].sum(axis=-1), total[..., 1].sum(axis=-1), check.objective)
    in_favour = min(map(_log_mean_of_two, ratio.tolist(), rate.tolist()))
    return Evidence(name, check.gate, log_mean(worse.tolist()), in_favour)


def judge_latency(
    check: LatencyCheck,
    tables: Sequence[Table],
    thresholds: Mapping[str, tuple[int, ...]],
    usual_rates: Mapping[str, tuple[float, ...]],
) -> Evidence:
    """Requests over the thresholds, by every source that has some. `thresholds`, `usual_rates`: as the state holds them."""
    against: list[float] = []
    in_favour: list[float] = []
    for table in tables:
        if not (chosen := thresholds.get(table.source)):
            continue
        rates = usual_rates[table.source]
        over, total = table.exceedances(chosen, check.tolerance)
        against.append(float(exceedance.log_e_slower(over, total, table.rho, rates)))
        gated, gated_rates, margins = _gated_thresholds(rates, check.margin)
        not_slower = exceedance.log_e_not_slower(over[gated], total, table.rho, gated_rates, margins)
        in_favour.append(float(not_slower.min()))
    if not against:
        return Evidence("latency", check.gate)
    return Evidence("latency", check.gate, log_mean(against), min(in_favour))


@lru_cache(maxsize=64)
def _gated_thresholds(rates: tuple[float, ...], margin: float) -> tuple[list[int], Floats, Floats]:
    """The thresholds that promotion waits for, and their rates and margins."""
    gated = [i for i, rate in enumerate(rates) if rate >= LEAST_GATED_RATE] or list(range(len(rates)))
    gated_rates = np.array([rates[i] for i in gated])
    return gated, gated_rates, exceedance.margin_at(margin, gated_rates)


def judge_predictions(
    check: PredictionsCheck,
    table: Table | None,
    classes: tuple[str, ...],
    pairs: Pairs,
    max_disagreement: float | None,
) -> Evidence:
    """Has the mix of predicted classes shifted, and do the arms disagree on more shadowed rows than `max_disagreement`?

    `classes`: those of the stable revision; all others are one more. `max_disagreement`: None without a shadow stage. Only the
    disagreement is gated: a better model may well shift the mix a little.
    """
    gated = check.gate and max_disagreement is not None
    if table is None:
        return Evidence("predictions", gated)
    counts = np.array([[_per_class(c, classes) for c in row] for row in table.cells], dtype=np.float64)
    shifted = float(mix.log_e_mix_shifted(np.moveaxis(counts, -1, 0), table.rho, check.tolerance))
    if max_disagreement is None:
        return Evidence("predictions", gated, shifted)
    disagreed = min(pairs.disagreed, pairs.compared)
    above = float(bounded.log_e_rate_above(disagreed, pairs.compared, max_disagreement))
    below = float(bounded.log_e_rate_below(disagreed, pairs.compared, max_disagreement))
    return Evidence("predictions", gated, log_mean([shifted, above]), below)


def _per_class(counts: Counts, classes: tuple[str, ...]) -> list[int]:
    predicted = counts.predictions
    known = [predicted.get(name, 0) for name in classes]
    return [*known, sum(predicted.values()) - sum(known)]


def judge_split(tables: Sequence[Table]) -> float:
    """Evidence that the traffic does not arrive in the shares that were set.

    The shadow stage is left out: there both arms get each row, which no chance decided.
    """
    if not tables or len(tables[0].cells) < 2:
        return 0.0
    requests = np.array([[[c.requests for c in row] for row in t.cells[1:]] for t in tables], dtype=np.float64)
    return log_mean(sample_ratio.log_e_split_differs(requests, tables[0].rho[1:]).tolist())


def log_mean(logs: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The log of the weighted average of e-values, from their logs. `combine.weighted_mean` for a few numbers, without an array."""
    shares = weights or (1.0,) * len(logs)
    highest = max(logs)
    if math.isinf(highest):
        return highest
    total = sum(share * math.exp(log_e - highest) for share, log_e in zip(shares, logs, strict=True))
    return highest + math.log(total / sum(shares))


def _log_mean_of_two(one: float, other: float) -> float:
    return log_mean((one, other))
