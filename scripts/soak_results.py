"""The results of `scripts.soak`: one JSON line per run, and the Markdown table that is made of them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

__all__ = ["Cell", "Run", "append", "commit", "conditions", "read", "render"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table."""

    model: str
    scenario: str
    shadow: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One rollout."""

    cell: Cell
    at: float
    """When it had ended, in seconds since the epoch."""
    commit: str
    exit_code: int
    """-1 for one that did not end in time."""
    expected: int
    seconds: float
    exposed: int
    """Users' requests that the candidate answered."""
    phase: str
    cause: str
    reason: str
    held: int
    """How often it was held because the evidence was missing, in the middle of its ramp."""
    transitions: tuple[str, ...]
    looks: int
    """At Envoy's configuration."""
    problems: tuple[str, ...]
    """What else was wrong; empty when nothing was."""

    @property
    def right(self) -> bool:
        """The right verdict, and nothing else wrong."""
        return self.exit_code == self.expected and not self.problems

    @property
    def line(self) -> str:
        """Progress in one line."""
        verdict = "right" if self.right else "the right verdict, but"
        if self.exit_code != self.expected:
            verdict = f"WRONG, exit code {self.exit_code}, expected {self.expected}"
        shadow = "shadow" if self.cell.shadow else "no shadow"
        words = f"{self.cell.scenario}, {shadow}: {verdict}, {self.phase}, {self.cause}, {self.seconds:.0f} s, {self.exposed} exposed"
        return "; ".join([words, *self.problems]) + ("" if self.right else f"; {self.reason}")


def append(path: Path, run: Run) -> None:
    """Add a run to the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run)) + "\n")


def read(path: Path) -> list[Run]:
    """All runs of the file. A last line that was cut off is left out."""
    if not path.exists():
        return []
    runs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        tuples = {name: tuple(value[name]) for name in ("transitions", "problems")}
        runs.append(Run(**{**value, **tuples, "cell": Cell(**value["cell"])}))
    return runs


def commit() -> str:
    """What was run: the commit, marked where relevo itself has been changed since."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def conditions(command: str, commits: Sequence[str]) -> str:
    """How, when and on what something was measured, as one Markdown paragraph."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    versions = ", ".join(dict.fromkeys(commits)) or "unknown"
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"`{command}` on {day}; commit {versions}; {machine}."


def render(runs: Sequence[Run], *, command: str) -> str:
    """The table, and below it every run that was not right."""
    right = sum(run.right for run in runs)
    lines = [
        "# Verdicts under repetition",
        "",
        conditions(command, [run.commit for run in runs]),
        "",
        f"{right} of {len(runs)} rollouts ended in the right verdict with nothing else wrong. Envoy's configuration was looked at "
        f"{sum(run.looks for run in runs):,} times meanwhile.",
        "",
        "| scenario | shadow stage | right of runs | median s | max s | median exposed requests | decided by |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cell in dict.fromkeys(run.cell for run in runs):
        mine = [run for run in runs if run.cell == cell]
        causes = ", ".join(f"{cause} {n}" for cause, n in Counter(f"{r.phase} ({r.cause})" for r in mine).most_common())
        lines.append(
            f"| {cell.scenario} | {'on' if cell.shadow else 'off'} | {sum(r.right for r in mine)} of {len(mine)} | "
            f"{median(r.seconds for r in mine):.0f} | {max(r.seconds for r in mine):.0f} | {median(r.exposed for r in mine):g} | {causes} |"
        )
    lines += [
        "",
        "Right means: the exit code of the scenario; weights that sum to 100, and only for revisions that are ready, at every look at",
        "Envoy's configuration; all traffic with the right revision afterwards, by Envoy's configuration and by who answers; and for",
        "flaky-monitor, that it was Held while the monitor was dead. Seconds are those of `relevo deploy-canary`, start-up included.",
        "Exposed requests are users' (not shadowed) requests that the candidate answered.",
    ]
    wrong = [run for run in runs if not run.right]
    if wrong:
        lines += ["", "## Not right", ""] + [f"- {run.line}" for run in wrong]
    return "\n".join(lines) + "\n"
