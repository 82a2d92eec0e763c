"""The commands that only look: status, history, report."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevo.cli.exit_codes import ExitCode, exit_code_of
from relevo.cli.options import TargetArgument
from relevo.cli.output import Output, OutputOption, emit, out, say, tell
from relevo.errors import BadInput, RelevoError

if TYPE_CHECKING:
    from relevo.cli.wiring import Local
    from relevo.packaging import Package
    from relevo.reconcile.snapshot import Snapshot
    from relevo.store.rollouts import Record

__all__ = ["history", "report", "status"]

WATCH_SECONDS = 0.5


def status(
    target: TargetArgument = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay and show every change, until it has ended.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show where a rollout is, whether it is safe, why, and what comes next."""
    from relevo.cli.wiring import Local

    local = Local.open()
    name = _known(local, target)
    record = local.store.latest(name)
    if record is None:
        _show_idle(local, name, output)
        return
    if not watch:
        _show_once(local, record, output)
        return
    raise typer.Exit(_watch(local, record.state.uid))


def _watch(local: Local, uid: str) -> ExitCode:
    """Show every change until the rollout has ended."""
    from rich.live import Live

    from relevo.cli.view import render

    with Live(console=out, auto_refresh=False) as live:
        while True:
            record = local.store.get(uid)
            if snapshot := _last(local, record):
                live.update(render(snapshot, locust_url=local.locust_url() or ""), refresh=True)
            if record.state.phase.is_terminal:
                return exit_code_of(record.state)
            time.sleep(WATCH_SECONDS)


def _known(local: Local, target: str | None) -> str:
    """The target that is meant; also one that is down but has a history."""
    record = local.store.latest(target)
    if record is not None and (target is not None or not local.services()):
        return record.rollout.spec.target
    return local.target(target)


def _last(local: Local, record: Record) -> Snapshot | None:
    from relevo.reconcile.snapshot import Snapshot

    sample = local.store.last_sample(record.state.uid)
    return Snapshot.from_json(sample) if sample else None


def _show_idle(local: Local, name: str, output: Output) -> None:
    routes = local.platform.observe(name)
    stable = routes.stable
    if output is not Output.TABLE:
        emit(
            {
                "target": name,
                "phase": None,
                "stable": {"revision": stable.name, "storageUri": stable.storage_uri, "ready": stable.ready},
            },
            output,
        )
        return
    ready = "ready" if stable.ready else f"not ready: {stable.detail}"
    say(f"{name}: {stable.name} serves {stable.storage_uri} ({ready}); there has been no rollout.")


def _show_once(local: Local, record: Record, output: Output) -> None:
    from relevo.cli.view import render
    from relevo.reconcile.lease import is_dead

    snapshot = _last(local, record)
    if output is not Output.TABLE:
        driver = "" if is_dead(record.driver) else record.driver
        state = (
            snapshot.as_json()
            if snapshot
            else {"target": record.rollout.spec.target, "phase": record.state.shown_phase}
        )
        emit({**state, "driver": driver}, output)
        return
    if snapshot is not None:
        out.print(render(snapshot, locust_url=local.locust_url() or ""))
    else:
        say(f"{record.rollout.spec.target}: {record.state.shown_phase}")
    if not record.state.phase.is_terminal and (not record.driver or is_dead(record.driver)):
        tell(f"No process drives this rollout; `relevo deploy-canary {record.rollout.spec.target}` goes on with it.")


def history(
    target: TargetArgument = None,
    uid: Annotated[str | None, typer.Option(help="One rollout, with every transition.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List rollouts and every transition: when, who, which rule, and why."""
    from relevo.cli.wiring import Local

    local = Local.open()
    records = [local.store.get(uid)] if uid else list(reversed(local.store.find(target)))
    if not records and target is not None:
        local.target(target)
    entries = [_entry(local, record) for record in records]
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


def _entry(local: Local, record: Record) -> dict[str, Any]:
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
            for t in local.store.transitions(state.uid)
        ],
    }


def report(
    target: TargetArgument = None,
    uid: Annotated[str | None, typer.Option(help="A certain rollout; the last one, unless given.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the page is written; RELEVO_HOME/reports, unless given.")
    ] = None,
) -> None:
    """Write a rollout's report: one HTML page that opens with no network."""
    from relevo.cli.wiring import Local
    from relevo.report import write_report

    local = Local.open()
    record = local.store.get(uid) if uid else local.store.latest(_known(local, target))
    if record is None:
        raise BadInput("there has been no rollout to report on", next_step="`relevo deploy-canary` begins one.")
    path = write_report(
        local.store,
        record.state.uid,
        folder or local.home / "reports",
        _package(local, record.state.stable_uri),
        _package(local, record.rollout.spec.storage_uri),
    )
    say(str(path))
    raise typer.Exit(ExitCode.OK)


def _package(local: Local, storage_uri: str) -> Package | None:
    """A package, where it is still there and whole: a report does without."""
    try:
        return local.package(storage_uri)
    except RelevoError:
        return None
