"""The plots of a simulation, as SVG that takes its colours from the page's style sheet, as the report's do."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from relevo.simulation.outcomes import Summary

__all__ = ["ends", "exposure", "times", "to_svg"]

_VARIABLES = ("ink", "faint", "grid", "good", "bad", "held", "candidate")
_COLOURS = {name: f"#0f2e{i:02x}" for i, name in enumerate(_VARIABLES, 1)}
"""Marker colours, one per variable of the style sheet."""

_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.edgecolor": _COLOURS["grid"],
    "axes.labelcolor": _COLOURS["faint"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _COLOURS["grid"],
    "grid.linewidth": 0.7,
    "text.color": _COLOURS["ink"],
    "xtick.color": _COLOURS["faint"],
    "ytick.color": _COLOURS["ink"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": _COLOURS["ink"],
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_ENDS = (
    ("promoted", "good", ""),
    ("inconclusive", "held", "...."),
    ("open", "faint", "xx"),
    ("rolled_back", "bad", "////"),
)


def ends(rows: Sequence[tuple[str, Summary]]) -> Markup:
    """How the rollouts of each candidate ended, as stacked bars."""
    with mpl.rc_context(_STYLE):
        figure, axes = _bars(len(rows))
        left = [0.0] * len(rows)
        for name, colour, hatch in _ENDS:
            shares = [100 * getattr(summary, name)[0] for _, summary in rows]
            label = {"open": "held", "rolled_back": "rolled back"}.get(name, name)
            if any(shares):
                look: dict[str, Any] = {
                    "color": _COLOURS[colour],
                    "hatch": hatch,
                    "label": label,
                    "alpha": 0.85,
                    "linewidth": 0,
                }
                axes.barh(range(len(rows)), shares, left=left, height=0.7, **look)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axes.set_xlim(0, 100)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        _name_rows(axes, [name for name, _ in rows])
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=9, handlelength=1.2, columnspacing=2.2)
        return to_svg(figure, "How rollouts end, by candidate", "ends")


def exposure(rows: Sequence[tuple[str, Summary]]) -> Markup:
    """The candidate's requests until the decision, mean with two standard errors, on a log axis."""
    with mpl.rc_context(_STYLE):
        figure, axes = _bars(len(rows))
        for index, (_, summary) in enumerate(rows):
            mean, error = summary.exposed
            low = max(mean - 2 * error, 0.5)
            axes.plot([low, mean + 2 * error], [index, index], color=_COLOURS["candidate"], linewidth=1.6)
            axes.plot([max(mean, 0.5)], [index], "o", color=_COLOURS["candidate"], markersize=5)
            axes.annotate(
                f"{mean:,.0f}", (mean + 2 * error, index), (7, 0), textcoords="offset points", va="center", fontsize=9
            )
        axes.set_xscale("log")
        top = max((s.exposed[0] for _, s in rows), default=10)
        axes.set_xlim(0.8, max(top * 4, 10))
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
        _name_rows(axes, [name for name, _ in rows])
        return to_svg(figure, "Candidate requests until the decision", "exposure")


def times(rows: Sequence[tuple[str, Summary]]) -> Markup:
    """Seconds to the promotion and to the rollback: median to 90th percentile."""
    with mpl.rc_context(_STYLE):
        figure, axes = _bars(len(rows))
        longest = 1.0
        for index, (_, summary) in enumerate(rows):
            spreads = ((summary.seconds_to_promote, "good", -0.16), (summary.seconds_to_rollback, "bad", 0.16))
            for spread, colour, offset in spreads:
                if spread is not None:
                    axes.plot(spread, [index + offset] * 2, color=_COLOURS[colour], linewidth=2)
                    axes.plot(spread[:1], [index + offset], "o", color=_COLOURS[colour], markersize=5)
                    longest = max(longest, spread[1])
        axes.plot([], [], "o-", color=_COLOURS["good"], label="to promotion")
        axes.plot([], [], "o-", color=_COLOURS["bad"], label="to rollback")
        axes.set_xlim(0, longest * 1.05)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g} s"))
        _name_rows(axes, [name for name, _ in rows])
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9.5)
        return to_svg(figure, "Seconds to the decision: median to 90th percentile", "times")


def _bars(rows: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 0.7 + 0.3 * max(rows, 3)), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=False, axis="y")
    return figure, axes


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [n.replace("$", r"\$") for n in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def to_svg(figure: Figure, title: str, key: str) -> Markup:
    """The figure as an SVG element to put into a page, in the page's colours and font."""
    buffer = io.StringIO()
    # Identifiers are made from the salt: the plots of one page must not share them.
    with mpl.rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern in (r"<metadata>.*?</metadata>", r"<!--.*?-->"):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    for variable, colour in _COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    view_box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {view_box[0] if view_box else ""} role="img" aria-label="{title}">'
    return Markup(re.sub(r"<svg[^>]*>", opening, text, count=1))
