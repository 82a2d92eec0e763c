"""Numbers as people read them: the same in messages, in the terminal view and in the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relevo.rollout.spec import RolloutSpec

__all__ = ["deploy_verb", "e_value", "milliseconds", "percent", "ratio", "seconds"]

NOTHING = "-"
"""Stands where there is no number."""


def deploy_verb(spec: RolloutSpec) -> str:
    """The command that begins a rollout of this strategy, and goes on with it."""
    return "deploy-canary" if spec.strategy.blue_green is None else "deploy-blue-green"


def e_value(value: float | None) -> str:
    """An e-value with two or three significant digits: 0.62, 14.2, 9,230, 2.1e11."""
    if value is None:
        return NOTHING
    if value < 0.01:
        return "< 0.01"
    if value >= 1e300:
        return "> 1e300"
    if value >= 1e5:
        return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.2g}" if value < 10 else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def percent(part: float, whole: float, digits: int = 2) -> str:
    """A share in percent; a dash where there is no whole."""
    return f"{100 * part / whole:.{digits}f} %" if whole else NOTHING


def milliseconds(value: float | None) -> str:
    """A latency, given in milliseconds."""
    return NOTHING if value is None else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def ratio(value: float | None) -> str:
    """A risk ratio, "infinite" where none is given because the other side never had the event."""
    if value is None:
        return "infinite"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.3g}"


def seconds(value: float) -> str:
    """A duration, given in seconds: 42 s, 3 min 05 s, 1 h 02 min."""
    whole = max(int(value), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
