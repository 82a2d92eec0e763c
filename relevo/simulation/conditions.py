"""What can break a guarantee, or slow a decision: the ways in which real traffic and real monitoring differ from the textbook's.

`streams` and `engine` obey it. All are off by default. Bad values raise `BadInput` with the field's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from relevo.errors import BadInput

__all__ = ["Conditions"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Departures from "each request by itself, counted at once, in the share that was set"."""

    cycle_seconds: float = 0.0
    """The base rates of both arms change twice in this time; 0: never."""
    cycle_error_factor: float = 1.0
    """Errors are so many times as frequent in the second half of a cycle."""
    cycle_latency_factor: float = 1.0
    """Requests take so many times as long in the second half of a cycle."""
    stop_every_seconds: float = 0.0
    """No request comes in the second half of so long a time; 0: traffic never stops."""
    late_weight_seconds: float = 0.0
    """So long after it is ordered a new weight takes effect, with its label."""
    mislabelled_seconds: float = 0.0
    """So long the proxy stamps the new label while it still routes by the old weight."""
    scrape_seconds: float = 0.0
    """Sources tell their counts only every so often; 0: at every look."""
    restart_every_seconds: float = 0.0
    """A source restarts so often on average, and loses what it has not told; 0: never."""
    silent_from_seconds: float = 0.0
    silent_seconds: float = 0.0
    """No source answers for so long, from then on."""
    cluster_requests: int = 1
    """Requests come in clusters of so many that have something in common (1: none has)."""
    sticky: bool = False
    """A cluster is one user's session, and goes to one arm as a whole; else every request is routed by itself."""
    shared_latency: float = 0.0
    """The share of the variance of the log latency that a cluster has in common, as requests have that queue behind one another."""
    error_prone_share: float = 1.0
    """All errors fall on this share of the clusters (a user whose requests are malformed); 1: on all alike."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not math.isfinite(value) or value < 0:
                raise BadInput(
                    f"condition {each.name}: {value} is not a number of at least 0", next_step="Leave it out."
                )
        if not 0 < self.error_prone_share <= 1:
            raise BadInput("condition error_prone_share: must be above 0 and at most 1", next_step="1 is none.")
        if not self.shared_latency < 1:
            raise BadInput("condition shared_latency: must be below 1", next_step="It is a share of the variance.")
        if self.cluster_requests < 1:
            raise BadInput("condition cluster_requests: must be at least 1", next_step="1 is no clusters.")

    @property
    def has_clusters(self) -> bool:
        """Whether requests must be drawn one by one."""
        return self.cluster_requests > 1

    def in_second_half(self, seconds: float, period: float) -> bool:
        """Whether a time lies in the second half of its period; never where the period is 0."""
        return period > 0 and seconds % period >= period / 2
