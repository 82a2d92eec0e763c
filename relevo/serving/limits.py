"""What a request may be at most. Beyond these it is refused, so that no single request can hold the server."""

from __future__ import annotations

__all__ = ["LARGEST_MAGNITUDE", "MAX_BODY_BYTES", "MAX_ROWS"]

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Of a request; more is answered 413. The largest request that the model takes is far smaller."""
MAX_ROWS = 10_000
"""Rows in one request: more belongs into a batch job, and would keep other requests waiting."""
LARGEST_MAGNITUDE = 1e30
"""Models compute in float32, whose range ends at 3.4e38; beyond this a scaled value could overflow it."""
