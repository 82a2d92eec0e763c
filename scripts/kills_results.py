"""The results of `scripts.kills`, and the Markdown page that is made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.soak_results import Cell, conditions

__all__ = ["Killed", "Result", "render"]

COLUMNS = (
    "scenario",
    "shadow stage",
    "killed",
    "rollouts",
    "kills",
    "right",
    "median s",
    "decided by",
    "users' requests",
    "failed by design",
    "failed otherwise",
)


@dataclass(frozen=True, slots=True)
class Killed:
    """One kill."""

    phase: str
    """As stored just after it."""
    driving: bool
    """Whether the process had the lease; else it was still starting."""


@dataclass(frozen=True, slots=True)
class Result:
    """One rollout under kills."""

    cell: Cell
    way: str
    """transition or random"""
    exit_code: int
    """-1 for one that did not end in time."""
    expected: int
    seconds: float
    phase: str
    cause: str
    kills: tuple[Killed, ...]
    looks: int
    longest_gap_seconds: float
    between: int
    """Looks between whose two questions a revision became ready and got weight, in either order."""
    slow: int
    """Questions that a server was too busy to answer within a second."""
    requests: int
    failed_by_design: int
    failed_otherwise: int
    problems: tuple[str, ...]

    @property
    def right(self) -> bool:
        """The verdict of the scenario, and nothing else wrong."""
        return self.exit_code == self.expected and not self.problems

    @property
    def line(self) -> str:
        """Progress in one line."""
        verdict = "right" if self.right else "the right verdict, but"
        if self.exit_code != self.expected:
            verdict = f"WRONG, exit code {self.exit_code}, expected {self.expected}"
        shadow = "shadow" if self.cell.shadow else "no shadow"
        how = f"{self.cell.scenario}, {shadow}, {self.way}"
        words = f"{how}: {verdict}, {self.phase}, {self.cause}, {len(self.kills)} kills, {self.seconds:.0f} s"
        return "; ".join([words, *self.problems])


def render(results: Sequence[Result], *, command: str, commit: str, seed: int) -> str:
    """The page."""
    kills = [kill for result in results for kill in result.kills]
    looks, requests = sum(r.looks for r in results), sum(r.requests for r in results)
    violations = [problem for r in results for problem in r.problems]
    phases = ", ".join(f"{phase} {n}" for phase, n in Counter(k.phase for k in kills).most_common())
    driving, right = sum(k.driving for k in kills), sum(r.right for r in results)
    gap = max((r.longest_gap_seconds for r in results), default=0.0)
    between, slow = sum(r.between for r in results), sum(r.slow for r in results)
    by_design, otherwise = sum(r.failed_by_design for r in results), sum(r.failed_otherwise for r in results)
    lines = [
        "# Verdicts under kill -9",
        "",
        conditions(f"{command}`, seed `{seed}", [commit]),
        "",
        f"- {len(kills)} kills in {len(results)} rollouts; {driving} met a process that drove its rollout, the others one that was still",
        f"  starting. Stored phase at the kill: {phases or 'none'}.",
        f"- {right} of {len(results)} rollouts ended in the scenario's verdict with nothing else wrong.",
        f"- {looks:,} looks at Envoy's configuration, at most {gap:.2f} s apart. In {between} a revision became ready and",
        f"  had weight between the two questions of one look, in an order that a look cannot tell; {slow} questions were not answered",
        "  within a second and say nothing.",
        f"- {requests:,} requests of independent users: {by_design} failed by the candidate that fails by design, {otherwise} otherwise.",
        f"- Violations and other problems: {len(violations)}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + " --- |" * len(COLUMNS),
    ]
    for cell, way in sorted(
        {(r.cell, r.way) for r in results}, key=lambda key: (key[0].scenario, not key[0].shadow, key[1])
    ):
        lines.append(_row(cell, way, [r for r in results if (r.cell, r.way) == (cell, way)]))
    lines += [
        "",
        "A violation is a look at which the weights did not sum to 100, or at which a revision had weight that was not ready both just",
        "before and just after. Killed: `transition` is right after each new line of the audit log, `random` at seeded moments.",
    ]
    wrong = [r for r in results if not r.right]
    if wrong:
        lines += ["", "## Not right", ""] + [f"- {r.line}" for r in wrong]
    return "\n".join(lines) + "\n"


def _row(cell: Cell, way: str, mine: Sequence[Result]) -> str:
    seconds = sorted(r.seconds for r in mine)[len(mine) // 2]
    causes = ", ".join(f"{c} {n}" for c, n in Counter(f"{r.phase} ({r.cause})" for r in mine).most_common())
    cells = [
        cell.scenario,
        "on" if cell.shadow else "off",
        f"at {way}",
        len(mine),
        sum(len(r.kills) for r in mine),
        f"{sum(r.right for r in mine)} of {len(mine)}",
        f"{seconds:.0f}",
        causes,
        sum(r.requests for r in mine),
        sum(r.failed_by_design for r in mine),
        sum(r.failed_otherwise for r in mine),
    ]
    return f"| {' | '.join(str(one) for one in cells)} |"
