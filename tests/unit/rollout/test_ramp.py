"""From a compact ramp to explicit steps."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from relevo.rollout.ramp import expand
from tests.unit.rollout.world import make_spec


@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.floats(1.0, 100, exclude_min=True),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_weights_rise_strictly_from_first_to_last(a: int, b: int, factor: float, users: int, more: int) -> None:
    """Any ramp expands to strictly rising weights from `from` to `to`, and to users that never fall."""
    ramp = {"from": min(a, b), "to": max(a, b), "factor": factor}
    spec = make_spec(strategy={"canary": {"ramp": ramp}}, load={"usersFrom": users, "usersTo": users + more})
    steps = expand(spec)
    weights = [s.weight_percent for s in steps]
    assert (weights[0], weights[-1]) == (min(a, b), max(a, b))
    assert all(one < two for one, two in itertools.pairwise(weights))
    assert [s.users for s in steps] == sorted(s.users for s in steps)
    assert steps[-1].users == users + more


def test_the_default_ramp() -> None:
    """5 to 50 percent by a factor of 2.5."""
    assert [s.weight_percent for s in expand(make_spec())] == [5, 12, 31, 50]


def test_a_blue_green_strategy_ends_with_the_switch() -> None:
    """At once unless there are weights; with all users of the load from the start."""
    assert [(s.weight_percent, s.users) for s in expand(make_spec(strategy={"blueGreen": {}}))] == [(100, 20)]
    weighted = expand(make_spec(strategy={"blueGreen": {"weights": [10, 50]}}))
    assert [s.weight_percent for s in weighted] == [10, 50, 100]
    assert [s.is_switch for s in weighted] == [False, False, True]


def test_an_immediate_strategy_has_no_steps() -> None:
    """There is nothing to step through."""
    assert expand(make_spec(strategy={"immediate": {}})) == ()
