"""The report's plots. Arms and checks differ in line style as well as in colour. `relevo.report.drawing` says how they look."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from relevo.report.drawing import (
    BAD,
    BAND,
    CANDIDATE,
    CHECKS,
    FAINT,
    GOOD,
    HELD,
    INK,
    PAPER,
    SIZE_INCHES,
    STABLE,
    STYLE,
    to_svg,
)
from relevo.report.series import ARMS, Timeline, sliding_rate

__all__ = ["errors", "evidence", "latency", "mix", "weights", "window_seconds"]

_ARM_COLOURS = {"stable": STABLE, "candidate": CANDIDATE}
_CHECK_DASHES = {
    "errors": "-",
    "latency": (0, (5, 1.5)),
    "predictions": (0, (1.5, 1.2)),
    "accuracy": (0, (5, 1.5, 1, 1.5)),
}


def window_seconds(line: Timeline) -> float:
    """How long the sliding window of the rates is: a fifteenth of the rollout, within 3 s and 10 minutes."""
    return float(min(max(round(line.seconds[-1] / 15), 3), 600)) if len(line) else 3.0


def weights(line: Timeline) -> Markup:
    """The candidate's share of the traffic: set, live in the proxy, and as seen in the requests of the step."""
    with mpl.rc_context(STYLE):
        figure, axes = _over_time(line, name_phases=True)
        axes.step(
            line.seconds, line.weight_set, where="post", color=FAINT, linestyle=(0, (4, 2)), linewidth=1.2, label="set"
        )
        axes.step(line.seconds, line.weight_live, where="post", color=CANDIDATE, label="live in the proxy")
        axes.plot(line.seconds, line.weight_seen, ".", color=INK, markersize=3.5, label="seen in requests")
        top = max(_greatest(line.weight_live, line.weight_set, line.weight_seen) * 1.2, 10)
        axes.set_ylim(0, min(top, 108))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        _legend(axes)
        return to_svg(figure, "Weight of the candidate over time", "weights")


def errors(line: Timeline) -> Markup:
    """The share of failed requests by arm: over all requests so far, and pale over a sliding window."""
    with mpl.rc_context(STYLE):
        figure, axes = _over_time(line)
        rates = []
        for arm in ARMS:
            colour = _ARM_COLOURS[arm]
            counts = line.counts[arm]
            bad, total = counts["errors"], counts["requests"]
            so_far = 100 * np.divide(bad, total, out=np.full_like(bad, np.nan), where=total > 0)
            lately = 100 * sliding_rate(bad, total, line.seconds, window_seconds(line))
            axes.plot(line.seconds, lately, color=colour, linewidth=1.1, alpha=0.45)
            axes.plot(line.seconds, so_far, color=colour, label=arm)
            rates += [so_far, lately]
        axes.set_ylim(0, max(_greatest(*rates) * 1.15, 0.1))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        _legend(axes)
        return to_svg(figure, "Error rate by arm over time", "errors")


def latency(line: Timeline) -> Markup:
    """p50 and p99 by arm, each over all requests so far: the samples keep quantiles, which cannot be subtracted."""
    with mpl.rc_context(STYLE):
        figure, axes = _over_time(line)
        drawn = []
        for arm in ARMS:
            colour = _ARM_COLOURS[arm]
            for key, dashes in (("p99_ms", (0, (4, 1.5))), ("p50_ms", "-")):
                values = line.counts[arm][key]
                axes.plot(line.seconds, values, color=colour, linestyle=dashes, label=f"{arm} {key[:3]}")
                drawn.append(values)
        high, low = _greatest(*drawn), -_greatest(*(-v for v in drawn), floor=-math.inf)
        if high and math.isfinite(low) and low > 0 and high / low > 10:
            axes.set_yscale("log")
            axes.set_ylim(low / 1.5, high * 1.5)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(0, max(high * 1.15, 1))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} ms"))
        _legend(axes, columns=2)
        return to_svg(figure, "Latency quantiles by arm over time", "latency")


def evidence(line: Timeline, values: Mapping[str, NDArray[np.float64]], limit: float, *, against: bool) -> Markup:
    """E-values per check on a log axis with their limit; against the candidate, also all checks together."""
    with mpl.rc_context(STYLE):
        figure, axes = _over_time(line)
        axes.set_yscale("log")
        low, high = 1e-2, limit * 50
        for name, e in values.items():
            shown = np.clip(e, low, high)
            if name == "together":
                axes.plot(line.seconds, shown, color=INK, linewidth=2.6, label="together", zorder=3)
            else:
                colour = CHECKS.get(name, FAINT)
                axes.plot(line.seconds, shown, color=colour, linestyle=_CHECK_DASHES.get(name, "-"), label=name)
        axes.axhline(limit, color=BAD if against else GOOD, linewidth=1.3, linestyle=(0, (6, 3)), zorder=1)
        note = f"limit {limit:g}: roll back" if against else f"limit {limit:g}: proven"
        # At the side where the lines are not: evidence grows towards the right.
        axes.annotate(
            note, (0.01, limit), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=9.5
        )
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
        _legend(axes, columns=3)
        title = "E-values against the candidate over time" if against else "E-values for the candidate over time"
        return to_svg(figure, title, "against" if against else "proof")


def mix(stable: Mapping[str, int], candidate: Mapping[str, int], *, most: int = 20) -> Markup:
    """The share of each predicted class by arm, as grouped bars; beyond `most` classes the rarest are one bar."""
    counts = [dict(stable), dict(candidate)]
    classes = sorted({*stable, *candidate}, key=_natural)
    if len(classes) > most:
        common = sorted(classes, key=lambda c: -(stable.get(c, 0) + candidate.get(c, 0)))[: most - 1]
        counts = [
            {**{c: k.get(c, 0) for c in common}, "others": sum(k.values()) - sum(k.get(c, 0) for c in common)}
            for k in counts
        ]
        classes = [*sorted(common, key=_natural), "others"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(visible=False, axis="x")
        at, width = np.arange(len(classes)), 0.38
        for arm, side, count in zip(ARMS, (-1, 1), counts, strict=True):
            total = sum(count.values())
            shares = [100 * count.get(c, 0) / total if total else 0.0 for c in classes]
            hatch = "" if arm == "stable" else "////"
            bars = axes.bar(
                at + side * width / 2,
                shares,
                width * 0.94,
                color=_ARM_COLOURS[arm],
                edgecolor=PAPER,
                linewidth=0,
                hatch=hatch,
                label=arm,
            )
            if len(classes) <= 5:
                axes.bar_label(bars, [f"{s:.1f} %" for s in shares], padding=2, fontsize=9)
        axes.set_xticks(at, [_shorten(c) for c in classes], rotation=0 if len(classes) <= 10 else 60)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        axes.margins(y=0.12)
        _legend(axes)
        return to_svg(figure, "Share of each predicted class by arm", "mix")


def _over_time(line: Timeline, *, name_phases: bool = False) -> tuple[Figure, Axes]:
    """An empty plot over time, with every second phase shaded and holds hatched."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=False, axis="x")
    end = max(float(line.seconds[-1]) if len(line) else 0.0, 1.0)
    for i, span in enumerate(line.phases):
        if i % 2 == 0:
            axes.axvspan(span.begin, span.end, color=BAND, linewidth=0, zorder=0)
        # Room for its name at about 6 pixels a letter.
        if name_phases and (span.end - span.begin) / end * 66 > len(span.name):
            axes.annotate(
                span.name,
                (span.begin, 0.985),
                xycoords=("data", "axes fraction"),
                xytext=(4, 0),
                textcoords="offset points",
                va="top",
                fontsize=9,
                color=FAINT,
            )
    for i, span in enumerate(line.holds):
        axes.axvspan(
            span.begin, max(span.end, span.begin + end / 300), facecolor="none", edgecolor=HELD, hatch="///", linewidth=0, zorder=0,
            label="held" if name_phases and i == 0 else None,
        )  # fmt: skip
    axes.set_xlim(0, end)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(unit="s", sep=" ") if end < 600 else FuncFormatter(_clock))
    return figure, axes


def _clock(seconds: float, _: int | None = None) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if seconds >= 3600 else f"{minutes} min"


def _legend(axes: Axes, columns: int = 5) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.1, handlelength=2.2,
            columnspacing=1.4, fontsize=9.5,
        )  # fmt: skip


def _greatest(*series: NDArray[np.float64], floor: float = 0.0) -> float:
    values = [float(v) for one in series for v in one if math.isfinite(v)]
    return max(values, default=floor)


def _natural(name: str) -> tuple[int, float, str]:
    return (0, float(name), "") if re.fullmatch(r"\d{1,15}", name) else (1, 0.0, name)


def _shorten(name: str, most: int = 14) -> str:
    # A dollar sign would begin matplotlib's formula mode.
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")
