"""One platform out of two: a model that is served by two colours has a Route of ours, any other an InferenceService of its name."""

from __future__ import annotations

from collections.abc import Callable

from relevo.rollout.observation import Arm, Routes
from relevo.rollout.platform import ModelRef, Platform, Split

__all__ = ["Either"]


class Either:
    """Asks `has_colours` of a target until it has been answered by yes: a model that gets colours later is seen to have them."""

    def __init__(self, canary: Platform, colours: Platform, has_colours: Callable[[str], bool]) -> None:
        self._canary = canary
        self._colours = colours
        self._has_colours = has_colours
        self._known: set[str] = set()

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
        if target not in self._known and not self._has_colours(target):
            return self._canary
        self._known.add(target)
        return self._colours
