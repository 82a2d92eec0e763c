"""How the weights of the bets on errors were chosen: by the requests that they expose, on streams that no table is made of.

    python -m benchmarks.priors_chosen --seconds 300

The stream of the design's table (10 % to the candidate, base error rate 0.5 %, alpha 0.01, 60,000 requests), with and without 1,000
shadowed rows before it. Starting with equal weights on a grid of ratios, weights are changed at random and kept if the objective falls:
the sum over candidates of the requests exposed, each as a share of the reference's, with a penalty for every candidate that is exposed to
more than in the reference, and for false alarms above the reference's. `relevo.statistics.betting.WORSE` is what it found, rounded, small
weights left out. For the bets that promote (`NOT_WORSE`) the objective is the median and the 90th percentile of the requests until a
healthy candidate is promoted, at margins of 1.5, 2 and 3.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.operating_table import BASE_RATE, ERRORS_REFERENCE, PROMOTION_REFERENCE, REQUESTS, RHO
from relevo.statistics.betting import log_label_factors
from relevo.statistics.counts import Floats

__all__ = ["EFFECTS", "RATIOS", "main", "search"]

RATIOS = np.array([1.25, 1.5, 1.8, 2.2, 2.8, 3.6, 5.0, 7.0, 10.0, 15.0, 22.0])
EFFECTS = np.array([0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0])
"""Grids of ratios bet on, and of effects u of margin ** (1 - u)."""

PAIRS, SEED = 1000, 5
ALPHA, SHADOWED_ALPHA, PROMOTION_ALPHA, FALSE_ALARMS = 0.01, 0.006, 0.05, 0.004

Weights = Floats
Objective = Callable[[Weights], float]


class Stream(NamedTuple):
    """The logs of each bet's capital after each failure (runs, events, bets), and the requests until then (runs, events)."""

    capital: Floats
    requests: Floats
    shadow: Floats | None = None
    """The logs of capital during the shadow stage, (runs, looks, bets)."""

    def reached(self, weights: Weights, alpha: float) -> Floats:
        """Requests until the capital is 1 / alpha, (runs,); 0 during the shadow stage, infinite where it never is."""
        crossed = (np.exp(self.capital) @ weights) >= 1 / alpha
        rows = np.arange(len(crossed))
        requests = np.where(crossed.any(axis=1), self.requests[rows, crossed.argmax(axis=1)], np.inf)
        if self.shadow is not None:
            requests[((np.exp(self.shadow) @ weights) >= 1 / alpha).any(axis=1)] = 0
        return requests


def _stream(
    rng: np.random.Generator, runs: int, ratio: float, factors: Callable[[float], Floats], events: int, pairs: int
) -> Stream:
    """`factors`: of a share, the logs of what a failure of each arm multiplies each bet's capital by, (2, bets)."""
    rate = BASE_RATE * (RHO * ratio + 1 - RHO)
    of_candidate = rng.random((runs, events)) < RHO * ratio / (RHO * ratio + 1 - RHO)
    requests = rng.geometric(rate, (runs, events)).cumsum(axis=1).astype(np.float64)
    capital = np.stack((~of_candidate, of_candidate), axis=-1).cumsum(axis=1) @ factors(RHO)
    if not pairs:
        return Stream(capital, requests)
    failed = rng.random((runs, pairs, 2)) < BASE_RATE * np.array([1.0, ratio])
    shadow = failed.cumsum(axis=1) @ factors(0.5)
    return Stream(capital + shadow[:, -1:], requests, shadow[:, 9::10])


def worse_objective(runs: int) -> tuple[Objective, Callable[[Weights], str]]:
    """Of the bets that roll back."""
    rng = np.random.default_rng(SEED)

    def factors(share: float) -> Floats:
        both: Floats = log_label_factors(np.array([share]), 1.0, RATIOS)[0]
        return both

    references = {r: float(text.split("/")[-1]) for r, text in ERRORS_REFERENCE.items() if r > 1}
    events = {1.0: 420, 1.5: 450, 2.0: 470, 3.0: 500, 5.0: 280, 10.0: 160}
    streams = {(r, p): _stream(rng, runs, r, factors, events[r], p) for r in events for p in (0, PAIRS)}

    def exposed(weights: Weights, ratio: float, pairs: int) -> float:
        alpha = SHADOWED_ALPHA if pairs else ALPHA
        return float(RHO * np.minimum(streams[ratio, pairs].reached(weights, alpha), REQUESTS).mean())

    def false_alarms(weights: Weights) -> float:
        return float((streams[1.0, 0].reached(weights, ALPHA) <= REQUESTS).mean())

    def objective(weights: Weights) -> float:
        total = 0.3 * max(0.0, false_alarms(weights) / FALSE_ALARMS - 1)
        for ratio, reference in references.items():
            share = exposed(weights, ratio, 0) / reference
            total += (0.5 if ratio < 2 else 1.0) * share + 6 * max(0.0, share - 1)
            if 2 <= ratio <= 5:
                total += 0.7 * exposed(weights, ratio, PAIRS) / max(reference / 2, 50.0)
        return total

    def told(weights: Weights) -> str:
        pairs = ", ".join(f"x{r:g} {exposed(weights, r, 0):.0f}/{exposed(weights, r, PAIRS):.0f}" for r in references)
        return f"{pairs} exposed without/with shadow; {100 * false_alarms(weights):.2f} % of false alarms"

    return objective, told


def not_worse_objective(runs: int) -> tuple[Objective, Callable[[Weights], str]]:
    """Of the bets that promote."""
    rng = np.random.default_rng(SEED)
    streams: dict[tuple[float, int], Stream] = {}
    for margin, events in ((1.5, 2500), (2.0, 800), (3.0, 320)):
        for pairs in (0, PAIRS):

            def factors(share: float, margin: float = margin) -> Floats:
                both: Floats = log_label_factors(np.array([share]), margin, margin ** (1 - EFFECTS))[0]
                return both

            streams[margin, pairs] = _stream(rng, runs, 1.0, factors, events, pairs)._replace(shadow=None)
    references = {m: [float(n.strip("()")) / RHO for n in text.split()] for m, text in PROMOTION_REFERENCE.items()}

    def quantiles(weights: Weights, margin: float, pairs: int) -> Floats:
        both = streams[margin, pairs].reached(weights, PROMOTION_ALPHA) + 2 * pairs
        found: Floats = np.quantile(both, [0.5, 0.9], method="inverted_cdf")
        return found

    def objective(weights: Weights) -> float:
        shares = [quantiles(weights, *key) / references[key[0]] for key in streams]
        return float(sum(median + 0.6 * p90 for median, p90 in shares))

    def told(weights: Weights) -> str:
        return ", ".join(
            f"margin {m:g} {'with' if p else 'without'} shadow {quantiles(weights, m, p)[0]:,.0f}" for m, p in streams
        )

    return objective, told


def search(objective: Objective, bets: int, seconds: float, rng: np.random.Generator) -> Weights:
    """The best weights that so long a search finds."""
    best = np.full(bets, 1 / bets)
    least, began = objective(best), time.monotonic()
    while time.monotonic() - began < seconds:
        weights = best * np.exp(rng.normal(0, 0.5, bets) * (rng.random(bets) < 0.4))
        weights /= weights.sum()
        if (value := objective(weights)) < least:
            best, least = weights, value
    return best


def main(argv: list[str] | None = None) -> None:
    """Print both priors and what they come to."""
    parser = argparse.ArgumentParser(description="Choose the weights of the bets on errors.")
    parser.add_argument("--seconds", type=float, default=300.0, help="of search, for each of the two")
    parser.add_argument("--runs", type=int, default=1500)
    options = parser.parse_args(argv)
    if options.runs < 1 or options.seconds < 0:
        parser.error("RUNS must be at least 1 and SECONDS at least 0")
    grids: Mapping[str, tuple[Floats, tuple[Objective, Callable[[Weights], str]]]] = {
        "worse": (RATIOS, worse_objective(options.runs)),
        "not worse": (EFFECTS, not_worse_objective(options.runs)),
    }
    for name, (grid, (objective, told)) in grids.items():
        weights = search(objective, grid.size, options.seconds, np.random.default_rng(1))
        print(
            name,
            dict(zip(grid.tolist(), weights.round(3).tolist(), strict=True)),
            told(weights),
            sep="\n  ",
            flush=True,
        )


if __name__ == "__main__":
    main()
