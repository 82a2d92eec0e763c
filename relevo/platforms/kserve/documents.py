"""What all of Kubernetes' objects have in common: fields at a path, and conditions. Pure. `service` and `objects` read with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Condition", "Json", "at", "condition"]

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of `status.conditions`; `status` is "Unknown" where there is none."""

    status: str = "Unknown"
    reason: str = ""
    message: str = ""

    @property
    def text(self) -> str:
        """Reason and message as one phrase."""
        return ": ".join(part for part in (self.reason, self.message) if part)


def condition(document: Json, kind: str) -> Condition:
    """The condition of this type in an object's status."""
    for entry in at(document, "status", "conditions") or ():
        if entry.get("type") == kind:
            return Condition(entry.get("status", "Unknown"), entry.get("reason") or "", entry.get("message") or "")
    return Condition()


def at(document: Any, *path: str) -> Any:
    """What stands at a path, None where something on the way is missing."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document
