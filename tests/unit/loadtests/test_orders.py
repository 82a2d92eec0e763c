"""What the engine has ordered of the load."""

from __future__ import annotations

from loadtests.orders import Orders
from relevo.evidence.source import ShadowTargets

TARGETS = ShadowTargets("u/shadow", "a", "http://a", "b", "http://b")


def test_orders_that_are_given_here_stay() -> None:
    """One process, or the master, is told once."""
    now = [0.0]
    orders = Orders(lambda: now[0])
    assert (orders.label, orders.shadow) == ("", None)
    orders.set_label("u/1")
    orders.set_shadow(TARGETS)
    now[0] = 1e6
    assert (orders.label, orders.shadow) == ("u/1", TARGETS)


def test_orders_that_are_heard_lapse_unless_they_are_repeated() -> None:
    """A worker that has lost its master counts under no label and shadows nothing: the split may be another by now."""
    now = [0.0]
    orders = Orders(lambda: now[0])
    orders.hear(TARGETS, "u/1", 3.0)
    now[0] = 2.9
    assert orders.label == "u/1"
    orders.hear(None, "u/2", 3.0)
    now[0] = 5.8
    assert (orders.label, orders.shadow) == ("u/2", None)
    now[0] = 6.0
    assert orders.label == ""
    orders.hear(TARGETS, "u/3", 3.0)
    assert (orders.label, orders.shadow) == ("u/3", TARGETS)
