"""What keeps a Rollout from going on: told as a condition and an Event, once, and tried again, later each time.

The steward's other half. What may pass by itself is told only when it lasts; what somebody must mend is told at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from relevo.errors import BadInput, Conflict, Forbidden, RelevoError, Transient
from relevo.operator.keeper import Keeper
from relevo.operator.status import Trouble
from relevo.platforms.cluster_api import INFERENCE_SERVICES
from relevo.reconcile.tick import Tick

if TYPE_CHECKING:
    from relevo.operator.steward import Shared

__all__ = ["LONGEST_PAUSE_SECONDS", "PROMPT_SECONDS", "Troubles"]

_log = logging.getLogger(__name__)

PROMPT_SECONDS: Final = 0.02
"""The pause after something moved: what it set in motion is looked at at once."""
LONGEST_PAUSE_SECONDS: Final = 15.0
LASTING_SECONDS: Final = 10.0
"""A part that does not answer for so long is worth a condition; before, it is tried again and nobody is told."""
RETELL_SECONDS: Final = 30.0
"""How often a condition is written anew while a trouble lasts whose words vary."""


class Troubles:
    """One Rollout's. Each of `stuck`, `waiting` and `look_again` says in how many seconds to try again."""

    def __init__(self, shared: Shared, keeper: Keeper, *, on_deleted: Callable[[], None]) -> None:
        self._shared = shared
        self._keeper = keeper
        self._on_deleted = on_deleted
        self._failures = 0
        self._failing_since: float | None = None
        self._told_at = float("-inf")

    def none(self) -> None:
        """All went well: the next failure is the first again."""
        self._failures, self._failing_since = 0, None

    def weigh(self, tick: Tick) -> None:
        """Tell of what could not be made so: at once where it will not go by itself, else when it lasts."""
        if tick.refused is not None:
            self.tell(_trouble_of(tick.refused))
        elif tick.trouble:
            if self._lasts():
                self.tell(Trouble("NotAnswering", tick.trouble))
            return
        elif self._keeper.trouble is not None:
            self.tell(None)
        if not tick.trouble:
            self._failing_since = None

    def _lasts(self) -> bool:
        now = self._shared.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        return now - self._failing_since >= LASTING_SECONDS

    def stuck(self, error: RelevoError, reason: str = "") -> float:
        """Somebody has to mend something: tell it, and look again later each time."""
        reason = reason or ("Unreadable" if self._keeper.unreadable else "")
        trouble = Trouble(reason, _sentence(error)) if reason else _trouble_of(error)
        if trouble.reason == "Refused":
            trouble = replace(trouble, reason=self._why_refused())
        self._tell_safely(trouble)
        return self._pause()

    def _why_refused(self) -> str:
        """A word for what is wrong with the InferenceService."""
        resource = self._keeper.resource
        try:
            found = self._shared.api.get(INFERENCE_SERVICES, resource.namespace, str(resource.spec.get("target")))
        except BadInput:
            return "KServeMissing"
        except RelevoError:
            return "Refused"
        colours = (resource.spec.get("strategy") or {}).get("blueGreen") is not None
        return "InferenceServiceMissing" if found is None and not colours else "Unfit"

    def waiting(self, error: Transient) -> float:
        """A part does not answer: tell it when that lasts."""
        if self._lasts():
            self._tell_safely(Trouble("NotAnswering", _sentence(error)))
        return self._pause()

    def _pause(self) -> float:
        self._failures += 1
        return float(min(0.5 * 2 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS))

    def look_again(self) -> float:
        """The object has changed since we read it, or is gone."""
        try:
            if not self._keeper.refresh():
                self._on_deleted()
        except RelevoError as error:
            _log.warning("%s: %s", self._keeper.resource.key, error.message)
            return self._pause()
        except ValueError as error:
            return self.stuck(
                BadInput(str(error), next_step="Use that version to end it, or delete it."), reason="Unreadable"
            )
        return PROMPT_SECONDS

    def _tell_safely(self, trouble: Trouble) -> None:
        try:
            self.tell(trouble)
        except RelevoError as error:
            _log.warning(
                "%s: %s; and that cannot be told in its status: %s",
                self._keeper.resource.key,
                trouble.message,
                error.message,
            )
            if isinstance(error, Conflict) or getattr(error, "status", 0) == 404:
                self.look_again()

    def tell(self, trouble: Trouble | None) -> None:
        """Write a trouble, or that it is over. One Event for each, however its words vary while it lasts."""
        keeper, now = self._keeper, self._shared.monotonic()
        same = trouble is not None and keeper.trouble is not None and trouble.reason == keeper.trouble.reason
        if same and now - self._told_at < RETELL_SECONDS:
            return
        if not keeper.tell(trouble, self._shared.clock()):
            return
        self._told_at = now
        if trouble is not None and not same:
            self._shared.events.post(keeper.resource, trouble.reason, trouble.message, warning=True)


def _trouble_of(error: RelevoError) -> Trouble:
    reason = "Forbidden" if isinstance(error, Forbidden) else "Refused"
    return Trouble(reason, _sentence(error))


def _sentence(error: RelevoError) -> str:
    message = error.message if error.message.endswith(".") else f"{error.message}."
    return f"{message} {error.next_step}".strip()
