"""`relevo simulate`: how often would this policy be wrong, with this traffic?"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from relevo.cli.exit_codes import ExitCode
from relevo.cli.output import Output, OutputOption, emit, err, out
from relevo.errors import BadInput

if TYPE_CHECKING:
    from relevo.simulation.characteristics import Characteristics
    from relevo.simulation.traffic import Traffic

__all__ = ["simulate"]

_LEGEND = (
    "\nShares with their standard error. Requests and seconds: median (90th percentile). Exposed: the candidate's requests until it was "
    "rolled back, on average. Rolled back in the first row is a false alarm, promoted in any other a missed regression."
)


def simulate(
    file: Annotated[Path, typer.Option("--file", "-f", help="The Rollout to simulate.")],
    rate: Annotated[float | None, typer.Option(help="Requests per second, of both arms. Required.")] = None,
    error_rate: Annotated[
        float | None, typer.Option(help="The stable revision's share of failed requests. Required.")
    ] = None,
    p50: Annotated[float, typer.Option(help="The stable revision's median latency, in ms.")] = 5.0,
    p99: Annotated[float, typer.Option(help="The stable revision's 99th percentile, in ms.")] = 16.0,
    wrong_rate: Annotated[float, typer.Option(help="The stable revision's share of wrong answers.")] = 0.05,
    labels: Annotated[bool, typer.Option(help="Whether the load carries labels.")] = True,
    disagreement: Annotated[
        float, typer.Option(help="The share of rows on which equally good revisions disagree.")
    ] = 0.03,
    runs: Annotated[int, typer.Option(help="Rollouts per candidate.")] = 1000,
    seed: Annotated[int, typer.Option(help="Makes a run repeatable.")] = 1,
    jobs: Annotated[
        int | None, typer.Option(help="Processes; the result does not depend on it. All cores unless given.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with plots to this file.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say how often this policy would be wrong: false alarms, missed regressions, requests and time to each decision.

    It runs the rules and the statistics of real rollouts on simulated counts, for a grid of candidates. Ctrl-C prints what there is.
    """
    # NumPy and SciPy are for whoever simulates, not for every command.
    from relevo.evidence.counts import LATENCY_EDGES_MS
    from relevo.platforms.local.envoy_config import BUCKETS_MS
    from relevo.rollout.spec import load_rollout
    from relevo.simulation.characteristics import characteristics
    from relevo.simulation.lint import lint
    from relevo.simulation.page import write_page
    from relevo.simulation.traffic import EFFECTS, Traffic
    from relevo.simulation.world import World

    rollout = load_rollout(file)
    if rollout.spec.strategy.blue_green is not None:
        raise BadInput(
            f"{file}: strategy.blueGreen is not simulated, only canary is",
            next_step="Simulate the same checks with strategy.canary; docs/blue-green.md says how the two differ.",
        )
    traffic = Traffic(
        _given("--rate", rate, "requests per second"),
        _given("--error-rate", error_rate, "the share of failed requests, 0.005 for 0.5 %"),
        {"locust": LATENCY_EDGES_MS, "envoy": tuple(map(float, BUCKETS_MS))},
        p50,
        p99,
        wrong_rate if labels else None,
        disagreement=disagreement,
    )
    world = World(rollout.spec, traffic)
    effects = [e for e in EFFECTS if e.is_possible(traffic)]
    warnings = lint(rollout.spec, traffic)
    if left_out := [e.name for e in EFFECTS if e not in effects]:
        warnings.append(f"this traffic cannot have {', '.join(left_out)}: left out.")
    for warning in warnings:
        err.print(f"[bold yellow]warning:[/] {warning}", soft_wrap=True)
    with err.status("simulating") as status:
        result = characteristics(
            world, effects, runs, seed, jobs=jobs if jobs is not None else os.cpu_count() or 1,
            progress=lambda done, total: status.update(f"simulating: {100 * done / total:.0f} %"),
        )  # fmt: skip
    if html is not None and result.outcomes:
        style = resources.files("relevo.report").joinpath("templates/report.css").read_text(encoding="utf-8")
        written = write_page(html, rollout, traffic, result, warnings, seed=seed, style=style)
        err.print(f"Page: {written}", soft_wrap=True)
    _show(rollout.metadata.name, traffic, result, warnings, seed, output)
    if result.stopped:
        err.print("Stopped: these are the runs that were done.")
        raise typer.Exit(ExitCode.INTERRUPTED)


def _given(name: str, value: float | None, what: str) -> float:
    if value is None:
        raise BadInput(f"{name}: is missing", next_step=f"Give {what}, as measured on the stable revision.")
    return value


def _show(name: str, traffic: Traffic, result: Characteristics, warnings: list[str], seed: int, output: Output) -> None:
    if output is not Output.TABLE:
        emit(
            {
                "rollout": name,
                "traffic": {
                    "requests_per_second": traffic.requests_per_second,
                    "error_rate": traffic.error_rate,
                    "latency_p50_ms": traffic.latency_p50_ms,
                    "latency_p99_ms": traffic.latency_p99_ms,
                    "wrong_rate": traffic.wrong_rate,
                    "disagreement": traffic.disagreement,
                },
                "runs": result.runs,
                "seed": seed,
                "complete": not result.stopped,
                "warnings": warnings,
                "candidates": result.as_dicts(),
            },
            output,
        )
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in (
        "candidate",
        "promoted",
        "rolled back",
        "inconcl.",
        "held",
        "s to promote",
        "requests",
        "exposed",
        "s to rollback",
    ):
        table.add_column(heading, justify="left" if heading == "candidate" else "right", no_wrap=True)
    for effect, row in result.rows:
        shares = [row.promoted, row.rolled_back, row.inconclusive, row.open]
        at_rollback = row.exposed_at_rollback
        table.add_row(
            effect.name,
            *(f"{100 * share:.1f} ±{100 * error:.1f} %" if share else "-" for share, error in shares),
            _spread(row.seconds_to_promote),
            _spread(row.requests_to_promote),
            f"{at_rollback[0]:,.0f}" if at_rollback else "-",
            _spread(row.seconds_to_rollback),
        )
    # A row is one line, however narrow the terminal: shares that are cut off say nothing.
    Console(width=max(out.width, 136), highlight=False).print(table, crop=False)
    out.print(_LEGEND, style="dim", soft_wrap=True)


def _spread(values: tuple[float, float] | None) -> str:
    return "-" if values is None else f"{values[0]:,.0f} ({values[1]:,.0f})"
