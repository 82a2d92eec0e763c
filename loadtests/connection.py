"""One user's keep-alive connection to one address. Neighbours: `rows` prepares what it sends, `v2` owns it.

Locust's FastHttpUser builds, checks and parses each request anew, which costs more than all the rest of a request here. The load
generator shares its machine with what it measures, so this goes one layer down, to the connection pool and parser of geventhttpclient,
which FastHttpUser stands on, and sends bytes that were prepared once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse

from relevo.access.credential import Credential
from relevo.errors import BadInput

__all__ = ["Connection", "Response"]


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. Status 0 and a `problem` where nothing usable did."""

    status: int
    body: bytes = b""
    route: str = ""
    """The header x-relevo-route: the label of the split that routed the request."""
    revision: str = ""
    """The header x-relevo-revision (who answered), or else x-relevo-assigned (who should have)."""
    problem: str = ""


class Connection:
    """Sends prepared V2 requests for one model to one address, one at a time, and opens the connection anew when it must."""

    def __init__(
        self, url: str, model: str, host_header: str, timeout_seconds: float, credential: Credential | None = None
    ) -> None:
        """Raise `errors.BadInput` for a `url` that is not `http://HOST:PORT` or `https://HOST:PORT`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"host {url!r}: is not like http://127.0.0.1:8080")
        self._credential = credential
        host = host_header or parts.netloc
        if any(character <= " " or character > "~" for character in host):
            raise BadInput(f"host header {host!r}: must be printable ASCII without spaces")
        self._head = (
            f"POST /v2/models/{quote(model, safe='')}/infer HTTP/1.1\r\n"
            f"Host: {host}\r\nUser-Agent: relevo-loadtest\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        ).encode("ascii")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        limits: dict[str, Any] = {"size": 1, "connection_timeout": timeout_seconds, "network_timeout": timeout_seconds}
        if parts.scheme == "https":
            limits |= _tls(credential)
        kind = SSLConnectionPool if parts.scheme == "https" else ConnectionPool
        self._pool = kind(parts.hostname, port, parts.hostname, port, **limits)

    def send(self, payload: bytes) -> Response:
        """Send one request and read its answer. Never raises, and never sends a request twice: what fails, counts as failed."""
        try:
            sock = self._pool.get_socket()
        except OSError as problem:
            return Response(0, problem=f"no connection ({problem.strerror or problem})")
        try:
            sock.sendall(self._head + self._authorization() + payload)
        except BaseException as problem:
            self._pool.release_socket(sock)
            if isinstance(problem, OSError):
                return Response(0, problem=f"connection lost while sending ({problem.strerror or problem})")
            raise
        try:
            # The response gives the socket back to the pool, or closes it, whichever its end allows.
            response = HTTPSocketPoolResponse(sock, self._pool, method="POST")
            body = response.read()
        except TimeoutError:
            return Response(0, problem="no answer in time")
        except (OSError, HTTPParseError) as problem:
            return Response(0, problem=f"connection lost ({problem})")
        return Response(
            status=response.status_code,
            body=body,
            route=_header(response, "x-relevo-route"),
            revision=_header(response, "x-relevo-revision") or _header(response, "x-relevo-assigned"),
        )

    def _authorization(self) -> bytes:
        if self._credential is None:
            return b""
        return b"".join(f"{name}: {value}\r\n".encode("ascii") for name, value in self._credential.headers().items())

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


def _tls(credential: Credential | None) -> dict[str, Any]:
    """How a pool of TLS connections is made: with the credential's certificate and authority, else with the system's."""
    if credential is None:
        return {}
    options = {"server_hostname": credential.server_name, "ca_certs": credential.authority}
    return {
        "ssl_context_factory": lambda **_: credential.context(),
        "ssl_options": {name: value for name, value in options.items() if value},
    }


def _header(response: HTTPSocketPoolResponse, name: str) -> str:
    value = response.get(name)
    return value if isinstance(value, str) else value[-1] if value else ""
