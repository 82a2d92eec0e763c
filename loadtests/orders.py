"""What the engine has ordered of the load: whether rows are shadowed, and the label of the split that routes requests now.

A worker hears its orders from the master, over and over; those that it has not heard again lapse, for by now the engine may have
told a new master something else. Neighbours: `web` takes orders, `distributed` passes them on, `v2` follows them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from relevo.evidence.source import ShadowTargets

__all__ = ["Orders"]


class Orders:
    """The present orders; nothing is ordered at first."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._shadow: ShadowTargets | None = None
        self._label = ""
        self._lapse_at = math.inf

    @property
    def shadow(self) -> ShadowTargets | None:
        """Both revisions' direct addresses while rows are shadowed."""
        return self._shadow if self._monotonic() < self._lapse_at else None

    @property
    def label(self) -> str:
        """The label under which a request sent now to the users' address is counted, where no proxy stamps its own."""
        return self._label if self._monotonic() < self._lapse_at else ""

    def set_shadow(self, shadow: ShadowTargets | None) -> None:
        """Begin or end the shadow stage."""
        self._shadow = shadow

    def set_label(self, label: str) -> None:
        """Count what is sent from now on under this label."""
        self._label = label

    def hear(self, shadow: ShadowTargets | None, label: str, valid_seconds: float) -> None:
        """On a worker: take all orders as they are now. They lapse unless they are heard again in time."""
        self._shadow, self._label = shadow, label
        self._lapse_at = self._monotonic() + valid_seconds
