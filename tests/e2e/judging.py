"""What the tests ask of a rollout that has ended."""

from __future__ import annotations

from scripts.lab.users import GatewayUsers, Seen
from scripts.lab.watching import RolloutLook, Watch

__all__ = ["assert_clean", "ended", "failures"]

VERDICT_SECONDS = 240.0


def ended(watch: Watch, seconds: float = VERDICT_SECONDS) -> RolloutLook:
    """The Rollout's end."""
    return watch.wait("a verdict", lambda look: look.phase in ("Promoted", "RolledBack"), seconds=seconds)


def failures(users: GatewayUsers, *, but_of: str = "") -> list[Seen]:
    """The requests that failed otherwise than by an answer of this revision's own."""
    return [one for one in users.answers() if one.failed and (not but_of or one.revision != but_of)]


def assert_clean(watch: Watch) -> None:
    """Weights summed to 100 whenever they changed, and no revision got any that was not ready."""
    assert watch.problems == []
    assert watch.traffic
    assert watch.route
