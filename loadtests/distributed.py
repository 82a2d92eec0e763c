"""Locust on several machines: workers hand their counts to the master, the master passes the engine's orders on to them.

Neighbours: `tally`, `orders`, `v2`. Counts travel in messages of their own, several times a second: those of Locust, with which it
draws its charts, come every three seconds, and a decision should not wait for them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import gevent

from loadtests.orders import Orders
from loadtests.tally import Tally
from relevo.evidence.source import ShadowTargets

__all__ = ["follow_master", "lead_workers"]

_COUNTS_MESSAGE = "relevo_counts"
_ORDERS_MESSAGE = "relevo_orders"

_COUNTS_SECONDS = 0.2
_ORDERS_SECONDS = 1.0
_ORDERS_VALID_SECONDS = 3.0
_MASTER_LOST_SECONDS = 5.0
"""A master that came back knows its old workers no more, and does not answer them: they begin anew, and report to it as new ones."""


def lead_workers(environment: Any, tally: Tally, orders: Orders) -> Callable[[], None]:
    """On the master: add up what the workers count, and repeat the orders to them. Answers what tells them at once."""

    def on_counts(msg: Any, **_: Any) -> None:
        tally.merge(msg.data)

    def tell() -> None:
        environment.runner.send_message(_ORDERS_MESSAGE, _as_message(orders))

    def on_question(msg: Any, **_: Any) -> None:
        environment.runner.send_message(_ORDERS_MESSAGE, _as_message(orders), msg.node_id)

    environment.runner.register_message(_COUNTS_MESSAGE, on_counts)
    environment.runner.register_message(_ORDERS_MESSAGE, on_question)
    environment.runner.greenlet.spawn(_repeat, _ORDERS_SECONDS, tell)
    return tell


def follow_master(environment: Any, tally: Tally, orders: Orders) -> None:
    """On a worker: hand over the counts, and do as the master says."""

    def on_orders(msg: Any, **_: Any) -> None:
        targets = msg.data["shadow"]
        shadow = None if targets is None else ShadowTargets(**targets)
        orders.hear(shadow, msg.data["label"], _ORDERS_VALID_SECONDS)

    def hand_over(**_: Any) -> None:
        if not tally.is_empty:
            environment.runner.send_message(_COUNTS_MESSAGE, tally.take())

    environment.runner.register_message(_ORDERS_MESSAGE, on_orders)
    environment.runner.greenlet.spawn(_repeat, _COUNTS_SECONDS, hand_over)
    environment.runner.greenlet.spawn(_repeat, 1.0, lambda: _begin_anew_without_master(environment.runner))
    # Its last report goes out when a worker ends, after its last request: what is left goes with it.
    environment.events.report_to_master.add_listener(hand_over)
    # Ask, for what the master sent when this worker connected came before there was a listener.
    environment.runner.send_message(_ORDERS_MESSAGE)


def _begin_anew_without_master(runner: Any) -> None:
    """Start this process over when the master has been silent; ended, a container would come back later and later."""
    heard_at = runner.last_heartbeat_timestamp
    if heard_at is not None and time.time() - heard_at > _MASTER_LOST_SECONDS:
        logging.getLogger(__name__).warning(
            "The master has not answered for %g s: beginning anew", _MASTER_LOST_SECONDS
        )
        os.execv(sys.executable, sys.orig_argv)


def _repeat(seconds: float, act: Callable[[], None]) -> None:
    while True:
        gevent.sleep(seconds)
        act()


def _as_message(orders: Orders) -> dict[str, Any]:
    shadow = orders.shadow
    return {"shadow": None if shadow is None else asdict(shadow), "label": orders.label}
