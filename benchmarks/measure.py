"""Small things that the benchmarks share: quantiles, Markdown tables, and their pages."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

__all__ = ["command_of", "publish", "quantiles", "table"]


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


def command_of(name: str, arguments: list[str] | None) -> str:
    """How the benchmark of that name was called."""
    return " ".join([f"python -m benchmarks.{name}", *(sys.argv[1:] if arguments is None else arguments)])


def publish(page: str, output: Path | None) -> None:
    """Print a page, and write it where that is wanted."""
    print(page)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
