"""Asking a source over HTTP, with every way of not answering put into words a person can act on. Used by `locust` and `envoy`."""

from __future__ import annotations

import time

import httpx

__all__ = ["NoAnswerError", "SourceClient", "TooSlowError"]

_MAX_ANSWER_BYTES = 32 * 1024 * 1024


class NoAnswerError(Exception):
    """The source did not give a usable answer; the message says in words why."""


class TooSlowError(NoAnswerError):
    """No answer in time. What was asked may have been heard all the same."""


class SourceClient:
    """One keep-alive HTTP connection to one source.

    `timeout_seconds` bounds a whole request, not only each read: a source that dribbles bytes is as silent as one that hangs.
    """

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        self._base_url = httpx.URL(base_url.rstrip("/"))
        port = self._base_url.port or (443 if self._base_url.scheme == "https" else 80)
        self.address = f"{self._base_url.host}:{port}"
        self._timeout_seconds = timeout_seconds
        self._client = self._connected()

    def _connected(self) -> httpx.Client:
        # trust_env off: a proxy from the environment must never stand between us and a source on this machine.
        return httpx.Client(base_url=self._base_url, timeout=self._timeout_seconds, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, path: str) -> bytes:
        """Return the body of a 200 answer, or raise `NoAnswerError`."""
        return self._send(self._client.build_request("GET", path))

    def post_form(self, path: str, fields: dict[str, str], *, patience_seconds: float | None = None) -> bytes:
        """POST form fields; return the body of a 200 answer, or raise `NoAnswerError`.

        `patience_seconds`: wait for the answer no longer than this, where that is shorter than the time-out.
        """
        return self._send(self._client.build_request("POST", path, data=fields), patience_seconds)

    def post_json(self, path: str, body: bytes) -> bytes:
        """POST a JSON document; return the body of a 200 answer, or raise `NoAnswerError`."""
        headers = {"content-type": "application/json"}
        return self._send(self._client.build_request("POST", path, content=body, headers=headers))

    def _send(self, request: httpx.Request, patience_seconds: float | None = None) -> bytes:
        limit_seconds = min(self._timeout_seconds, patience_seconds or self._timeout_seconds)
        request.extensions["timeout"] = httpx.Timeout(limit_seconds).as_dict()
        deadline = time.monotonic() + limit_seconds
        try:
            response = self._client.send(request, stream=True)
            try:
                body = self._body(response, deadline)
            finally:
                response.close()
        except httpx.TimeoutException:
            raise TooSlowError(f"no answer within {limit_seconds:g} s from {self.address}") from None
        except httpx.ConnectError as error:
            raise NoAnswerError(self._connect_problem(error)) from None
        except httpx.RemoteProtocolError as error:
            raise NoAnswerError(f"{self.address} broke off or does not speak HTTP ({error})") from None
        except httpx.HTTPError as error:
            raise NoAnswerError(f"{self.address}: {error or type(error).__name__}") from None
        if response.status_code != httpx.codes.OK:
            # Perhaps it is somebody else: before a Service's address is known on every node, a connection to it may end up anywhere, and
            # would stay there as long as it is kept.
            self._client.close()
            self._client = self._connected()
            raise NoAnswerError(f"HTTP {response.status_code} from {self.address}{request.url.path}{_excerpt(body)}")
        return body

    def _body(self, response: httpx.Response, deadline: float) -> bytes:
        chunks: list[bytes] = []
        size = 0
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > _MAX_ANSWER_BYTES:
                raise NoAnswerError(f"answer of more than {_MAX_ANSWER_BYTES // 2**20} MiB from {self.address}")
            if time.monotonic() > deadline:
                raise TooSlowError(f"no complete answer in time from {self.address}")
        return b"".join(chunks)

    def _connect_problem(self, error: httpx.ConnectError) -> str:
        text = str(error)
        if "refused" in text.lower():
            return f"connection refused at {self.address}"
        return f"cannot connect to {self.address} ({text})"


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:200].decode("utf-8", "replace").split())
    return f": {text}" if text and not text.startswith("<") else ""
