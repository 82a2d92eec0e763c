"""The commands that only look: status, history, report."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevo.cli.exit_codes import ExitCode, exit_code_of
from relevo.cli.options import ContextOption, NamespaceOption, PlatformOption, TargetArgument
from relevo.cli.output import Output, OutputOption, emit, out, say, tell
from relevo.errors import BadInput

if TYPE_CHECKING:
    from relevo.cli.site import Journal
    from relevo.store.rollouts import Record

__all__ = ["history", "report", "status"]

WATCH_SECONDS = 0.5


def status(
    target: TargetArgument = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay and show every change, until it has ended.")
    ] = False,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show where a rollout is, whether it is safe, why, and what comes next."""
    journal = _open(platform, context, namespace)
    name = journal.known(target)
    record = journal.archive.latest(name)
    if record is None:
        _show_idle(journal, name, output)
        return
    if not watch:
        _show_once(journal, record, output)
        return
    raise typer.Exit(_watch(journal, record.state.uid))


def _open(platform: PlatformOption, context: str | None, namespace: str | None) -> Journal:
    from relevo.cli.site import Where, open_site

    return open_site(Where(platform, context, namespace)).journal()


def _watch(journal: Journal, uid: str) -> ExitCode:
    """Show every change until the rollout has ended."""
    from rich.live import Live

    from relevo.cli.view import render

    with Live(console=out, auto_refresh=False) as live:
        while True:
            record = journal.archive.get(uid)
            if snapshot := journal.snapshot(record):
                live.update(render(snapshot, locust_url=journal.locust_url), refresh=True)
            if record.state.phase.is_terminal:
                return exit_code_of(record.state)
            time.sleep(WATCH_SECONDS)


def _show_idle(journal: Journal, name: str, output: Output) -> None:
    stable = journal.idle(name)
    detail = stable.pop("detail")
    if output is not Output.TABLE:
        emit({"target": name, "phase": None, "stable": stable}, output)
        return
    ready = "ready" if stable["ready"] else f"not ready: {detail}"
    serves = f"{stable['revision']} serves" if stable["revision"] else "is to serve"
    say(f"{name}: {serves} {stable['storageUri']} ({ready}); there has been no rollout.")


def _show_once(journal: Journal, record: Record, output: Output) -> None:
    from relevo.cli.view import render

    snapshot = journal.snapshot(record)
    if output is not Output.TABLE:
        state = (
            snapshot.as_json()
            if snapshot
            else {"target": record.rollout.spec.target, "phase": record.state.shown_phase}
        )
        emit({**state, "driver": journal.driver(record)}, output)
        return
    if snapshot is not None:
        out.print(render(snapshot, locust_url=journal.locust_url))
    else:
        say(f"{record.rollout.spec.target}: {record.state.shown_phase}")
    if neglect := journal.neglect(record):
        tell(neglect)


def history(
    target: TargetArgument = None,
    uid: Annotated[str | None, typer.Option(help="One rollout, with every transition.")] = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List rollouts and every transition: when, who, which rule, and why."""
    journal = _open(platform, context, namespace)
    records = [journal.archive.get(uid)] if uid else list(reversed(journal.archive.find(target)))
    if not records and target is not None:
        journal.known(target)
    entries = [_entry(journal, record) for record in records]
    if output is not Output.TABLE:
        emit(entries, output)
        return
    if not entries:
        say("No rollout yet.")
    for entry in entries:
        _print_entry(entry)


def _print_entry(entry: dict[str, Any]) -> None:
    """One rollout: a line that names it, then a row for each transition. In a pipe no row is wrapped."""
    from rich.table import Table
    from rich.text import Text

    say(Text(f"{entry['uid']}  {entry['storageUri']}  {entry['phase']}", "bold"))
    rows = [("time", "who", "rule", "to", "why")] + [
        (f"{datetime.fromisoformat(t['at']).astimezone():%H:%M:%S}", t["who"], t["rule"], t["after"], t["message"])
        for t in entry["transitions"]
    ]
    if out.is_terminal:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in rows[0]:
            table.add_column(name, no_wrap=name != "why", vertical="top")
        for row in rows[1:]:
            table.add_row(*map(Text, row))
        out.print(table)
    else:
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        for row in rows:
            say("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))
    say("")


def _entry(journal: Journal, record: Record) -> dict[str, Any]:
    state = record.state
    return {
        "uid": state.uid,
        "target": record.rollout.spec.target,
        "storageUri": record.rollout.spec.storage_uri,
        "stable": state.stable,
        "candidate": state.candidate,
        "phase": state.shown_phase,
        "verdict": state.verdict.value if state.verdict else None,
        "cause": state.cause.value if state.cause else None,
        "reason": state.reason,
        "startedAt": state.started_at.isoformat(),
        "transitions": [
            {
                "at": t.at.isoformat(),
                "who": t.who,
                "rule": t.rule,
                "before": t.before,
                "after": t.after,
                "message": t.message,
                "facts": t.facts,
            }
            for t in journal.archive.transitions(state.uid)
        ],
    }


def report(
    target: TargetArgument = None,
    uid: Annotated[str | None, typer.Option(help="A certain rollout; the last one, unless given.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the page is written; RELEVO_HOME/reports, unless given.")
    ] = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Write a rollout's report: one HTML page that opens with no network."""
    from relevo.report import write_report

    journal = _open(platform, context, namespace)
    record = journal.archive.get(uid) if uid else journal.archive.latest(journal.known(target))
    if record is None:
        raise BadInput("there has been no rollout to report on", next_step="`relevo deploy-canary` begins one.")
    path = write_report(
        journal.archive,
        record.state.uid,
        folder or journal.home,
        journal.package(record.state.stable_uri),
        journal.package(record.rollout.spec.storage_uri),
    )
    say(str(path))
    raise typer.Exit(ExitCode.OK)
