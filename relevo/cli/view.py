"""The terminal view: where is the rollout, is it safe, why, what next. Drawn from a `Snapshot` alone; `rich.live.Live` repeats it.

Words and symbols carry the meaning, colours repeat it: the view reads the same under NO_COLOR, in a log file and in plain ASCII.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from relevo.reconcile.snapshot import CheckView, Snapshot
from relevo.rollout.wording import e_value, milliseconds, percent

__all__ = ["render"]

STABLE, CANDIDATE = "cyan", "magenta"
GOOD, BAD, WAITING, QUIET = "green", "red", "yellow", "dim"
STAGES = ("Preparing", "Shadowing", "Shifting", "Promoted")
_VERDICTS = {
    "pass": ("pass", GOOD, "✓", "+"),
    "fail": ("fail", BAD, "✗", "x"),
    "inconclusive": ("not yet", QUIET, "·", "-"),
    "unmeasurable": ("no data", WAITING, "?", "?"),
}


def render(
    snapshot: Snapshot, *, locust_url: str = "", requests_per_second: float | None = None, flags: str = ""
) -> RenderableType:
    """Draw a rollout at one moment, in 80 columns or more.

    `requests_per_second` is what the load generator sends in all; what is not known is left out. `flags` follow the target in the
    commands that the view names.
    """
    return _View(snapshot, locust_url, requests_per_second, flags)


@dataclass(frozen=True, slots=True)
class _View:
    """The view, laid out when the width and the character set of its console are known."""

    snapshot: Snapshot
    locust_url: str
    requests_per_second: float | None
    flags: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Padding(Group(*self._parts(min(options.max_width, 120) - 2, options.ascii_only)), (0, 1))

    def _parts(self, width: int, ascii_only: bool) -> Iterator[RenderableType]:
        s = self.snapshot
        yield _heading(s, width, ascii_only)
        yield Text()
        if not _decided(s):
            line = _stages(s, ascii_only, short=False)
            yield line if line.cell_len <= width else _stages(s, ascii_only, short=True)
        yield _weight(s, self.requests_per_second, width, ascii_only)
        if s.shadow_compared:
            yield _shadow(s)
        yield Text()
        yield _arms(s)
        if s.checks:
            yield Text()
            yield _checks(s, width, ascii_only)
        if notice := _notice(s, width, ascii_only):
            yield Text()
            yield notice
        if foot := _foot(s, self.locust_url, self.flags, width, ascii_only):
            yield Text()
            yield foot


def _heading(s: Snapshot, width: int, ascii_only: bool) -> RenderableType:
    stable, candidate = s.arms
    way = Text.assemble((s.target, "bold"), "   ", no_wrap=True)
    way.append(stable.revision, STABLE)
    way.append(" -> " if ascii_only else " → ", QUIET)
    way.append(candidate.revision or "(no revision yet)", CANDIDATE)
    place = f"{s.phase} {s.step}/{len(s.steps)}" if s.phase == "Shifting" else s.phase
    if s.phase == "Held":
        place = f"Held in {s.beneath}"
    right = Text.assemble((place, f"bold {_phase_style(s)}"), "  ", (_clock(s), QUIET))
    way.truncate(max(width - right.cell_len - 2, 10), overflow="crop" if ascii_only else "ellipsis")
    row = Table.grid(expand=True)
    row.add_column(ratio=1, no_wrap=True, overflow="crop")
    row.add_column(justify="right", no_wrap=True, overflow="crop")
    row.add_row(way, right)
    return row


def _stages(s: Snapshot, ascii_only: bool, *, short: bool) -> Text:
    """The way from start to end with the present place marked; within Shifting every step's weight, or in short their number."""
    done, here, ahead = ("+", ">", ".") if ascii_only else ("✓", "●", "○")
    stages = [stage for stage in STAGES if stage != "Shadowing" or s.beneath == stage or s.shadow_compared]
    now = s.beneath if s.beneath in stages else stages[0]
    line = Text(f"{'stage':<9}", QUIET, no_wrap=True, overflow="crop")
    for stage in stages:
        before = STAGES.index(stage) < STAGES.index(now)
        mark, style = (done, GOOD) if before else (here, f"bold {_phase_style(s)}") if stage == now else (ahead, QUIET)
        line.append(f"{mark} {stage}", style)
        if stage == "Shifting" and s.steps:
            line.append(f" {s.step}/{len(s.steps)}" if short else _weights(s))
        line.append("  ")
    line.rstrip()
    return line


def _weights(s: Snapshot) -> Text:
    weights = Text()
    for number, weight in enumerate(s.steps, start=1):
        style = "bold" if number == s.step else QUIET if number > s.step else GOOD
        weights.append(f" [{weight}]" if number == s.step else f" {weight}", style)
    return weights.append(" %", QUIET)


def _weight(s: Snapshot, requests_per_second: float | None, width: int, ascii_only: bool) -> RenderableType:
    if s.phase in ("Promoted", "RolledBack"):
        arm, style, live = (s.arms[1], CANDIDATE, 100) if s.phase == "Promoted" else (s.arms[0], STABLE, 0)
        detail = f"  all traffic goes to {arm.revision}"
    else:
        seen = "" if s.weight_seen_percent is None else f", seen {s.weight_seen_percent:.1f}"
        detail, style, live = f"  (set {s.weight_set_percent}{seen})", QUIET, s.weight_live_percent
    load = [f"{s.users} users"] if s.users else []
    load += [f"{requests_per_second:,.0f} requests/s"] if s.users and requests_per_second is not None else []
    right = Text.assemble(("load " if load else "", QUIET), ", ".join(load))
    label = Text.assemble((f" {live:>3} %", f"bold {CANDIDATE}"), (detail, style))
    length = max(min(width - 9 - label.cell_len - right.cell_len - 3, 40), 8)
    bar = _bar(live / 100, length, CANDIDATE, track="░", end="", ascii_only=ascii_only)
    left = Text.assemble((f"{'weight':<9}", QUIET), bar, label)
    row = Table.grid(expand=True)
    row.add_column(ratio=1, no_wrap=True, overflow="crop")
    row.add_column(justify="right", no_wrap=True, overflow="crop")
    row.add_row(left, right)
    return row


def _shadow(s: Snapshot) -> Text:
    share = 100 * s.shadow_disagreed / s.shadow_compared
    return Text.assemble(
        (f"{'shadow':<9}", QUIET),
        f"{s.shadow_compared:,} rows sent to both, {s.shadow_disagreed:,} answered differently ({share:.1f} %)",
    )


def _arms(s: Snapshot) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=QUIET)
    table.add_column("", min_width=17, no_wrap=True, overflow="crop")
    for title in ("requests", "errors", "p50", "p99", "accuracy"):
        table.add_column(title, justify="right", min_width=9, no_wrap=True, overflow="crop")
    for name, arm, style in zip(("stable", "new"), s.arms, (STABLE, CANDIDATE), strict=True):
        table.add_row(
            Text.assemble((f"{name:<9}", style), arm.revision.rpartition("-")[2]),
            f"{arm.requests:,}",
            percent(arm.errors, arm.requests, 2),
            milliseconds(arm.p50_ms),
            milliseconds(arm.p99_ms),
            percent(arm.labelled - arm.wrong, arm.labelled, 1),
        )
    return table


def _checks(s: Snapshot, width: int, ascii_only: bool) -> Table:
    length = max(min((width - 48) // 2, 20), 4)
    against, proof = e_value(s.limit_against), e_value(s.limit_for)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=QUIET)
    table.add_column("check", min_width=11, no_wrap=True, overflow="crop")
    table.add_column(f"against it (limit {against})", no_wrap=True, overflow="crop")
    table.add_column(f"for it (limit {proof})", no_wrap=True, overflow="crop")
    table.add_column("verdict", no_wrap=True, overflow="crop")
    for check in s.checks:
        table.add_row(
            check.name,
            _evidence(check.e_against, s.limit_against, length, WAITING, ascii_only),
            _evidence(check.e_for, s.limit_for, length, GOOD, ascii_only),
            _verdict(check, ascii_only),
        )
    # The checks are told apart above, but it is their weighted mean that the limit against holds for.
    over = s.e_against >= s.limit_against
    style = BAD if over else WAITING
    table.add_row(
        Text("together", "bold"),
        _evidence(s.e_against, s.limit_against, length, style, ascii_only),
        Text("each on its own", QUIET),
        Text(f"{'x' if ascii_only else '✗'} over limit" if over else "", BAD),
    )
    return table


def _evidence(e: float | None, limit: float, length: int, style: str, ascii_only: bool) -> Text:
    """An e-value with a bar that begins at 1 (says nothing) and is full at its limit, on a log scale."""
    if e is None:
        return Text(f"{'-':>7}", QUIET)
    log_e = math.log(e) if e > 0 else -math.inf
    share = min(max(log_e / math.log(limit), 0.0), 1.0)
    return Text.assemble(
        f"{e_value(e):>7}  ", _bar(share, length - 1, style, track=" ", end="│", ascii_only=ascii_only)
    )


def _verdict(check: CheckView, ascii_only: bool) -> Text:
    word, style, symbol, plain = _VERDICTS.get(check.verdict, (check.verdict, "", "", ""))
    if not check.gated and check.verdict == "inconclusive":
        word = "watched"
    return Text(f"{plain if ascii_only else symbol} {word}", style)


def _notice(s: Snapshot, width: int, ascii_only: bool) -> RenderableType | None:
    """What must not be missed: why it is held, or the verdict and why."""
    if s.hold:
        title, body, style = "held", s.hold, WAITING
    elif s.reason:
        title, body, style = _title(s), s.reason, _phase_style(s)
    else:
        return None
    symbol = {GOOD: "✓", BAD: "✗", WAITING: "‖"}[style]
    head = title.upper() if ascii_only else f"{symbol} {title.upper()}"
    return Panel(
        Text(body.encode("ascii", "replace").decode() if ascii_only else body),
        title=Text(head, f"bold {style}"),
        title_align="left",
        border_style=style,
        width=width,
        padding=(0, 1),
    )


def _title(s: Snapshot) -> str:
    if s.verdict == "inconclusive":
        return "inconclusive, the stable revision stays"
    return {"Promoting": "promoting", "Promoted": "promoted", "RollingBack": "rolling back"}.get(s.phase, "rolled back")


def _foot(s: Snapshot, locust_url: str, flags: str, width: int, ascii_only: bool) -> Text | None:
    ahead = [f"next: {s.next}"] if s.next and not s.hold else []
    ahead += [f"no answer from {', '.join(s.silent)}"] if s.silent and not (s.hold or _decided(s)) else []
    handles = [f"Locust {locust_url}"] if locust_url else []
    if not _decided(s):
        verb = "rollback" if s.hold else "pause"
        handles.append(f"{verb}: relevo {verb} {s.target}{flags}")
    dot = " | " if ascii_only else " · "
    line = dot.join(ahead + handles)
    if ahead and handles and len(line) > width:
        line = f"{dot.join(ahead)}\n{dot.join(handles)}"
    return Text(line, QUIET) if line else None


def _decided(s: Snapshot) -> bool:
    return s.phase in ("Promoting", "Promoted", "RollingBack", "RolledBack")


def _phase_style(s: Snapshot) -> str:
    if s.phase == "Held" or s.verdict == "inconclusive":
        return WAITING
    return {"Promoting": GOOD, "Promoted": GOOD, "RollingBack": BAD, "RolledBack": BAD}.get(s.phase, "")


def _clock(s: Snapshot) -> str:
    minutes, seconds = divmod(max(int((s.at - s.started_at).total_seconds()), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def _bar(share: float, length: int, style: str, *, track: str, end: str, ascii_only: bool) -> Text:
    """A bar in eighths of a character; anything above nothing shows at least one of them. The rest is a faint track."""
    if ascii_only:
        full = math.ceil(share * length)
        return Text().append("#" * full, style).append("." * (length - full), QUIET).append("|" if end else "")
    eighths = max(round(share * length * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    filled = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return Text().append(filled, style).append(track * (length - len(filled)) + end, QUIET)
