"""What a load plan may say."""

from __future__ import annotations

import pytest

from relevo import errors
from relevo.evidence.source import LoadPlan


@pytest.mark.parametrize(
    ("users", "rate", "named"),
    [(-1, 1.0, "users"), (1, 0.0, "rate"), (1, -2.0, "rate"), (1, float("nan"), "rate"), (1, float("inf"), "rate")],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(users: int, rate: float, named: str) -> None:
    """Fewer than no users, or a pace that is not a positive number, is bad input, and the message names which."""
    with pytest.raises(errors.BadInput, match=named):
        LoadPlan(users, rate)
