"""Latency evidence where requests really queue: each arm is one server, and who waits, waits behind the same request as the one before.

The bets take every request for a witness by itself. Here that is wrong by as much as the server is busy: Lindley's recursion for two equal
servers, each with half of the traffic, Poisson arrivals and lognormal service (p99 three times p50). The candidate is as good as
the stable revision; the share of runs in which the latency check alone would roll it back is the false alarms that queueing makes.
`clustering` is the policy's: by how much the log of the e-value is divided (`relevo.rollout.checks`); its tolerance of 10 % is kept.

"Windows" is a way out that was tried and is not in production: only which arm had more requests over the stable p75 in a window of time is
bet on, so that however alike requests are within a window, it is one witness.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from relevo.simulation.outcomes import binomial
from relevo.statistics import log_e_slower, log_limit
from relevo.statistics.counts import Floats

__all__ = ["CLUSTERINGS", "UTILISATIONS", "false_alarms"]

UTILISATIONS = {f"{100 * u:.0f} % busy": u for u in (0.2, 0.5, 0.7, 0.8, 0.9)}
CLUSTERINGS = (1, 2, 4, 8, 16)
QUANTILES = np.array([0.5, 0.75, 0.9, 0.95, 0.99])
ALPHA, REQUESTS, LOOK_EVERY, WARM_UP, CHUNK = 0.05, 10_000, 100, 2_000, 100
SPREAD, TOLERANCE = float(np.log(3) / 2.3263), 0.1
WINDOWS = (100, 500)
"""Requests of each arm in a window."""


def false_alarms(utilisation: str, runs: int, seed: int) -> dict[str, Any]:
    """By clustering, the share of runs that are rolled back within 10,000 requests to each arm; and how alike neighbours are."""
    rng = np.random.default_rng(seed)
    busy = UTILISATIONS[utilisation]
    calm = sojourn(rng, 50, busy).ravel()
    thresholds = np.quantile(calm, QUANTILES)
    hits = dict.fromkeys([f"clustering {c}" for c in CLUSTERINGS] + [f"windows of {w}" for w in WINDOWS], 0)
    for begin in range(0, runs, CHUNK):
        size = min(CHUNK, runs - begin)
        arms = [sojourn(rng, size, busy) for _ in range(2)]
        highest = _highest(arms, thresholds)
        for clustering in CLUSTERINGS:
            hits[f"clustering {clustering}"] += int((highest / clustering >= log_limit(ALPHA)).sum())
        for window in WINDOWS:
            hits[f"windows of {window}"] += int(
                (_highest_by_windows(arms, thresholds[1], window) >= log_limit(ALPHA)).sum()
            )
    ranks = np.argsort(np.argsort(calm[:REQUESTS]))
    alike = float(np.corrcoef(ranks[:-1], ranks[1:])[0, 1])
    rows: dict[str, Any] = {"runs": runs, "neighbours": {"mean": alike, "standard_error": 1 / float(np.sqrt(REQUESTS))}}
    for name, count in hits.items():
        share, error = binomial(count, runs)
        rows[name] = {"share": share, "standard_error": error}
    return rows


def sojourn(rng: np.random.Generator, runs: int, busy: float) -> Floats:
    """Waiting and service time of each request at one server, (runs, requests), after the queue has settled."""
    count = REQUESTS + WARM_UP
    service = rng.lognormal(0.0, SPREAD, (count, runs))
    between = rng.exponential(float(np.exp(SPREAD**2 / 2)) / busy, (count, runs))
    waiting, times = np.zeros(runs), np.empty((count, runs))
    for i in range(count):
        waiting = np.maximum(waiting - between[i], 0.0)
        times[i] = waiting + service[i]
        waiting = times[i]
    return np.ascontiguousarray(times[WARM_UP:].T)


def _highest(arms: list[Floats], thresholds: Floats) -> Floats:
    """The highest log e-value against the candidate over all looks, (runs,)."""
    over = []
    for times, cuts in zip(arms, (thresholds, thresholds * (1 + TOLERANCE)), strict=True):
        by_look = (times[:, :, None] > cuts).reshape(len(times), -1, LOOK_EVERY, thresholds.size).sum(axis=2)
        over.append(by_look.cumsum(axis=1))
    counts = np.stack(over, axis=-1).astype(np.float64)
    total = np.broadcast_to(
        np.arange(1, counts.shape[1] + 1)[None, :, None] * float(LOOK_EVERY), (*counts.shape[:2], 2)
    )
    log_e = log_e_slower(counts[:, :, :, None], total[:, :, None], 0.5, 1 - QUANTILES)
    highest: Floats = log_e.max(axis=1)
    return highest


def _highest_by_windows(arms: list[Floats], threshold: float, window: int) -> Floats:
    """The same, of a bet on the arm that has more requests over the threshold in a window; ties say nothing."""
    slow = [
        (times > cut).reshape(len(times), -1, window).sum(axis=2)
        for times, cut in zip(arms, (threshold, threshold * (1 + TOLERANCE)), strict=True)
    ]
    wins, losses = (slow[1] > slow[0]).cumsum(axis=1), (slow[1] < slow[0]).cumsum(axis=1)
    chances = np.array([0.55, 0.65, 0.75, 0.85, 0.95])
    log_bets = wins[..., None] * np.log(2 * chances) + losses[..., None] * np.log(2 * (1 - chances))
    log_e: Floats = np.logaddexp.reduce(log_bets, axis=-1) - np.log(chances.size)
    highest: Floats = log_e.max(axis=1)
    return highest
