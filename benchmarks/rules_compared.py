"""The rules that people use for canaries now, beside relevo's, on identical streams of counts.

The stream: 60,000 requests in 30 minutes, a tenth of them to the candidate (200 a minute), base error rate 0.5 %, lognormal latency
with p50 100 ms and p99 320 ms. Every rule sees the same counts and says at which look it would roll back; nothing else it does is
simulated. Each has its documented settings, and settings tuned here for this very traffic: the ones that find "errors x3" soonest, on
streams of their own, among those with at most 1 % of false alarms. Relevo has alpha 0.01, which is a guarantee and not a target; tuned
like the others, it has the settings whose false alarms are about 1 % here, too.

- Flagger: a check every minute of the candidate's last minute, success rate at least 99 % and p99 at most 500 ms; rolled back at the fifth
  failed check (its tutorials' analysis: interval 1m, threshold 5, request-success-rate min 99, request-duration max 500).
- Argo Rollouts: a measurement of the success rate every 5 minutes, at least 0.95; rolled back at the fourth failure (its documentation's
  example: interval 5m, failureLimit 3).
- Kayenta: Mann-Whitney on the per-minute error rates and p99s of both arms, the 98 % confidence interval of the shift against 0.25 of its
  estimate (NetflixACAJudge), judged every 10 minutes on all data so far; one metric that fails fails the canary.
- z-test: two proportions, pooled, one-sided 1 %, each minute on all data so far, on errors and on requests over the stable p95.
- relevo: errors (weight 0.4) and latency (0.3, windows) as its rollouts weigh them, looked at every 5 seconds.

Written from their documentation; no code of theirs is used or run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.windows_judged import Judge
from relevo.rollout.spec import LatencyCheck
from relevo.simulation.outcomes import binomial
from relevo.simulation.traffic import HEALTHY, Effect, Traffic
from relevo.statistics import log_e_worse, log_limit, weighted_mean
from relevo.statistics.counts import Floats

__all__ = ["CANDIDATES", "GRIDS", "RULES", "TUNED", "Streams", "compare", "draw", "tune"]

RHO, MINUTES, LOOKS_PER_MINUTE, REQUESTS_PER_MINUTE = 0.1, 30, 12, 2000.0
TRAFFIC = Traffic(REQUESTS_PER_MINUTE / 60, 0.005, {}, latency_p50_ms=100.0, latency_p99_ms=320.0)
QUANTILES = np.array(LatencyCheck().quantiles)
P95 = LatencyCheck().quantiles.index(0.95)
FLAGGER_MS = 500.0
ALPHA, CHUNK = 0.01, 200
NEVER = 10**9

CANDIDATES: dict[str, Effect] = {
    "healthy": HEALTHY,
    **{f"errors x{r:g}": Effect(f"errors x{r:g}", error_ratio=r) for r in (1.5, 2.0, 3.0, 5.0, 10.0)},
    **{f"latency x{f:g}": Effect(f"latency x{f:g}", latency_factor=f) for f in (1.05, 1.1, 1.25, 2.0)},
    "1 % +400 ms": Effect("1 % +400 ms", stalled_share=0.01),
    "3 % +400 ms": Effect("3 % +400 ms", stalled_share=0.03),
}

Looks = NDArray[np.int64]
"""Per run, the look (of 5 seconds) after which it is rolled back; NEVER where it is not."""


@dataclass(frozen=True, eq=False)
class Streams:
    """Counts per look of 5 seconds; the last axis is the arm, the stable one first."""

    requests: Floats
    """(runs, looks, 2)"""
    errors: Floats
    """(runs, looks, 2)"""
    over: Floats
    """Over the stable arm's quantiles, then over 500 ms, (runs, looks, quantiles + 1, 2)."""

    @cached_property
    def by_minute(self) -> tuple[Floats, Floats, Floats]:
        """Requests, errors and over, each (runs, minutes, ..., 2)."""
        whole = (self.requests, self.errors, self.over)
        shape = (len(self.requests), MINUTES, LOOKS_PER_MINUTE)
        requests, errors, over = (c.reshape(*shape, *c.shape[2:]).sum(axis=2) for c in whole)
        return requests, errors, over


def draw(rng: np.random.Generator, runs: int, effect: Effect) -> Streams:
    """So many streams with such a candidate."""
    thresholds = np.exp(TRAFFIC.log_median + TRAFFIC.log_spread * norm.ppf(QUANTILES))
    cuts = np.append(thresholds, FLAGGER_MS)
    shape, expected = (runs, MINUTES * LOOKS_PER_MINUTE), REQUESTS_PER_MINUTE / LOOKS_PER_MINUTE
    requests, errors, over = [], [], []
    for share, candidate in ((1 - RHO, HEALTHY), (RHO, effect)):
        rate = candidate.error_rate(TRAFFIC)
        survival = candidate.survival(TRAFFIC, cuts)
        order = np.argsort(-survival)
        between = -np.diff(np.concatenate(([1.0], survival[order], [0.0])))
        failed = rng.poisson(expected * share * rate, shape)
        drawn = rng.poisson(expected * share * (1 - rate) * between, (*shape, between.size))
        cumulated = drawn[..., :0:-1].cumsum(axis=-1)[..., ::-1]
        per_cut = np.empty_like(cumulated)
        per_cut[..., order] = cumulated
        requests.append(failed + drawn.sum(axis=-1))
        errors.append(failed)
        over.append(per_cut)
    stacked = (np.stack(parts, axis=-1).astype(np.float64) for parts in (requests, errors, over))
    return Streams(*stacked)


def flagger(streams: Streams, *, least_success: float = 0.99, most_ms_share: float = 0.01, threshold: int = 5) -> Looks:
    """Flagger: so many failed checks of one minute each. Its p99 is above 500 ms where more than 1 % of the requests are."""
    requests, errors, over = (c[..., 1] for c in streams.by_minute)
    slow = over[..., -1] > most_ms_share * (requests - errors)
    failed = (errors > (1 - least_success) * requests) | slow
    return _first(failed.cumsum(axis=1) >= threshold, LOOKS_PER_MINUTE)


def argo(streams: Streams, *, least_success: float = 0.95, minutes: int = 5, failure_limit: int = 3) -> Looks:
    """Argo Rollouts: more failed measurements than the limit allows."""
    requests, errors = (c[..., 1] for c in streams.by_minute[:2])
    requests, errors = (c.reshape(len(c), -1, minutes).sum(axis=2) for c in (requests, errors))
    failed = errors > (1 - least_success) * requests
    return _first(failed.cumsum(axis=1) > failure_limit, LOOKS_PER_MINUTE * minutes)


def kayenta(streams: Streams, *, tolerance: float = 0.25, confidence: float = 0.98, every_minutes: int = 10) -> Looks:
    """Kayenta: the confidence interval of the Hodges-Lehmann shift lies above `tolerance` times its estimate, for errors or for slowness.

    For the p99 of a minute stands the share of requests over the stable p95, which moves with it.
    """
    requests, errors, over = streams.by_minute
    slow = over[..., P95, :]
    failed = []
    for minute in range(every_minutes, MINUTES + 1, every_minutes):
        part = slice(0, minute)
        rates = [c[:, part] / np.maximum(requests[:, part], 1) for c in (errors, slow)]
        failed.append(np.logical_or.reduce([_shifted_up(r, tolerance, confidence) for r in rates]))
    return _first(np.stack(failed, axis=1), LOOKS_PER_MINUTE * every_minutes)


def _shifted_up(rates: Floats, tolerance: float, confidence: float) -> NDArray[np.bool_]:
    """`rates`: (runs, minutes, 2)."""
    n = rates.shape[1]
    differences = (rates[:, :, None, 1] - rates[:, None, :, 0]).reshape(len(rates), -1)
    differences.sort(axis=1)
    z = norm.ppf(1 - (1 - confidence) / 2)
    lowest = int(max(np.floor(n * n / 2 - z * np.sqrt(n * n * (2 * n + 1) / 12)), 0))
    shifted: NDArray[np.bool_] = differences[:, lowest] > tolerance * np.abs(np.median(differences, axis=1))
    return shifted


def z_test(streams: Streams, *, critical: float = float(norm.ppf(0.99))) -> Looks:
    """Two proportions at every minute, on errors and on requests over the stable p95."""
    requests, errors, over = (c.cumsum(axis=1) for c in streams.by_minute)
    bad = (errors, over[..., P95, :])
    crossed = np.logical_or.reduce([_z(b, requests) > critical for b in bad])
    return _first(crossed, LOOKS_PER_MINUTE)


def _z(bad: Floats, requests: Floats) -> Floats:
    pooled = bad.sum(axis=-1) / requests.sum(axis=-1)
    spread = np.sqrt(pooled * (1 - pooled) * (1 / requests).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        z: Floats = np.nan_to_num((bad[..., 1] / requests[..., 1] - bad[..., 0] / requests[..., 0]) / spread)
    return z


def relevo(streams: Streams, *, alpha: float = ALPHA) -> Looks:
    """Relevo's evidence against the candidate, errors and latency together, at every look."""
    log_errors, log_latency = _evidence(streams)
    together = weighted_mean(np.stack((log_errors, log_latency), axis=-1), [0.4, 0.3])
    return _first(together >= log_limit(alpha), 1)


@lru_cache(maxsize=2)
def _evidence(streams: Streams) -> tuple[Floats, Floats]:
    """Log e-values of errors and of latency at each look, each (runs, looks)."""
    requests, errors = streams.requests.cumsum(axis=1), streams.errors.cumsum(axis=1)
    over = streams.over[:, :, :-1].cumsum(axis=1)
    log_errors = log_e_worse(errors[:, :, None], RHO)
    return log_errors, Judge(len(requests), 1 - QUANTILES).at_every_look(requests - errors, over)


def _first(crossed: NDArray[np.bool_], looks_each: int) -> Looks:
    at = (crossed.argmax(axis=1) + 1) * looks_each - 1
    return np.where(crossed.any(axis=1), at, NEVER)


GRIDS: dict[str, tuple[Callable[..., Looks], list[dict[str, Any]]]] = {
    "relevo, tuned": (
        relevo,
        [{"alpha": a} for a in (0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05)],
    ),
    "z-test, tuned": (z_test, [{"critical": z} for z in np.arange(2.4, 4.2, 0.1).round(1).tolist()]),
    "Flagger, tuned": (
        flagger,
        [{"least_success": s, "threshold": t} for s in (0.97, 0.975, 0.98, 0.985, 0.99) for t in range(1, 11)],
    ),
    "Argo Rollouts, tuned": (
        argo,
        [
            {"least_success": s, "minutes": m, "failure_limit": f}
            for s in (0.97, 0.975, 0.98, 0.985, 0.99)
            for m in (1, 2, 5)
            for f in range(4)
        ],
    ),
    "Kayenta, tuned": (
        kayenta,
        [
            {"tolerance": t, "confidence": c, "every_minutes": m}
            for t in (0.0, 0.25)
            for c in (0.9, 0.98, 0.99, 0.998)
            for m in (5, 10, 15)
        ],
    ),
}


def tune(rule: str, runs: int = 4000, seed: int = 999) -> dict[str, Any]:
    """The settings of the rule's grid that find "errors x3" soonest with at most 1 % of false alarms, on streams of their own."""
    rng = np.random.default_rng(seed)
    function, grid = GRIDS[rule]
    alarms, delays = np.zeros(len(grid)), np.zeros(len(grid))
    for begin in range(0, runs, CHUNK):
        size = min(CHUNK, runs - begin)
        healthy, worse = draw(rng, size, HEALTHY), draw(rng, size, CANDIDATES["errors x3"])
        for index, settings in enumerate(grid):
            alarms[index] += (function(healthy, **settings) < NEVER).sum()
            delays[index] += np.minimum(function(worse, **settings), MINUTES * LOOKS_PER_MINUTE).sum()
    delays[alarms > ALPHA * runs] = np.inf
    return grid[int(delays.argmin())]


TUNED: dict[str, dict[str, Any]] = {
    "relevo, tuned": {"alpha": 0.015},
    "z-test, tuned": {"critical": 3.7},
    "Flagger, tuned": {"least_success": 0.98, "threshold": 3},
    "Argo Rollouts, tuned": {"least_success": 0.98, "minutes": 2, "failure_limit": 0},
    "Kayenta, tuned": {"tolerance": 0.25, "confidence": 0.99, "every_minutes": 5},
}
"""What `tune` chose: `python -m benchmarks.rules_compared` asks it again."""

RULES: Mapping[str, Callable[[Streams], Looks]] = {
    "relevo": relevo,
    "z-test at each minute": z_test,
    "Flagger, as documented": flagger,
    "Argo Rollouts, as documented": argo,
    "Kayenta, as documented": kayenta,
    **{name: partial(GRIDS[name][0], **settings) for name, settings in TUNED.items()},
}


def compare(candidate: str, runs: int, seed: int) -> dict[str, Any]:
    """Every rule on the same streams: share rolled back, and mean candidate requests until then or to the end, with standard errors."""
    rng = np.random.default_rng(seed)
    exposed: dict[str, list[Floats]] = {name: [] for name in RULES}
    hits: dict[str, int] = dict.fromkeys(RULES, 0)
    for begin in range(0, runs, CHUNK):
        streams = draw(rng, min(CHUNK, runs - begin), CANDIDATES[candidate])
        sent = streams.requests[..., 1].cumsum(axis=1)
        for name, rule in RULES.items():
            looks = rule(streams)
            hits[name] += int((looks < NEVER).sum())
            last = np.minimum(looks, sent.shape[1] - 1)
            exposed[name].append(sent[np.arange(len(sent)), last])
    result: dict[str, Any] = {}
    for name in RULES:
        share, error = binomial(hits[name], runs)
        values = np.concatenate(exposed[name])
        spread = float(values.std(ddof=1) / np.sqrt(runs)) if runs > 1 else float("nan")
        result[name] = {
            "runs": runs,
            "rolled_back": {"share": share, "standard_error": error},
            "exposed": {"mean": float(values.mean()), "standard_error": spread},
        }
    return result


if __name__ == "__main__":
    for name in sys.argv[1:] or GRIDS:
        print(name, tune(name))
