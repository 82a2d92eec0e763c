"""benchmarks.measure: quantiles are values that were measured."""

from __future__ import annotations

import math

from benchmarks.measure import quantiles, table


def test_a_quantile_is_never_below_what_that_share_took() -> None:
    """With 20 values p95 is the 19th, not something between two; the maximum is the maximum."""
    assert quantiles(range(1, 21)) == (10.0, 19.0, 20.0)
    assert quantiles([3.0]) == (3.0, 3.0, 3.0)


def test_of_nothing_there_is_no_quantile() -> None:
    """No value gives nan, which no goal accepts."""
    assert all(map(math.isnan, quantiles([])))
    assert not quantiles([])[1] <= 1.0


def test_a_table_has_a_line_per_row() -> None:
    """Heading, rule, rows."""
    assert table(("a", "b"), [(1, "x")]).splitlines() == ["| a | b |", "| --- | --- |", "| 1 | x |"]
