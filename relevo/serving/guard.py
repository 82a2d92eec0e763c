"""The hook of `relevo.access` in the REST server: `guarded`. It refuses before any of a body is read; `guard_calls` is the same for gRPC.

Health stays open, for whoever probes the server has no credential; so do the metrics, unless the settings say otherwise. Refusals are
counted by kind and logged with who, where and why, never with the credential or the content.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from relevo.access.gate import Gate
from relevo.access.refusal import KINDS, Refused
from relevo.serving.asgi import CERTIFICATE, AsgiApp, Receive, Scope, Send, send_json
from relevo.serving.revision import Revision
from relevo.serving.tallies import Tallies

__all__ = ["RefusalLog", "guarded"]

_log = logging.getLogger("relevo.access")

_RETRY_SECONDS = 10


class RefusalLog:
    """Writes refusals to the log: the first few at once, then one a second, and how many were left out."""

    BURST = 10.0

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._left = self.BURST
        self._seen_at = now()
        self._unwritten = 0

    def write(self, refused: Refused, what: str, path: str, peer: str) -> None:
        """One refusal of a request to `path`, `what` being its method or protocol."""
        now = self._now()
        self._left = min(self.BURST, self._left + (now - self._seen_at))
        self._seen_at = now
        if self._left < 1:
            self._unwritten += 1
            return
        self._left -= 1
        more = f" ({self._unwritten} refusals before it were not logged)" if self._unwritten else ""
        self._unwritten = 0
        who = f" who={_quoted(refused.who)}" if refused.who else ""
        where = f"{what} path={_quoted(path)} peer={peer}{who}"
        _log.warning("refused %d %s: %s%s", refused.status, where, refused.reason, more)


def guarded(app: AsgiApp, gate: Gate, revision: Revision, log: RefusalLog) -> AsgiApp:
    """`app`, for whom the gate lets in."""
    open_paths = {"/", "/v2/health/live", "/v2/health/ready", f"/v2/models/{revision.name}/ready"}
    if gate.access.metrics == "open":
        open_paths.add("/metrics")
    tallies: Tallies = revision.tallies

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not (scope["path"] in open_paths and scope["method"] in ("GET", "HEAD")):
            headers, certificate = scope["headers"], scope.get(CERTIFICATE)
            if gate.admit(headers, certificate) is None:
                try:
                    await gate.decide(headers, certificate)
                except Refused as refused:
                    tallies.failed(KINDS[refused.status])
                    log.write(refused, scope["method"], scope["path"], _peer(scope))
                    await send_json(send, refused.status, {"error": refused.reason}, _fields(refused))
                    return
        await app(scope, receive, send)

    return guard


def _fields(refused: Refused) -> list[tuple[bytes, bytes]]:
    if refused.status == 503:
        return [(b"retry-after", b"%d" % _RETRY_SECONDS)]
    return [(b"www-authenticate", refused.challenge.encode("latin-1", "replace"))]


def _peer(scope: Scope) -> str:
    """Who is at the other end of the connection, and for whom it says that it asks: behind a proxy only the latter tells users apart."""
    client = scope.get("client")
    peer = f"{client[0]}:{client[1]}" if client else "unknown"
    told = next((value for name, value in scope["headers"] if name == b"x-forwarded-for"), None)
    return f"{peer} x-forwarded-for={_quoted(told.decode('latin-1'))}" if told is not None else peer


def _quoted(text: str) -> str:
    """Short, on one line, and with nothing in it that a terminal or a log reader would obey."""
    return '"' + "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text[:200]) + '"'
