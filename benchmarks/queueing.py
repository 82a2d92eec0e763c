"""Latency evidence where requests really queue: each arm is one server, and who waits, waits behind the same request as the one before.

Lindley's recursion for two equal servers, each with half of the traffic, Poisson arrivals and lognormal service (p99 three times p50). The
candidate is as good as the stable revision; the share of runs in which the latency check alone would roll it back is the false
alarms that queueing makes. Beside production's windows (`relevo.statistics.windows`) stands a bet on every request by itself
(`relevo.statistics.exceedance`), with the log of its e-value divided by a fixed number, and windows that take no account of neighbours
that are alike. The second table of rows is of a slower candidate: how many of its requests each of them needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.windows_judged import Judge
from relevo.rollout.spec import LatencyCheck
from relevo.simulation.outcomes import binomial
from relevo.statistics import log_e_slower, log_limit
from relevo.statistics.counts import Floats

__all__ = ["COLUMNS", "ROWS", "row"]

ROWS = {
    **{f"{100 * u:.0f} % busy": (u, 1.0, 0.0) for u in (0.2, 0.5, 0.7, 0.8, 0.9)},
    **{f"{100 * u:.0f} % busy, answers take x1.6": (u, 1.6, 0.0) for u in (0.2, 0.5, 0.8)},
    **{f"{100 * u:.0f} % busy, answers take x3": (u, 3.0, 0.0) for u in (0.2, 0.5)},
    **{f"{100 * u:.0f} % busy, 3 % of answers take long": (u, 1.0, 0.03) for u in (0.2, 0.5)},
}
"""How busy the servers are; how much longer the candidate's answers take, all of them or a share."""

CLUSTERINGS = (1, 3, 10)
WINDOWS = (10, 20, 40)
COLUMNS = tuple(f"every request, / {c}" for c in CLUSTERINGS) + tuple(f"windows of {w}" for w in WINDOWS)
QUANTILES = np.array(LatencyCheck().quantiles)
ALPHA, REQUESTS, LOOK_EVERY, WARM_UP, CHUNK = 0.05, 10_000, 10, 2_000, 200
SINGLY_EVERY = 5
"""The bets on every request are only asked at every fifth look: they are slow to work out, and not what production does."""
SPREAD, TOLERANCE = float(np.log(3) / 2.3263), 0.25


def row(name: str, runs: int, seed: int) -> dict[str, Any]:
    """By rule, the share of runs that are rolled back within 10,000 requests to each arm, and the candidate's requests until then."""
    rng = np.random.default_rng(seed)
    busy, slower, stalled = ROWS[name]
    calm = sojourn(rng, 50, busy)
    thresholds = np.quantile(calm, QUANTILES)
    looks: dict[str, list[Floats]] = {column: [] for column in COLUMNS}
    for begin in range(0, runs, CHUNK):
        size = min(CHUNK, runs - begin)
        stable, candidate = sojourn(rng, size, busy), sojourn(rng, size, busy) * slower
        if stalled:
            candidate += 5 * thresholds[-1] * (rng.random(candidate.shape) < stalled)
        over, total = _counts((stable, candidate), thresholds)
        singly = slice(SINGLY_EVERY - 1, None, SINGLY_EVERY)
        by_request = _every_request(over[:, singly], total[:, singly])
        for clustering in CLUSTERINGS:
            looks[f"every request, / {clustering}"].append(
                _requests(by_request / clustering, SINGLY_EVERY * LOOK_EVERY)
            )
        for window in WINDOWS:
            full = slice(window // LOOK_EVERY - 1, None, window // LOOK_EVERY)  # at the other looks no window closes
            log_e = Judge(size, 1 - QUANTILES, window).at_every_look(
                total[:, full], over[:, full], float(log_limit(ALPHA))
            )
            looks[f"windows of {window}"].append(_requests(log_e, window))
    ranks = np.argsort(np.argsort(calm[0, :REQUESTS]))
    alike = float(np.corrcoef(ranks[:-1], ranks[1:])[0, 1])
    rows: dict[str, Any] = {"runs": runs, "neighbours": {"mean": alike, "standard_error": 1 / float(np.sqrt(REQUESTS))}}
    for column, parts in looks.items():
        until = np.concatenate(parts)
        share, error = binomial(int(np.isfinite(until).sum()), runs)
        capped = np.minimum(until, REQUESTS)
        rows[column] = {"share": share, "standard_error": error}
        rows[f"{column}: requests"] = {
            "mean": float(capped.mean()),
            "standard_error": float(capped.std(ddof=1) / np.sqrt(runs)) if runs > 1 else None,
        }
    return rows


def _every_request(over: Floats, total: Floats) -> Floats:
    """Log e-values of the bets on every request at each look, (runs, looks); 0 once a run needs no more, however it is divided."""
    runs, looks = len(total), total.shape[1]
    log_e = np.zeros((runs, looks))
    for begin in range(0, looks, 20):
        running = np.flatnonzero(log_e.max(axis=1) < max(CLUSTERINGS) * float(log_limit(ALPHA)))
        if not running.size:
            break
        slow, sent = over[running, begin : begin + 20, :, None], total[running, begin : begin + 20, None]
        log_e[running, begin : begin + 20] = log_e_slower(slow, sent, 0.5, 1 - QUANTILES)
    return log_e


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


def _counts(arms: tuple[Floats, Floats], thresholds: Floats) -> tuple[Floats, Floats]:
    """Requests over the thresholds (runs, looks, thresholds, 2) and all (runs, looks, 2), cumulated."""
    over = []
    for times, cuts in zip(arms, (thresholds, thresholds * (1 + TOLERANCE)), strict=True):
        each = np.stack([(times > cut).reshape(len(times), -1, LOOK_EVERY).sum(axis=2) for cut in cuts], axis=-1)
        over.append(each.cumsum(axis=1))
    counts = np.stack(over, axis=-1).astype(np.float64)
    asked = np.arange(1, counts.shape[1] + 1)[None, :, None] * float(LOOK_EVERY)
    return counts, np.broadcast_to(asked, (*counts.shape[:2], 2))


def _requests(log_e: Floats, each: int) -> Floats:
    """The candidate's requests until the rollback, with so many from look to look, (runs,); infinite without one."""
    crossed = log_e >= log_limit(ALPHA)
    return np.where(crossed.any(axis=1), (crossed.argmax(axis=1) + 1.0) * each, np.inf)
