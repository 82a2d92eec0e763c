"""Operating characteristics of the decision rule: how often and how soon candidates of known quality are rolled back or promoted.

`python -m benchmarks.operating_table [RUNS]` simulates RUNS rollouts per column (10,000 unless told) and prints the table beside the
reference of the design ("reference" below). One stream, the candidate's share 10 %, at most 60,000 requests (about 6,000 to the candidate):

- errors: base rate 0.5 %, alpha 0.01, looked at after every failed request;
- latency: lognormal with p50 100 ms and p99 320 ms, five thresholds, alpha 0.01, looked at every 20 requests;
- promotion: a healthy candidate, alpha 0.05, without a limit of requests; median and 90th percentile of the candidate's requests.

"rolled back" has its Monte Carlo standard error; "exposed" is the mean number of the candidate's requests until the rollback, or until the
end in runs without one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.windows_judged import Judge
from relevo.rollout.spec import LatencyCheck
from relevo.statistics import log_e_not_worse, log_e_slower, log_e_worse, log_limit
from relevo.statistics.counts import Floats

__all__ = ["Outcome", "Slowdown", "main", "promotion", "rollback_for_errors", "rollback_for_latency"]

RHO, BASE_RATE, REQUESTS = 0.1, 0.005, 60_000
MEDIAN_MS, P99_MS = 100.0, 320.0
SPREAD = np.log(P99_MS / MEDIAN_MS) / norm.ppf(0.99)
QUANTILES = np.array(LatencyCheck().quantiles)
LOOK_EVERY, PAIRS_A_LOOK, LOOKS_AT_ONCE, CHUNK = 20, 10, 50, 250

ERRORS_REFERENCE = {
    1.0: "0.4 %",
    1.5: "20 % / 5406",
    2.0: "83 % / 3308",
    3.0: "1041",
    5.0: "332",
    10.0: "106",
}
PROMOTION_REFERENCE = {1.5: "6595 (18183)", 2.0: "2096 (5584)", 3.0: "706 (1835)"}


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A candidate whose latencies are `factor` times as long, and of whose requests a share `stalled` takes 400 ms more."""

    factor: float = 1.0
    stalled: float = 0.0

    def exceedance(self, thresholds_ms: Floats) -> Floats:
        """The share of requests over each threshold."""
        plain = norm.sf(np.log(thresholds_ms / (MEDIAN_MS * self.factor)) / SPREAD)
        later = np.maximum(thresholds_ms - 400.0, 1e-9)
        stalled = norm.sf(np.log(later / (MEDIAN_MS * self.factor)) / SPREAD)
        mixed: Floats = (1 - self.stalled) * plain + self.stalled * stalled
        return mixed


SLOWDOWNS = {
    "as fast": (Slowdown(), ""),
    "x1.05": (Slowdown(1.05), "90 % / 2889"),
    "x1.1": (Slowdown(1.1), "614"),
    "x1.25": (Slowdown(1.25), "95"),
    "3 % of requests +400 ms": (Slowdown(1.0, 0.03), "344"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of simulated rollouts: which were decided, and the candidate's requests until then or to the end. Shapes (runs,)."""

    decided: NDArray[np.bool_]
    exposed: Floats

    @property
    def share(self) -> tuple[float, float]:
        """The share of decided runs and its standard error."""
        share = float(self.decided.mean())
        return share, float(np.sqrt(share * (1 - share) / self.decided.size))


def rollback_for_errors(
    rng: np.random.Generator, runs: int, ratio: float, *, alpha: float = 0.01, shadow_pairs: int = 0
) -> Outcome:
    """Simulate rollouts whose candidate fails `ratio` times as often; `shadow_pairs` rows go to both arms before the first user."""
    rate = BASE_RATE * (RHO * ratio + 1 - RHO)
    events, limit = int(REQUESTS * rate + 6 * np.sqrt(REQUESTS * rate)), log_limit(alpha)
    parts = []
    for size in _chunks(runs):
        shadow, found = _shadowed_failures(rng, size, ratio, shadow_pairs, lambda bad: log_e_worse(bad, 0.5) >= limit)
        bad, requests = _failures(rng, (size, events), ratio)
        crossed = log_e_worse(_after(shadow, bad), (0.5, RHO)) >= limit
        outcome = _first(rng, crossed & (requests <= REQUESTS), bad, requests, ratio)
        parts.append(Outcome(outcome.decided | found, np.where(found, 0.0, outcome.exposed)))
    return _joined(parts)


def promotion(rng: np.random.Generator, runs: int, margin: float, events: int, *, shadow_pairs: int = 0) -> Outcome:
    """Simulate rollouts of a healthy candidate, which may be promoted once "fails at least `margin` times as often" is rejected.

    "exposed" counts users' requests to the candidate, not the shadowed ones.
    """
    parts = []
    for size in _chunks(runs):
        shadow, _ = _shadowed_failures(rng, size, 1.0, shadow_pairs, None)
        bad, requests = _failures(rng, (size, events), 1.0)
        # It may be promoted at the first user's request, too.
        bad, requests = (np.concatenate((np.zeros_like(c[:, :1]), c), axis=1) for c in (bad, requests))
        crossed = log_e_not_worse(_after(shadow, bad), (0.5, RHO), margin) >= log_limit(0.05)
        parts.append(_first(rng, crossed, bad, requests, 1.0))
    return _joined(parts)


def rollback_for_latency(
    rng: np.random.Generator,
    runs: int,
    slowdown: Slowdown,
    *,
    alpha: float = 0.01,
    shadow_pairs: int = 0,
    by_windows: bool = False,
) -> Outcome:
    """Simulate rollouts whose candidate is slower. The thresholds are the stable arm's true quantiles.

    `by_windows`: as production judges; else every request is bet on by itself (no pairs then).
    """
    parts = []
    rates = 1 - QUANTILES
    for size in _chunks(runs):
        decided, exposed = np.zeros(size, dtype=bool), np.zeros(size)
        judge = Judge(size, rates)
        if shadow_pairs:
            pairs_over, pairs = _latency_looks(rng, size, slowdown, shadow_pairs // PAIRS_A_LOOK, PAIRS_A_LOOK)
            every = np.arange(size)
            for t in range(pairs.shape[1]):
                decided |= judge.log_e(every, pairs[:, t], pairs_over[:, t]) >= log_limit(alpha)
        over, total = np.zeros((size, QUANTILES.size, 2)), np.zeros((size, 2))
        for _ in range(
            0, REQUESTS, LOOK_EVERY * LOOKS_AT_ONCE
        ):  # runs that are decided, most of them early, are not carried on
            running = np.flatnonzero(~decided)
            if not running.size:
                break
            more_over, more = _latency_looks(rng, running.size, slowdown, LOOKS_AT_ONCE)
            more_over += over[running, None]
            more += total[running, None]
            if by_windows:
                looks = [judge.log_e(running, more[:, t], more_over[:, t], 1) for t in range(LOOKS_AT_ONCE)]
                log_e = np.stack(looks, axis=1)
            else:
                log_e = log_e_slower(more_over[..., None, :], more[..., None, :], RHO, rates)
            crossed = log_e >= log_limit(alpha)
            decided[running] = crossed.any(axis=1)
            last = np.where(decided[running], crossed.argmax(axis=1), -1)
            exposed[running] = more[np.arange(running.size), last, 1]
            over[running], total[running] = more_over[:, -1], more[:, -1]
        parts.append(Outcome(decided, exposed))
    return _joined(parts)


def _shadowed_failures(
    rng: np.random.Generator,
    runs: int,
    ratio: float,
    pairs: int,
    crossed: Callable[[Floats], NDArray[np.bool_]] | None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Failures by arm of all shadowed rows (runs, 2), and where `crossed` says so of them after any row (runs,)."""
    failed = rng.random((runs, pairs, 2)) < BASE_RATE * np.array([1.0, ratio])
    bad = failed.cumsum(axis=1).astype(np.float64)
    found = np.zeros(runs, dtype=bool)
    if crossed is not None and pairs:
        found |= crossed(bad[:, :, None]).any(axis=1)
    return (bad[:, -1] if pairs else np.zeros((runs, 2))), found


def _after(shadow: Floats, bad: Floats) -> Floats:
    """Counts of both steps, (runs, events, 2 steps, 2 arms)."""
    return np.stack((np.broadcast_to(shadow[:, None], bad.shape), bad), axis=-2)


def _latency_looks(
    rng: np.random.Generator, runs: int, slowdown: Slowdown, looks: int, pairs: int = 0
) -> tuple[Floats, Floats]:
    """Requests over each threshold (runs, looks, thresholds, 2) and all requests (runs, looks, 2), cumulated over some looks.

    `pairs`: so many rows a look, each to both arms; else LOOK_EVERY requests, each to one.
    """
    thresholds = np.exp(norm.ppf(QUANTILES) * SPREAD) * MEDIAN_MS
    shape = (runs, looks)
    candidate = np.full(shape, pairs) if pairs else rng.binomial(LOOK_EVERY, RHO, shape)
    stable = np.full(shape, pairs) if pairs else LOOK_EVERY - candidate
    over = []
    for sent, rates in ((stable, 1 - QUANTILES), (candidate, slowdown.exceedance(thresholds))):
        # Bucket i lies between thresholds i - 1 and i; over threshold i are the buckets from i + 1 on.
        buckets = rng.multinomial(sent, -np.diff(np.concatenate(([1.0], rates, [0.0]))))
        over.append(buckets[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:])
    requests = np.stack((stable, candidate), axis=-1)
    return np.stack(over, axis=-1).cumsum(axis=1).astype(np.float64), requests.cumsum(axis=1).astype(np.float64)


def _chunks(runs: int) -> list[int]:
    return [min(CHUNK, runs - begin) for begin in range(0, runs, CHUNK)]


def _failures(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> tuple[Floats, Floats]:
    """The arms of failed requests, cumulated (runs, events, 2), and the number of requests up to each (runs, events)."""
    rate = BASE_RATE * (RHO * ratio + 1 - RHO)
    from_candidate = rng.random(shape) < RHO * ratio / (RHO * ratio + 1 - RHO)
    requests = rng.geometric(rate, shape).cumsum(axis=1).astype(np.float64)
    return np.stack((~from_candidate, from_candidate), axis=-1).cumsum(axis=1).astype(np.float64), requests


def _first(
    rng: np.random.Generator, crossed: NDArray[np.bool_], bad: Floats, requests: Floats, ratio: float
) -> Outcome:
    runs = np.arange(crossed.shape[0])
    decided: NDArray[np.bool_] = np.any(crossed, axis=1)
    first = crossed.argmax(axis=1)
    failed = bad[runs, first]
    went_well = (requests[runs, first] - failed.sum(axis=-1)).astype(np.int64)
    share = RHO * (1 - BASE_RATE * ratio) / (RHO * (1 - BASE_RATE * ratio) + (1 - RHO) * (1 - BASE_RATE))
    exposed = failed[:, 1] + rng.binomial(went_well, share)
    return Outcome(decided, np.where(decided, exposed, rng.binomial(REQUESTS, RHO, runs.size)))


def _joined(parts: list[Outcome]) -> Outcome:
    return Outcome(np.concatenate([p.decided for p in parts]), np.concatenate([p.exposed for p in parts]))


def _row(name: str, outcome: Outcome, reference: str) -> str:
    share, error = outcome.share
    return f"{name:<34}{100 * share:6.2f} ± {100 * error:4.2f} %{outcome.exposed.mean():>12,.0f}     {reference}"


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Operating characteristics of the decision rule.")
    parser.add_argument("runs", nargs="?", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(argv)
    if options.runs < 1:
        parser.error("RUNS must be at least 1")
    rng = np.random.default_rng(options.seed)
    print(f"{options.runs} runs each\n\n{'rollback':<34}{'rolled back':>17}{'exposed':>10}     reference")
    for ratio, reference in ERRORS_REFERENCE.items():
        outcome = rollback_for_errors(rng, options.runs, ratio)
        print(_row(f"errors {ratio:g} times as often", outcome, reference), flush=True)
    for name, (slowdown, reference) in SLOWDOWNS.items():
        outcome = rollback_for_latency(rng, options.runs, slowdown)
        print(_row(f"latency {name}", outcome, reference), flush=True)
    print(f"\n{'promotion of a healthy candidate':<34}{'promoted':>17}{'median (p90) requests':>25}     reference")
    for margin, reference in PROMOTION_REFERENCE.items():
        outcome = promotion(rng, options.runs, margin, events={1.5: 4000, 2.0: 1500}.get(margin, 600))
        median, p90 = np.quantile(np.where(outcome.decided, outcome.exposed, np.inf), [0.5, 0.9])
        share, error = outcome.share
        figures = f"{median:,.0f} ({p90:,.0f})"
        print(f"margin {margin:<27g}{100 * share:6.2f} ± {100 * error:4.2f} %{figures:>25}     {reference}", flush=True)


if __name__ == "__main__":
    main()
