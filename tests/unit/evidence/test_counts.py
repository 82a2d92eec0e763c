"""The latency histogram's edges."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relevo.evidence.counts import LATENCY_EDGES_MS, latency_bucket


def test_edges_grow_by_a_tenth_and_span_half_a_millisecond_to_a_minute() -> None:
    """A quantile read from the histogram is off by 10 % at most, from 0.5 ms to 60 s."""
    assert (LATENCY_EDGES_MS[0], LATENCY_EDGES_MS[-1]) == (0.5, 60_000.0)
    assert all(1.0 < above / below < 1.101 for below, above in pairwise(LATENCY_EDGES_MS))


@pytest.mark.parametrize(
    ("latency_ms", "bucket"),
    [
        (0.0, 0),
        (0.5, 0),
        (0.5001, 1),
        (0.55, 1),
        (60_000.0, len(LATENCY_EDGES_MS) - 1),
        (60_001.0, len(LATENCY_EDGES_MS)),
    ],
)
def test_a_latency_belongs_to_the_first_edge_that_it_does_not_exceed(latency_ms: float, bucket: int) -> None:
    """Edges are upper edges, themselves included, and what is above all has a bucket of its own."""
    assert latency_bucket(latency_ms) == bucket
