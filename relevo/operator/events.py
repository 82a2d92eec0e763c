"""Events: what `kubectl describe` and `kubectl get events` tell of a Rollout. One per transition or trouble, never one per tick."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from relevo.errors import RelevoError
from relevo.operator.keeper import Api
from relevo.operator.resource import Resource
from relevo.platforms.cluster_api import Kind

if TYPE_CHECKING:
    from relevo.rollout.decision import Transition

__all__ = ["EVENTS", "Events", "reason_of"]

_log = logging.getLogger(__name__)

EVENTS: Final = Kind("/api/v1", "events")
COMPONENT: Final = "relevo-operator"

_LONGEST = 1024
_REASONS: Final = {
    "start": "RolloutStarted",
    "prepared": "CandidateReady",
    "shadowed": "StepReached",
    "advance": "StepReached",
    "extend": "Extended",
    "release": "Resumed",
    "promote": "Ordered",
    "pause": "Ordered",
    "refused": "OrderRefused",
    "edited": "PolicyChanged",
}


def reason_of(transition: Transition) -> tuple[str, bool]:
    """The reason of a transition's Event, and whether it is a warning."""
    after = transition.after
    if transition.rule.startswith("hold-"):
        return "Held", True
    if after != transition.before:
        if after in ("Promoted", "RolledBack"):
            return after, after == "RolledBack"
        if after == "Promoting":
            return "Promoting", False
        if after == "RollingBack":
            return "RollingBack", True
        if transition.rule == "prepared" and after.startswith("Shifting"):
            return "StepReached", False
    return _REASONS.get(transition.rule, "Changed"), transition.rule == "refused"


class Events:
    """Posts Events. One that cannot be posted is logged; nothing waits for it."""

    def __init__(self, api: Api, instance: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api = api
        self._instance = instance
        self._clock = clock

    def transition(self, resource: Resource, transition: Transition) -> None:
        """Tell of a transition."""
        reason, warning = reason_of(transition)
        by = "" if transition.who == "relevo" else f" (by {transition.who})"
        self.post(
            resource, reason, f"{transition.before} -> {transition.after}: {transition.message}{by}", warning=warning
        )

    def post(self, resource: Resource, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell of something."""
        now = self._clock()
        seconds = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        _log.log(logging.WARNING if warning else logging.INFO, "%s: %s: %s", resource.key, reason, message)
        manifest = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{resource.name}.{uuid.uuid4().hex[:16]}", "namespace": resource.namespace},
            "involvedObject": resource.reference | {"resourceVersion": resource.version},
            "reason": reason,
            "message": message if len(message) <= _LONGEST else f"{message[: _LONGEST - 3]}...",
            "type": "Warning" if warning else "Normal",
            "action": reason,
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "firstTimestamp": seconds,
            "lastTimestamp": seconds,
            "count": 1,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }
        try:
            self._api.create(EVENTS, resource.namespace, manifest)
        except RelevoError as error:
            _log.warning("%s: its Event %s could not be posted: %s", resource.key, reason, error.message)
