"""All Rollouts that are watched, each with its steward on the agenda."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from relevo.operator.agenda import Agenda
from relevo.operator.metrics import Seen
from relevo.operator.resource import read_resource
from relevo.operator.steward import Shared, Steward

__all__ = ["Fleet"]


class Fleet:
    """Hears of Rollouts from the watch. Thread-safe."""

    def __init__(self, shared: Shared, agenda: Agenda) -> None:
        self._shared = shared
        self._agenda = agenda
        self._stewards: dict[str, Steward] = {}
        self._lock = threading.Lock()
        shared.carried = self.under_way
        shared.metrics.watch(self.seen)

    def hear(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        """A Rollout is there, has changed, or is gone."""
        resource = read_resource(body)
        key = f"{resource.key}/{resource.uid}"
        with self._lock:
            steward = self._stewards.get(key)
            if deleted:
                self._stewards.pop(key, None)
            elif steward is None:
                steward = self._stewards[key] = Steward(self._shared, resource)
                steward.hear(body)
                self._agenda.put(key, steward.work)
                return
        if steward is None:
            return
        if deleted:
            self._agenda.remove(key)
            steward.close()
            self._shared.metrics.forget(resource.namespace, resource.name)
        elif steward.hear(body):
            self._agenda.prompt(key)

    def under_way(self) -> int:
        """How many Rollouts are being carried."""
        with self._lock:
            return sum(steward.under_way for steward in self._stewards.values())

    def seen(self) -> list[Seen]:
        """All of them, for the metrics."""
        with self._lock:
            return [steward.seen() for steward in self._stewards.values()]
