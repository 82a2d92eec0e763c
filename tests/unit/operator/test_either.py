"""Which of two platforms a model has."""

from __future__ import annotations

from unittest.mock import Mock

from relevo.operator.either import ASK_SECONDS, Either


def test_a_model_that_gets_colours_later_is_seen_to_have_them() -> None:
    """While it has none it is asked about now and then, not at every look; once it has some it is asked about no more."""
    canary, colours, asked = Mock(), Mock(), []
    now, having = 0.0, False

    def has_colours(target: str) -> bool:
        asked.append(target)
        return having

    either = Either(canary, colours, has_colours, monotonic=lambda: now)
    for _ in range(10):
        either.observe("iris")
    assert (canary.observe.call_count, asked) == (10, ["iris"])
    either.observe("wine")
    assert asked == ["iris", "wine"]
    now, having = ASK_SECONDS, True
    for _ in range(3):
        either.observe("iris")
    assert (canary.observe.call_count, colours.observe.call_count) == (11, 3)
    assert asked == ["iris", "wine", "iris"]
