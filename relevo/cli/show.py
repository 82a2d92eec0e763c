"""The commands that only look: status, history, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from relevo.cli.exit_codes import ExitCode, exit_code_of
from relevo.cli.output import Output, OutputOption, emit, err, out
from relevo.cli.rollouts import TargetArgument
from relevo.cli.view import render
from relevo.cli.wiring import Local
from relevo.errors import BadInput, RelevoError
from relevo.packaging import Package
from relevo.reconcile.driver import is_dead
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
    local = Local.open()
    name = _known(local, target)
    record = local.store.latest(name)
    if record is None:
        _show_idle(local, name, output)
        return
    if not watch:
        _show_once(local, record, output)
        return
    with Live(console=out, auto_refresh=False) as live:
        while True:
            record = local.store.get(record.state.uid)
            if snapshot := _last(local, record):
                live.update(render(snapshot, locust_url=local.locust_url() or ""), refresh=True)
            if record.state.phase.is_terminal:
                raise typer.Exit(exit_code_of(record.state))
            time.sleep(WATCH_SECONDS)


def _known(local: Local, target: str | None) -> str:
    """The target that is meant; also one that is down but has a history."""
    if target is None and not local.platform.services() and (record := local.store.latest()):
        return record.rollout.spec.target
    return local.target(target)


def _last(local: Local, record: Record) -> Snapshot | None:
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
    out.print(
        f"{name}: {stable.name} serves {stable.storage_uri} ({ready}); there has been no rollout.", soft_wrap=True
    )


def _show_once(local: Local, record: Record, output: Output) -> None:
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
        out.print(f"{record.rollout.spec.target}: {record.state.shown_phase}")
    if not record.state.phase.is_terminal and (not record.driver or is_dead(record.driver)):
        err.print(
            f"No process drives this rollout; `relevo deploy-canary {record.rollout.spec.target}` goes on with it."
        )


def history(
    target: TargetArgument = None,
    uid: Annotated[str | None, typer.Option(help="One rollout, with every transition.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List rollouts and every transition: when, who, which rule, and why."""
    local = Local.open()
    records = [local.store.get(uid)] if uid else list(reversed(local.store.find(target)))
    entries = [_entry(local, record) for record in records]
    if output is not Output.TABLE:
        emit(entries, output)
        return
    if not entries:
        out.print("No rollout yet.")
    for entry in entries:
        table = Table(
            title=f"{entry['uid']}  {entry['storageUri']}  {entry['phase']}",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        for column in ("time", "who", "rule", "to", "why"):
            table.add_column(column, no_wrap=column != "why", vertical="top")
        for t in entry["transitions"]:
            table.add_row(t["at"][11:19], t["who"], t["rule"], t["after"], t["message"])
        out.print(table)
        out.print()


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
    from relevo.report import write_report  # brings matplotlib, which no other command needs

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
    out.print(str(path), soft_wrap=True)
    raise typer.Exit(ExitCode.OK)


def _package(local: Local, storage_uri: str) -> Package | None:
    """A package, where it is still there and whole: a report does without."""
    try:
        return local.package(storage_uri)
    except RelevoError:
        return None
