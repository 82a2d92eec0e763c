"""What changed between two packages, for the rollout's report: metrics, parameters, data, libraries, and how they are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relevo.packaging.metadata import Metadata

__all__ = ["Change", "changes"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs. A side is None where that package does not have it."""

    section: str
    """"metrics", "parameters", "data", "libraries" or "serving"."""
    name: str
    stable: Any
    candidate: Any

    @property
    def difference(self) -> float | None:
        """Candidate minus stable, for numbers."""
        if _is_number(self.stable) and _is_number(self.candidate):
            return float(self.candidate - self.stable)
        return None


def changes(stable: Metadata, candidate: Metadata) -> tuple[Change, ...]:
    """All that differs, in the order in which a reader asks: how good, made how, from what, with what, served how."""
    sections = [(section, _section(stable, section), _section(candidate, section)) for section in _SECTIONS]
    return tuple(
        Change(section, name, old.get(name), new.get(name))
        for section, old, new in sections
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    )


_SECTIONS = ("metrics", "parameters", "data", "libraries", "serving")


def _section(about: Metadata, section: str) -> Mapping[str, Any]:
    match section:
        case "metrics":
            return {f"{part} {name}": value for part, values in about.metrics.items() for name, value in values.items()}
        case "parameters":
            return about.parameters
        case "data":
            return about.data.model_dump()
        case "libraries":
            return about.libraries
        case _:
            return {"runtime": about.runtime, "runtime_reason": about.runtime_reason, "git_commit": about.git_commit}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
