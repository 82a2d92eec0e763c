"""The latency histogram that relevo's own load generator keeps. Neighbours: `wire` carries it, `loadtests.tally` fills it."""

from __future__ import annotations

from bisect import bisect_left
from itertools import takewhile

__all__ = ["LATENCY_EDGES_MS", "latency_bucket"]

_FIRST_EDGE_MS = 0.5
_LAST_EDGE_MS = 60_000.0
_RATIO = 1.1


def _edges() -> tuple[float, ...]:
    ladder = (float(f"{_FIRST_EDGE_MS * _RATIO**i:.4g}") for i in range(1000))
    return (*takewhile(lambda edge: edge < _LAST_EDGE_MS, ladder), _LAST_EDGE_MS)


LATENCY_EDGES_MS = _edges()
"""Upper edges of the buckets in ms, each 1.1 times the one before: a quantile read from them is off by 10 % at most."""


def latency_bucket(latency_ms: float) -> int:
    """Say which bucket a latency belongs to: the first whose edge it does not exceed, `len(LATENCY_EDGES_MS)` when above all."""
    return bisect_left(LATENCY_EDGES_MS, latency_ms)
