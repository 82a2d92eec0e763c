"""Locust on several machines: workers hand their counts to the master, the master tells workers of the shadow stage.

Uses Locust's own messages: counts ride along with the statistics that a worker reports every few seconds. Neighbours: `tally`, `v2`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from loadtests.tally import Tally
from relevo.evidence.source import ShadowTargets

__all__ = ["collect_from_workers", "follow_master", "tell_workers"]

_KEY = "relevo"
_SHADOW_MESSAGE = "relevo_shadow"


def collect_from_workers(environment: Any, tally: Tally, shadow: Callable[[], ShadowTargets | None]) -> None:
    """On the master: add up what the workers report, and answer a worker that joins and asks for the shadow stage."""

    def on_worker_report(data: dict[str, Any], **_: Any) -> None:
        if _KEY in data:
            tally.merge(data[_KEY])

    def on_question(msg: Any, **_: Any) -> None:
        environment.runner.send_message(_SHADOW_MESSAGE, _as_message(shadow()), msg.node_id)

    environment.events.worker_report.add_listener(on_worker_report)
    environment.runner.register_message(_SHADOW_MESSAGE, on_question)


def tell_workers(runner: Any, shadow: ShadowTargets | None) -> None:
    """On the master: set or end the shadow stage on all workers."""
    runner.send_message(_SHADOW_MESSAGE, _as_message(shadow))


def follow_master(environment: Any, tally: Tally, set_shadow: Callable[[ShadowTargets | None], None]) -> None:
    """On a worker: report the counts, and do as the master says."""

    def on_report(data: dict[str, Any], **_: Any) -> None:
        data[_KEY] = tally.take()

    def on_shadow(msg: Any, **_: Any) -> None:
        targets = msg.data["shadow"]
        set_shadow(None if targets is None else ShadowTargets(**targets))

    environment.events.report_to_master.add_listener(on_report)
    environment.runner.register_message(_SHADOW_MESSAGE, on_shadow)
    # Ask, for what the master sent when this worker connected came before there was a listener.
    environment.runner.send_message(_SHADOW_MESSAGE)


def _as_message(shadow: ShadowTargets | None) -> dict[str, Any]:
    return {"shadow": None if shadow is None else asdict(shadow)}
