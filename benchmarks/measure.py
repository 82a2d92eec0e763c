"""Small things that the benchmarks share: quantiles and Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["quantiles", "table"]


def quantiles(values: Iterable[float]) -> tuple[float, float, float]:
    """p50, p95 and the maximum; nan where there is nothing. A quantile is the next higher value that was measured, never below."""
    found = np.fromiter(values, dtype=float)
    if not found.size:
        return math.nan, math.nan, math.nan
    p50, p95 = np.quantile(found, [0.5, 0.95], method="inverted_cdf")
    return float(p50), float(p95), float(found.max())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)
