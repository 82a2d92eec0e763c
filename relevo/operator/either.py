"""One platform out of two: a model that is served by two colours has a Route of ours, any other an InferenceService of its name."""

from __future__ import annotations

import time
from collections.abc import Callable

from relevo.rollout.observation import Arm, Routes
from relevo.rollout.platform import ModelRef, Platform, Split

__all__ = ["ASK_SECONDS", "Either"]

ASK_SECONDS = 2.0
"""How long a model that has no colours is taken to have none: a rollout looks several times a second."""


class Either:
    """Asks `has_colours` of a target until it has been answered by yes: a model that gets colours later is seen to have them."""

    def __init__(
        self,
        canary: Platform,
        colours: Platform,
        has_colours: Callable[[str], bool],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._canary = canary
        self._colours = colours
        self._has_colours = has_colours
        self._monotonic = monotonic
        self._known: set[str] = set()
        self._asked_at: dict[str, float] = {}

    def observe(self, target: str) -> Routes:
        """See `Platform`."""
        return self._of(target).observe(target)

    def prepare(self, target: str, candidate: ModelRef) -> None:
        """See `Platform`."""
        self._of(target).prepare(target, candidate)

    def set_weight(self, target: str, split: Split) -> None:
        """See `Platform`."""
        self._of(target).set_weight(target, split)

    def settle(self, target: str, keep: Arm) -> None:
        """See `Platform`."""
        self._of(target).settle(target, keep)

    def _of(self, target: str) -> Platform:
        if target not in self._known and not self._ask(target):
            return self._canary
        self._known.add(target)
        return self._colours

    def _ask(self, target: str) -> bool:
        now = self._monotonic()
        if now - self._asked_at.get(target, float("-inf")) < ASK_SECONDS:
            return False
        if self._has_colours(target):
            return True
        self._asked_at[target] = now
        return False
