"""How does the model server compare with stock KServe and stock MLServer, on one core?

`python -m benchmarks.serving [--models rf100 rf500 boosting logistic text] [--rows 1 1000] [--rounds 5] [--seconds 3] [--output FILE]`

The same scikit-learn model behind three servers, each on the first core, asked over 16 kept-alive connections from the second. In each
round all three are asked, one after the other, so that what else the machine does meets all of them; a ratio is of one round, and its
spread over the rounds is told. Requests per second of CPU time (user and system, as the operating system accounts for the server's
processes) stand beside those per second of time: on a machine that others use, they are the fairer number.

Then the open loop of `serving_rollout`: how long a user waits at 50 % and 90 % of the capacity, alone and while a rollout shifts traffic.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from benchmarks.measure import command_of, publish, table
from benchmarks.serving_load import Load, Measured, send_load
from benchmarks.serving_models import FORMS, MODELS, Question, make_package
from benchmarks.serving_rollout import alone, during_rollout
from benchmarks.serving_servers import STOCK, Server, environment, run_servers
from scripts.soak_results import commit, conditions

__all__ = ["Asked", "Compared", "main", "page_of"]

GOALS = {"kserve": 75.0, "mlserver": 60.0}
GOAL_MANY_ROWS = 5.0
GOAL_P99_MS = 3.0
GOAL_READY_SECONDS = 3.0
GOAL_MODEL = "rf100"
_WARM_UP_SECONDS = 0.5
_HOW = """One server at a time on one core, 16 kept-alive connections from the other. Medians of the rounds; in brackets the smallest and
the largest ratio of one round. KServe's scikit-learn server is not on PyPI, so `benchmarks/serving_stock_kserve.py` puts the model behind
KServe's own server and helpers. MLServer runs without its parallel workers; it has no binary tensors over REST, so beside our binary
requests it is asked in JSON."""
_NAMES = {"kserve": "KServe", "mlserver": "MLServer"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One server, asked once."""

    measured: Measured
    per_cpu_second: float


@dataclass(frozen=True, slots=True)
class Compared:
    """All servers, asked the same in every round."""

    model: str
    rows: int
    form: str
    found: dict[str, list[Asked]]

    def ratios(self, name: str, *, cpu: bool = False) -> list[float]:
        """How many times as fast as this server relevo was, in each round."""

        def speed(asked: Asked) -> float:
            return asked.per_cpu_second if cpu else asked.measured.per_second

        return [
            speed(ours) / speed(theirs) for ours, theirs in zip(self.found["relevo"], self.found[name], strict=True)
        ]

    def median_of(self, name: str, what: str) -> float:
        """Of a server's rounds: "per_second", "p50_ms", "p99_ms" or "per_cpu_second"."""
        all_asked = self.found[name]
        return float(median(getattr(a if what == "per_cpu_second" else a.measured, what) for a in all_asked))


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the page where that is wanted. 1 if a goal was missed."""
    options = _parser().parse_args(arguments)
    pythons = {name: environment(options.cache, name) for name in STOCK}
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("needs two cores: one for the server, one for the load", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {cores[1]})
    load_average = os.getloadavg()[0]
    compared: list[Compared] = []
    runtimes, waits = [], []
    ready = float("nan")
    with tempfile.TemporaryDirectory(prefix="relevo-serving-") as name:
        folder = Path(name)
        for model in options.models:
            package = make_package(folder, model)
            about = package.metadata
            large = f", scikit-learn from {about.sklearn_from_rows} rows on" if about.sklearn_from_rows else ""
            runtimes.append(f"{model}: {about.runtime} ({about.runtime_reason}){large}")
            with run_servers(package.folder, folder, pythons, cores[0]) as servers:
                questions = [Question(package, rows, form) for rows in options.rows for form in options.forms]
                compared += [_compare(servers, question, model, options) for question in questions]
                if model == GOAL_MODEL:
                    ready = servers["relevo"].ready_seconds
                    if not options.no_open_loop:
                        waits += alone(
                            Question(package, 1, "JSON").load("relevo", servers["relevo"].port), options.seconds
                        )
    if not options.no_open_loop:
        os.sched_setaffinity(0, set(cores))
        waits += during_rollout(options.seconds)
    says = conditions(command_of("serving", arguments), [commit()])
    says += f" Load average {load_average:.1f} at the beginning. {options.rounds} rounds of {options.seconds:g} s."
    page, missed = page_of(compared, waits, ready, runtimes, says)
    publish(page, options.output)
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="Compare model servers.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 1000])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--no-open-loop", action="store_true", help="leave out the open loop and the rollout")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relevo-bench"
    parser.add_argument("--cache", type=Path, default=cache, help="where the stock servers are installed")
    parser.add_argument("--output", type=Path, help="write the page there too")
    return parser


def _compare(servers: dict[str, Server], question: Question, model: str, options: argparse.Namespace) -> Compared:
    loads = {name: question.load(name, server.port) for name, server in servers.items()}
    answers = {name: _answer(load) for name, load in loads.items()}
    if len({tuple(answer) for answer in answers.values()}) != 1:
        raise RuntimeError(f"{model}: the servers do not answer the same: { {n: a[:5] for n, a in answers.items()} }")
    for load in loads.values():
        send_load(replace(load, seconds=_WARM_UP_SECONDS))
    found: dict[str, list[Asked]] = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, server in servers.items():
            before = server.cpu_seconds()
            measured = send_load(replace(loads[name], seconds=options.seconds))
            used = server.cpu_seconds() - before
            found[name].append(Asked(measured, measured.requests / used if used else float("nan")))
    print(f"{model}, {question.rows} rows, {question.form}: done", file=sys.stderr, flush=True)
    return Compared(model, question.rows, question.form, found)


def _answer(load: Load) -> list[Any]:
    """What a server predicts, from JSON or from the bytes of its first output."""
    answer = httpx.post(
        f"http://127.0.0.1:{load.port}{load.path}", content=load.body, headers=dict(load.headers), timeout=60
    )
    length = answer.headers.get("inference-header-content-length")
    if length is None:
        return list(np.ravel(answer.json()["outputs"][0]["data"]).tolist())
    return list(np.frombuffer(answer.content[int(length) :], "<i8").tolist())


def page_of(
    compared: Sequence[Compared], waits: Sequence[Sequence[str]], ready: float, runtimes: Sequence[str], says: str
) -> tuple[str, list[str]]:
    """The page in Markdown, and the goals that were missed."""
    missed = _missed(compared, ready)
    columns = (
        "model",
        "rows",
        "form",
        "server",
        "requests/s",
        "requests/CPU-s",
        "p50 ms",
        "p99 ms",
        "relevo is faster by",
        "by CPU time",
    )
    lost = [line for one in compared for line in _lost(one)]
    lines = [
        "# The model server beside stock KServe and MLServer",
        "",
        says,
        "",
        _HOW,
        "",
        table(columns, [line for one in compared for line in _lines(one)]),
        "",
        f"Ready {ready:.1f} s after the start. What computes: {'; '.join(runtimes)}.",
        "",
        "Goals (of rf100: one row 75 times KServe and 60 times MLServer, p99 3 ms; 1,000 rows 5 times both; ready in 3 s): "
        + (f"missed: {'; '.join(missed)}." if missed else "all reached."),
        "",
        f"Where we do not win: {'; '.join(lost) if lost else 'nowhere here'}.",
    ]
    if waits:
        names = ("where", "share of its capacity", "requests/s due", "answered", "p50 ms", "p99 ms")
        lines += [
            "",
            "Open loop, one row of a forest: requests fall due at random, and wait from then on.",
            "",
            table(names, waits),
        ]
    return "\n".join(lines) + "\n", missed


def _lines(one: Compared) -> list[tuple[object, ...]]:
    lines: list[tuple[object, ...]] = []
    for name in one.found:
        ratios = ["", ""] if name == "relevo" else [_spread(one.ratios(name, cpu=cpu)) for cpu in (False, True)]
        speeds = [f"{one.median_of(name, what):,.0f}" for what in ("per_second", "per_cpu_second")]
        times = [f"{one.median_of(name, what):.2f}" for what in ("p50_ms", "p99_ms")]
        lines.append((one.model, one.rows, one.form, name, *speeds, *times, *ratios))
    return lines


def _spread(ratios: list[float]) -> str:
    return f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


def _missed(compared: Sequence[Compared], ready: float) -> list[str]:
    missed = []
    for one in compared:
        if one.model != GOAL_MODEL or (one.rows == 1 and one.form != "JSON"):
            continue
        for name, goal in GOALS.items():
            wanted = goal if one.rows == 1 else GOAL_MANY_ROWS
            ratio = median(one.ratios(name))
            if ratio < wanted:
                missed.append(f"{one.rows} rows, {one.form}: {ratio:.1f} times {_NAMES[name]}, not {wanted:g}")
        p99 = one.median_of("relevo", "p99_ms")
        if one.rows == 1 and p99 > GOAL_P99_MS:
            missed.append(f"p99 {p99:.1f} ms")
    if ready > GOAL_READY_SECONDS:
        missed.append(f"ready after {ready:.1f} s")
    return missed


def _lost(one: Compared) -> list[str]:
    return [
        f"{one.model}, {one.rows} rows, {one.form}: {median(one.ratios(name)):.1f} times {_NAMES[name]}"
        for name in GOALS
        if median(one.ratios(name)) < 1.5
    ]


if __name__ == "__main__":
    sys.exit(main())
