"""What a request and a client may take at most. Beyond these they are refused, so that no single one can hold the server."""

from __future__ import annotations

__all__ = [
    "BODY_BYTES_PER_SECOND",
    "BODY_SECONDS",
    "FIRST_BYTE_SECONDS",
    "HEADER_SECONDS",
    "KEEP_ALIVE_SECONDS",
    "LARGEST_MAGNITUDE",
    "MAX_BODIES_BYTES",
    "MAX_BODY_BYTES",
    "MAX_CALLS",
    "MAX_CONNECTIONS",
    "MAX_HEADER_BYTES",
    "MAX_OTHER_BODY_BYTES",
    "MAX_ROWS",
    "MAX_WATCHES",
    "READ_SECONDS",
]

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Of a request; more is answered 413. The largest request that the model takes is far smaller."""
MAX_OTHER_BODY_BYTES = 1024 * 1024
"""Of a request that is decoded on the event loop, which it holds meanwhile: V1, /predict, and V2 that is not sent as JSON or as tensors."""
MAX_ROWS = 10_000
"""Rows in one request: more belongs into a batch job, and would keep other requests waiting."""
LARGEST_MAGNITUDE = 1e30
"""Models compute in float32, whose range ends at 3.4e38; beyond this a scaled value could overflow it."""

MAX_BODIES_BYTES = 128 * 1024 * 1024
"""Of all bodies that are being received or worked on, in a process; what goes beyond is answered 503."""
MAX_HEADER_BYTES = 64 * 1024
"""Of a request's line and headers; more is answered 431."""
MAX_CONNECTIONS = 2000
"""Beyond them a connection is told to come back later, unless it asks for health. Each waits its turn: their number bounds the queue."""
MAX_CALLS = 64
"""gRPC calls to infer that are being received or worked on."""
MAX_WATCHES = 100
"""gRPC calls that watch the health."""

FIRST_BYTE_SECONDS = 30.0
"""From a connection's beginning to its first request."""
HEADER_SECONDS = 10.0
"""From a request's first byte to the end of its headers."""
BODY_SECONDS = 20.0
"""From the end of the headers to the end of the body, and longer by a second for each `BODY_BYTES_PER_SECOND` that came."""
BODY_BYTES_PER_SECOND = 64 * 1024
READ_SECONDS = 30.0
"""How long a client may leave an answer unread."""
KEEP_ALIVE_SECONDS = 65
"""How long a connection may wait for its next request."""
