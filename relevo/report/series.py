"""From the samples that the ticks stored (`Snapshot.sample`) to series over time, for `relevo.report.plots`.

Samples may be few, thin or of an older version: what one lacks is a gap (NaN) in its series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARMS", "Span", "Timeline", "sliding_rate", "timeline"]

Floats = NDArray[np.float64]

ARMS = ("stable", "candidate")
MOST_POINTS = 600
"""More points than a plot has pixels only make the page heavy."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in seconds since the rollout began, that one phase or hold took."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Series over time. All arrays have shape [samples]; `seconds` counts since the rollout began."""

    seconds: Floats
    weight_set: Floats
    weight_live: Floats
    weight_seen: Floats
    counts: Mapping[str, Mapping[str, Floats]]
    """By arm: requests, errors, labelled, wrong (cumulative), p50_ms, p99_ms (over all requests so far)."""
    against: Mapping[str, Floats]
    """E-values by check, and "together"."""
    proof: Mapping[str, Floats]
    phases: tuple[Span, ...]
    holds: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.seconds)


def timeline(samples: Sequence[Mapping[str, Any]]) -> Timeline:
    """Build the series. Samples without a time are left out."""
    kept = _thin([s for s in samples if _time(s) is not None])
    first = _time(kept[0], "started_at") or _time(kept[0]) if kept else None
    seconds = np.array([((_time(s) or first) - first).total_seconds() for s in kept] if first else [], dtype=float)
    names = tuple(dict.fromkeys(str(c.get("name")) for s in kept for c in s.get("checks") or ()))
    # Once all traffic is the candidate's, the platform knows it as the stable revision, and its weight as a candidate is 0.
    promoted = np.array([s.get("phase") == "Promoted" for s in kept], dtype=bool)
    return Timeline(
        seconds,
        np.where(promoted, 100.0, _column(kept, "weight_set_percent")),
        np.where(promoted, 100.0, _column(kept, "weight_live_percent")),
        _column(kept, "weight_seen_percent"),
        {arm: _arm(kept, i) for i, arm in enumerate(ARMS)},
        {**{name: _check(kept, name, "e_against") for name in names}, "together": _column(kept, "e_against")},
        {name: _check(kept, name, "e_for") for name in names},
        _spans(seconds, [str(s.get("beneath") or s.get("phase") or "") for s in kept]),
        tuple(span for span in _spans(seconds, ["held" if s.get("hold") else "" for s in kept]) if span.name),
    )


def sliding_rate(bad: Floats, total: Floats, seconds: Floats, window_seconds: float, *, least: int = 20) -> Floats:
    """The rate of bad events among those of the last `window_seconds`, from cumulative counts; NaN below `least` events.

    Counts that fall (a source was lost, another is now the widest) give NaN, too.
    """
    if not len(seconds):
        return np.array([], dtype=float)
    before = np.searchsorted(seconds, seconds - window_seconds, side="left")
    events, of = bad - bad[before], total - total[before]
    usable = (of >= least) & (events >= 0)
    return np.where(usable, events / np.where(usable, of, 1.0), np.nan)


def _thin(samples: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most about MOST_POINTS samples: evenly chosen ones, and all at which the phase, the weight or a hold changes."""
    if len(samples) <= MOST_POINTS:
        return samples
    stride = len(samples) / MOST_POINTS
    chosen = {round(i * stride) for i in range(MOST_POINTS)} | {0, len(samples) - 1}
    for i in range(1, len(samples)):
        if _place(samples[i]) != _place(samples[i - 1]):
            chosen |= {i - 1, i}
    return [samples[i] for i in sorted(chosen) if i < len(samples)]


def _place(sample: Mapping[str, Any]) -> tuple[Any, ...]:
    return sample.get("phase"), sample.get("beneath"), sample.get("weight_live_percent"), bool(sample.get("hold"))


def _time(sample: Mapping[str, Any], key: str = "at") -> datetime | None:
    try:
        return datetime.fromisoformat(str(sample.get(key)))
    except ValueError:
        return None


def _column(samples: Sequence[Mapping[str, Any]], key: str) -> Floats:
    return np.array([_number(s.get(key)) for s in samples], dtype=float)


def _arm(samples: Sequence[Mapping[str, Any]], index: int) -> dict[str, Floats]:
    arms = [(s.get("arms") or [{}, {}])[index] for s in samples]
    return {key: _column(arms, key) for key in ("requests", "errors", "labelled", "wrong", "p50_ms", "p99_ms")}


def _check(samples: Sequence[Mapping[str, Any]], name: str, key: str) -> Floats:
    checks: list[Mapping[str, Any]] = [
        next((c for c in s.get("checks") or () if c.get("name") == name), {}) for s in samples
    ]
    return _column(checks, key)


def _spans(seconds: Floats, names: Sequence[str]) -> tuple[Span, ...]:
    """Runs of equal names; each ends where the next begins."""
    spans, position = [], 0
    for name, run in groupby(names):
        begin, position = position, position + len(list(run))
        spans.append(Span(name, float(seconds[begin]), float(seconds[min(position, len(seconds) - 1)])))
    return tuple(spans)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan
