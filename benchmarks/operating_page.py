"""Makes the tables of docs/operating-characteristics.md: the one command for all of them.

    python -m benchmarks.operating_page                            # every row to 10,000 runs: what is there already is not run again
    python -m benchmarks.operating_page --runs 1000 --jobs 2 --section rules --row "errors x3"
    python -m benchmarks.operating_page --render                   # only write the tables

A row is run in parts of 1,000, each with a seed of its own; all rows get their first part before any gets its second, so a command that is
interrupted leaves all of them, shorter. What was run is kept in docs/operating-characteristics.json, by section, row and seed, with a
fingerprint of the rules it was run with: when they decide otherwise now, a section's numbers are thrown away and it begins anew. The
numbers between the page's markers are replaced, its text is written by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import operating_table, policies_simulated, queueing, rules_compared
from relevo.simulation.outcomes import binomial

__all__ = ["SECTIONS", "fingerprint", "main", "merged", "missing", "run"]

DOCS = Path("docs")
PAGE, NUMBERS = DOCS / "operating-characteristics.md", DOCS / "operating-characteristics.json"
PLOT = DOCS / "operating-characteristics.svg"

_DRAWN = {
    "relevo": ("#c22f2f", "-"),
    "relevo, tuned": ("#e58a8a", "-"),
    "z-test, tuned": ("#1f77b4", "--"),
    "Flagger, tuned": ("#d9730d", "-."),
    "Argo Rollouts, tuned": ("#7a4fb5", ":"),
    "Kayenta, tuned": ("#0b8084", (0, (5, 1))),
}

Row = dict[str, Any]


SHADOW_PAIRS, SHADOW_ALPHA = 1000, 0.006
"""With shadow traffic first: as many pairs as the default policy has, and an alpha that gives the reference's false alarms."""


def _reference(row: str, runs: int, seed: int) -> Row:
    """The table of the design: one stream, a look after every event; and the same after a stage of shadow traffic."""
    rng = np.random.default_rng(seed)
    rest = row.removeprefix("shadowed ")
    kind, _, what = rest.partition(" ")
    pairs, alpha = (SHADOW_PAIRS, SHADOW_ALPHA) if row != rest else (0, 0.01)
    if kind == "promotion":
        margin = float(what)
        events = {1.5: 4000, 2.0: 1500}.get(margin, 600)
        outcome = operating_table.promotion(rng, runs, margin, events, shadow_pairs=pairs)
        values = np.where(outcome.decided, outcome.exposed, np.inf)
        median, p90 = np.quantile(values, [0.5, 0.9])
        # The standard error of a quantile by its neighbours: what the quantile would be one standard error of its rank away.
        low, high = np.quantile(values, [0.5 - 0.5 / math.sqrt(runs), min(0.5 + 0.5 / math.sqrt(runs), 1)])
        spread = {"median": float(median), "p90": float(p90)}
        return {
            "runs": runs,
            "requests": spread,
            "median": {"mean": float(median), "standard_error": float(high - low) / 2},
        }
    if kind == "errors":
        outcome = operating_table.rollback_for_errors(rng, runs, float(what), alpha=alpha, shadow_pairs=pairs)
    else:
        slowdown = operating_table.SLOWDOWNS[what][0]
        outcome = operating_table.rollback_for_latency(
            rng, runs, slowdown, alpha=alpha, shadow_pairs=pairs, by_windows=True
        )
    share, error = binomial(int(outcome.decided.sum()), runs)
    exposed = float(outcome.exposed.std(ddof=1) / math.sqrt(runs)) if runs > 1 else math.nan
    return {
        "runs": runs,
        "rolled_back": {"share": share, "standard_error": error},
        "exposed": {"mean": float(outcome.exposed.mean()), "standard_error": exposed},
    }


_REFERENCES = {
    **{f"errors {ratio:g}": reference for ratio, reference in operating_table.ERRORS_REFERENCE.items()},
    **{f"latency {name}": reference for name, (_, reference) in operating_table.SLOWDOWNS.items()},
    **{f"promotion {margin:g}": reference for margin, reference in operating_table.PROMOTION_REFERENCE.items()},
}

SECTIONS: Mapping[str, tuple[tuple[str, ...], Callable[[str, int, int], Row]]] = {
    "reference": ((*_REFERENCES, *(f"shadowed {name}" for name in _REFERENCES)), _reference),
    "policy": (tuple(policies_simulated.DEFAULT_CANDIDATES), policies_simulated.default_policy),
    "conditions": (tuple(policies_simulated.CONDITIONS), policies_simulated.long_watch),
    "queues": (tuple(queueing.ROWS), queueing.row),
    "variants": (tuple(policies_simulated.VARIANTS), policies_simulated.variant),
    "rules": (tuple(rules_compared.CANDIDATES), rules_compared.compare),
}


def run(section: str, row: str, runs: int, seed: int) -> Row:
    """One row's numbers."""
    return SECTIONS[section][1](row, runs, seed)


def merged(parts: Mapping[str, Row]) -> Row:
    """One row's numbers from those of several seeds, weighted by their runs. A median of several is the mean of their medians."""
    rows = list(parts.values())
    if len(rows) == 1:
        return rows[0]
    if "runs" not in rows[0]:
        return {key: merged({str(i): row[key] for i, row in enumerate(rows)}) for key in rows[0]}
    runs = [row["runs"] for row in rows]
    result: Row = {"runs": sum(runs)}
    for key in rows[0]:
        held = [(_weight(row, key), row[key]) for row in rows if row[key] is not None]
        if key != "runs":
            result[key] = _merged_value(held) if held else None
    return result


def _weight(row: Row, key: str) -> float:
    """How many runs a number rests on: some are of the promoted, or of the rolled back, alone."""
    for ending, end in (("_promote", "promoted"), ("_rollback", "rolled_back")):
        if key.endswith(ending):
            return float(row["runs"] * row[end]["share"])
    return float(row["runs"])


def _merged_value(parts: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    total = sum(n for n, _ in parts)
    mean = {k: sum(n * part[k] for n, part in parts) / total for k in parts[0][1] if k != "standard_error"}
    if "share" in mean:
        share, error = binomial(round(mean["share"] * total), round(total))
        return {"share": share, "standard_error": error}
    if "mean" in mean:
        errors = [(n, part["standard_error"]) for n, part in parts if part["standard_error"] is not None]
        mean["standard_error"] = math.sqrt(sum((n * error) ** 2 for n, error in errors)) / total
    return mean


def _tables(numbers: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    rows = {s: {row: merged(parts) for row, parts in numbers.get(s, {}).items() if parts} for s in SECTIONS}
    yield "reference", _reference_table(rows.get("reference", {}))
    yield "policy", _policy_table(rows.get("policy", {}))
    yield "conditions", _conditions_table(rows.get("conditions", {}))
    yield "queues", _queues_table(rows.get("queues", {}))
    yield "variants", _variants_table(rows.get("variants", {}))
    yield "rules", _rules_tables(rows.get("rules", {}))


def _reference_table(rows: Mapping[str, Row]) -> list[str]:
    lines = [
        "| candidate | runs | one stream: rolled back | exposed, mean | shadowed first: rolled back | exposed, mean | reference "
        "| gain of the latter |",
        "| --- |" + " --- |" * 7,
    ]
    promotions = [
        "| margin | runs | one stream: requests of both arms, median (p90) | shadowed first: the same | reference | gain "
        "| gain, shadowed first |",
        "| --- |" + " --- |" * 6,
    ]
    for name, reference in _REFERENCES.items():
        row, after = rows.get(name), rows.get(f"shadowed {name}")
        if row is None or after is None:
            continue
        runs = min(row["runs"], after["runs"])
        if name.startswith("promotion"):
            whole = [_of_both_arms(row, 0), _of_both_arms(after, SHADOW_PAIRS)]
            median, p90 = (float(n.strip("()")) / operating_table.RHO for n in reference.split())
            cells = [f"{m['mean']:,.0f} ± {m['standard_error']:,.0f} ({high:,.0f})" for m, high in whole]
            gains = [_gain(median, m) for m, _ in whole]
            lines_of = [name.split()[1], f"{runs:,}", *cells, f"{median:,.0f} ({p90:,.0f})", *gains]
            promotions.append(f"| {' | '.join(lines_of)} |")
            continue
        old = reference.split("/")[-1].strip()
        gain = _gain(float(old), after["exposed"]) if old.isdigit() else ""
        label = name if not name.startswith("errors") else f"errors x{name.split()[1]}"
        cells = [text for r in (row, after) for text in (_share(r["rolled_back"]), _mean(r["exposed"]))]
        lines.append(f"| {label} | {runs:,} | {' | '.join(cells)} | {reference or '-'} | {gain} |")
    return [*lines, "", *promotions]


def _of_both_arms(row: Row, pairs: int) -> tuple[dict[str, float], float]:
    """The requests of both arms, shadowed ones too, until the promotion: median with its standard error, and p90."""
    scale = 1 / operating_table.RHO
    median = {
        "mean": row["median"]["mean"] * scale + 2 * pairs,
        "standard_error": row["median"]["standard_error"] * scale,
    }
    return median, row["requests"]["p90"] * scale + 2 * pairs


def _gain(old: float, mean: Mapping[str, float]) -> str:
    return f"{100 * (1 - mean['mean'] / old):+.1f} ± {100 * mean['standard_error'] / old:.1f} %"


def _policy_table(rows: Mapping[str, Row]) -> list[str]:
    lines = [
        "| candidate | runs | promoted | rolled back | inconclusive | s to promote | requests to promote "
        "| exposed at rollback | s to rollback |",
        "| --- |" + " --- |" * 8,
    ]
    for name in policies_simulated.DEFAULT_CANDIDATES:
        if row := rows.get(name):
            exposed = row["exposed_at_rollback"]
            lines.append(
                f"| {name} | {row['runs']:,} | {_share(row['promoted'])} | {_share(row['rolled_back'])} | {_share(row['inconclusive'])} | "
                f"{_spread(row['seconds_to_promote'])} | {_spread(row['requests_to_promote'])} | "
                f"{_mean(exposed) if exposed else '-'} | {_spread(row['seconds_to_rollback'])} |"
            )
    return lines


def _conditions_table(rows: Mapping[str, Row]) -> list[str]:
    lines = [
        "| what is broken | runs | healthy: rolled back | held for its split | errors x3: rolled back | exposed until then, mean |",
        "| --- |" + " --- |" * 5,
    ]
    for name in policies_simulated.CONDITIONS:
        if row := rows.get(name):
            healthy, worse = row["healthy"], row["worse"]
            share = healthy["rolled_back"]
            wrong = share["share"] - 3 * share["standard_error"] > 0.05
            mark = "**" if wrong else ""
            lines.append(
                f"| {name} | {healthy['runs']:,} | {mark}{_share(share)}{mark}"
                f" | {_share(healthy['split_held'])} | {_share(worse['rolled_back'])} | "
                f"{_mean(worse['exposed'])} |"
            )
    return lines


def _queues_table(rows: Mapping[str, Row]) -> list[str]:
    head = f"| server | runs | alike | {' | '.join(queueing.COLUMNS)} |"
    healthy = [head, "| --- |" + " --- |" * (2 + len(queueing.COLUMNS))]
    slower = [head.replace("server", "server, candidate"), healthy[1]]
    for name, (_, factor, stalled) in queueing.ROWS.items():
        if (row := rows.get(name)) is None:
            continue
        cells = []
        for column in queueing.COLUMNS:
            if factor > 1 or stalled:
                cells.append(f"{_mean(row[f'{column}: requests'])} ({100 * row[column]['share']:.0f} %)")
                continue
            wrong = row[column]["share"] - 3 * row[column]["standard_error"] > queueing.ALPHA
            cells.append(f"**{_share(row[column])}**" if wrong else _share(row[column]))
        of = slower if factor > 1 or stalled else healthy
        of.append(f"| {name} | {row['runs']:,} | {row['neighbours']['mean']:.2f} | {' | '.join(cells)} |")
    return [
        "Healthy, rolled back:", "", *healthy, "",
        "Slower: the candidate's requests until the rollback, of at most 10,000 (and how often there is one):", "", *slower,
    ]  # fmt: skip


def _variants_table(rows: Mapping[str, Row]) -> list[str]:
    shown = [(name, rows[name]) for name in policies_simulated.VARIANTS if name in rows]
    if not shown:
        return []
    worse = [
        c for c, effect in policies_simulated.DEFAULT_CANDIDATES.items() if c in shown[0][1] and effect.is_regression
    ]
    lines = [
        f"| policy | runs | s to promote | false alarms | {' | '.join(f'{c}: exposed' for c in worse)} |",
        "| --- | --- | --- | --- |" + " --- |" * len(worse),
    ]
    for name, row in shown:
        healthy = next(v for c, v in row.items() if c.startswith("as good"))
        exposed = " | ".join(_mean(row[c]["exposed"]) for c in worse)
        lines.append(
            f"| {name} | {healthy['runs']:,} | {_spread(healthy['seconds_to_promote'])} | {_share(healthy['rolled_back'])} | {exposed} |"
        )
    return lines


def _rules_tables(rows: Mapping[str, Row]) -> list[str]:
    candidates = [name for name in rules_compared.CANDIDATES if name in rows]
    head = f"| rule | {' | '.join(candidates)} |"
    line = "| --- |" + " --- |" * len(candidates)
    shares, exposed = (
        ["Rolled back:", "", head, line],
        ["", "Candidate requests exposed, mean (of about 6,000):", "", head, line],
    )
    runs = " | ".join(f"{rows[c]['relevo']['runs']:,}" for c in candidates)
    shares.append(f"| (runs) | {runs} |")
    for rule in rules_compared.RULES:
        cells = [rows[c][rule] for c in candidates if rule in rows[c]]
        shares.append(f"| {rule} | {' | '.join(_share(c['rolled_back']) for c in cells)} |")
        exposed.append(f"| {rule} | {' | '.join(_mean(c['exposed']) for c in cells)} |")
    return [*shares, *exposed]


def _share(value: Mapping[str, float]) -> str:
    return f"{100 * value['share']:.2f} ± {100 * value['standard_error']:.2f} %"


def _mean(value: Mapping[str, float | None]) -> str:
    error = value["standard_error"]
    known = error is not None and not math.isnan(error)
    return f"{value['mean']:,.0f} ± {error:,.0f}" if known else f"{value['mean']:,.0f}"


def _spread(value: Mapping[str, float] | None) -> str:
    return f"{value['median']:,.0f} ({value['p90']:,.0f})" if value else "-"


_EFFECTS_DRAWN = {
    "errors": ("how many times as often the candidate fails", (1.5, 2.0, 3.0, 5.0, 10.0)),
    "latency": ("how many times as long its answers take", (1.05, 1.1, 1.25, 2.0)),
}


def _plot(rows: Mapping[str, Mapping[str, Row]]) -> None:
    """Exposure against effect, by rule."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if any(f"{kind} x{effect:g}" not in rows for kind, (_, effects) in _EFFECTS_DRAWN.items() for effect in effects):
        return
    with mpl.rc_context(
        {"svg.hashsalt": "relevo", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        drawn = figure.subplots(1, 2, sharey=True)
        for axes, (kind, (label, effects)) in zip(drawn, _EFFECTS_DRAWN.items(), strict=True):
            merged_rows = [merged(rows[f"{kind} x{effect:g}"]) for effect in effects]
            for rule, (colour, dashes) in _DRAWN.items():
                values = [row[rule]["exposed"]["mean"] for row in merged_rows]
                width = 2.6 if rule == "relevo" else 1.5
                axes.plot(
                    range(len(effects)), values, marker="o", label=rule, color=colour, linestyle=dashes, linewidth=width
                )
            axes.set_yscale("log")
            axes.set_xticks(range(len(effects)), [f"x{effect:g}" for effect in effects])
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
        drawn[0].minorticks_off()
        drawn[0].set_yticks([100, 300, 1000, 3000, 6000], ["100", "300", "1,000", "3,000", "6,000"])
        drawn[0].set_ylabel("candidate requests exposed, mean")
        drawn[0].legend(frameon=False, fontsize=9)
        figure.savefig(PLOT, metadata={"Date": None, "Creator": None})


def _render(numbers: Mapping[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in _tables(numbers):
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = "\n".join([before + begin, "", *lines, "", end + after])
    PAGE.write_text(text, encoding="utf-8")
    _plot(numbers.get("rules", {}))


PART = 1000
"""Runs that are done, and kept, at once."""

_PROBED = {
    "reference": ("errors 3", "latency x1.1", "promotion 2"),
    "policy": ("errors x5", "latency x1.25"),
    "conditions": ("nothing is broken",),
    "queues": ("50 % busy, answers take x3",),
    "variants": ("ramp 5, 50 %",),
    "rules": ("errors x5",),
}
"""Rows whose outcome, on a few runs, tells whether a section would still come out the same."""


def fingerprint(section: str) -> str:
    """What the present rules make of a few runs: it changes when they decide otherwise, and not when they are merely rewritten."""
    rounded = json.dumps([_rounded(run(section, row, 20, 0)) for row in _PROBED[section]], sort_keys=True)
    return hashlib.sha256(rounded.encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return f"{value:.4g}" if isinstance(value, float) else value


Task = tuple[str, str, int, int]
"""Section, row, runs, seed."""


def missing(numbers: Mapping[str, Any], rows: Sequence[tuple[str, str]], runs: int) -> list[Task]:
    """The parts that these rows lack, all first parts first."""
    tasks: list[Task] = []
    for section, row in rows:
        kept = numbers.get(section, {}).get(row, {})
        lacking, seed = runs - _runs(kept), 1
        while lacking > 0:
            if str(seed) not in kept:
                tasks.append((section, row, min(PART, lacking), seed))
                lacking -= PART
            seed += 1
    return sorted(tasks, key=lambda task: task[3])


def main(argv: list[str] | None = None) -> None:
    """Run rows, keep their numbers, write the tables."""
    parser = argparse.ArgumentParser(description="The tables of the operating characteristics.")
    parser.add_argument("--runs", type=int, default=10_000, help="that each row is to have")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--section", choices=tuple(SECTIONS))
    parser.add_argument("--row", help="only the rows that contain this")
    parser.add_argument("--render", action="store_true", help="run nothing")
    options = parser.parse_args(argv)
    if options.runs < 1 or options.jobs < 1:
        parser.error("RUNS and JOBS must be at least 1")
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    if not options.render:
        sections = [section for section in SECTIONS if options.section in (None, section)]
        _forget_what_is_no_longer_true(numbers, sections)
        rows = [(s, row) for s in sections for row in SECTIONS[s][0] if not options.row or options.row in row]
        try:
            _run_all(numbers, missing(numbers, rows, options.runs), options.jobs)
        except KeyboardInterrupt:
            print("stopped: what is done is kept", flush=True)
    _render(numbers)


def _forget_what_is_no_longer_true(numbers: dict[str, Any], sections: Sequence[str]) -> None:
    known = numbers.setdefault("fingerprints", {})
    for section in sections:
        now = fingerprint(section)
        if known.get(section) != now:
            print(f"{section}: the rules decide otherwise now, so it begins anew", flush=True)
            numbers[section], known[section] = {}, now


def _run_all(numbers: dict[str, Any], tasks: Sequence[Task], jobs: int) -> None:
    began = time.perf_counter()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run, *task): task for task in tasks}
        try:
            for done, future in enumerate(as_completed(running), start=1):
                section, row, runs, seed = running[future]
                numbers.setdefault(section, {}).setdefault(row, {})[str(seed)] = future.result()
                _keep(numbers)
                print(
                    f"{done} of {len(tasks)}, {time.perf_counter() - began:.0f} s: {section}: {row}, {runs} runs",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _keep(numbers: Mapping[str, Any]) -> None:
    """Whole or not at all, so that a kill leaves what was there."""
    unfinished = NUMBERS.with_suffix(".json.part")
    unfinished.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    unfinished.replace(NUMBERS)


def _runs(parts: Mapping[str, Row]) -> int:
    return sum(int((part if "runs" in part else next(iter(part.values())))["runs"]) for part in parts.values())


if __name__ == "__main__":
    main()
