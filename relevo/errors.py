"""Every error that relevo raises on purpose, under one root.

Two questions matter to whoever catches one: is trying again of any use (`Transient` or `Permanent`), and is it the user's to mend
(`BadInput`)? A message names the thing, says what is wrong with it, and `next_step` says what to do.
"""

from __future__ import annotations

__all__ = ["BadInput", "Conflict", "Forbidden", "Permanent", "RelevoError", "Transient"]


class RelevoError(Exception):
    """The root. `str(error)` is the message; `next_step`, where there is one, is a sentence of its own."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


class Transient(RelevoError):
    """Something did not answer or is not there yet; the same call may succeed later."""


class Permanent(RelevoError):
    """Trying again changes nothing until somebody changes something."""


class BadInput(Permanent):
    """What the user gave is wrong: a file, an option, a manifest, a package."""


class Forbidden(BadInput):
    """We may not do this there; the message names the verb and the resource."""


class Conflict(Permanent):
    """Somebody else holds the thing: another process drives the rollout, or it changed since it was read."""
