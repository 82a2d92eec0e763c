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

COUNT_SECONDS = 1.0


class Fleet:
    """Hears of Rollouts from the watch. Thread-safe."""

    def __init__(self, shared: Shared, agenda: Agenda) -> None:
        self._shared = shared
        self._agenda = agenda
        self._stewards: dict[str, Steward] = {}
        self._lock = threading.Lock()
        self._count, self._counted_at = 0, float("-inf")
        shared.carried = self.under_way
        shared.at_work_on = self.at_work_on
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

    def distrust(self) -> None:
        """This replica acts from now on; another may have acted before."""
        with self._lock:
            for steward in self._stewards.values():
                steward.distrust()

    def under_way(self) -> int:
        """How many Rollouts are being carried; counted anew each second."""
        now = self._shared.monotonic()
        with self._lock:
            if now - self._counted_at >= COUNT_SECONDS:
                self._count = sum(steward.under_way for steward in self._stewards.values())
                self._counted_at = now
            return self._count

    def at_work_on(self, namespace: str, target: str) -> list[Steward]:
        """The stewards whose Rollouts are under way on an InferenceService, or about to begin."""
        with self._lock:
            return [steward for steward in self._stewards.values() if steward.is_at_work_on(namespace, target)]

    def seen(self) -> list[Seen]:
        """All of them, for the metrics."""
        with self._lock:
            return [steward.seen() for steward in self._stewards.values()]
