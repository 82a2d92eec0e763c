"""How the report's plots look: their style, their colours, and their way from matplotlib to SVG that is part of the page.

matplotlib draws in marker colours that no one would choose; `to_svg` replaces each by a variable of the page's style sheet
(`templates/report.css`), so that one drawing serves light, dark and paper. `relevo.report.plots` says what is drawn.
"""

from __future__ import annotations

import io
import re

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

__all__ = [
    "BAD",
    "BAND",
    "CANDIDATE",
    "CHECKS",
    "FAINT",
    "GOOD",
    "GRID",
    "HELD",
    "INK",
    "PAPER",
    "SIZE_INCHES",
    "STABLE",
    "STYLE",
    "to_svg",
]

INK, FAINT, GRID, PAPER, STABLE, CANDIDATE, GOOD, BAD, HELD, BAND = (f"#0f1e{i:02x}" for i in range(1, 11))
CHECKS = {name: f"#0f1f{i:02x}" for i, name in enumerate(("errors", "latency", "predictions", "accuracy"), 1)}
_VARIABLES = {
    **{INK: "ink", FAINT: "faint", GRID: "grid", PAPER: "paper", STABLE: "stable", CANDIDATE: "candidate"},
    **{GOOD: "good", BAD: "bad", HELD: "held", BAND: "band"},
    **{colour: name for name, colour in CHECKS.items()},
}
SIZE_INCHES = (5.6, 3.1)
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def to_svg(figure: Figure, title: str, key: str) -> Markup:
    """The figure as an SVG element to put into a page, in the page's colours and font."""
    buffer = io.StringIO()
    # Identifiers are made from the salt: plots of one page must not share them, and one report is always the same file.
    with mpl.rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    # All text of users in it was escaped by matplotlib.
    view_box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {view_box[0] if view_box else ""} role="img" aria-label="{title}">'
    return Markup(re.sub(r"<svg[^>]*>", opening, text, count=1))
