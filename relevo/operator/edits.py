"""What an edit of a Rollout's spec changed, in a sentence. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["changes_between"]

_PINNED = (
    "strategy.canary.weights",
    "strategy.canary.ramp",
    "strategy.blueGreen.weights",
    "strategy.immediate",
    "sources",
)


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Which fields changed and how; what of it is not for this run. Empty where nothing did."""
    old, new = dict(_flat(before, "")), dict(_flat(after, ""))
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if not changed:
        return ""
    listed = "; ".join(f"spec.{name}: {_shown(old, name)} -> {_shown(new, name)}" for name in changed)
    kept = [name for name in changed if name.startswith(_PINNED)]
    if not kept:
        return f"{listed}. Taken up from now on."
    rest = " The rest is taken up from now on." if len(kept) < len(changed) else ""
    return f"{listed}. This run keeps the steps and sources that it began with.{rest}"


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return json.dumps(fields[name]) if name in fields else "(none)"
