"""ASGI's types, and how this server reads a request's body and sends an answer in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException

from relevo.serving.limits import MAX_BODY_BYTES

__all__ = [
    "CERTIFICATE",
    "AsgiApp",
    "Gone",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "TooLarge",
    "limited",
    "read",
    "replayed",
    "send_binary",
    "send_body",
    "send_json",
]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

CERTIFICATE = "relevo.certificate"
"""The key of a scope under which `lane` leaves the subject of the client's certificate, for `guard`."""


class TooLarge(HTTPException):
    """The body is longer than it may be. FastAPI lets an HTTPException pass while it reads a body, and answers with it."""

    def __init__(self, largest: int = MAX_BODY_BYTES) -> None:
        more = "" if largest == MAX_BODY_BYTES else "; V2 in JSON or with binary tensors may be larger"
        super().__init__(413, f"body: is larger than {largest} bytes{more}")


class Gone(Exception):
    """The client went away before all of its request had come: there is nobody to answer."""


def limited(scope: Scope, receive: Receive, *, seen: int = 0, largest: int = MAX_BODY_BYTES) -> Receive:
    """`receive`, raising `TooLarge` once more came than may come; at once if the request says that it will."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > largest:
        raise TooLarge(largest)

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > largest:
            raise TooLarge(largest)
        return message

    return counted


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body which was read already, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def read(receive: Receive, first: bytes = b"") -> bytes:
    """All of the body; `first` came already. Raises `Gone`."""
    parts = [first]
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_json(send: Send, status: int, content: Any, headers: Headers = ()) -> None:
    """Answer with `content` as JSON."""
    await send_body(send, status, orjson.dumps(content), headers)


async def send_body(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Answer with a body that is JSON already."""
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_binary(send: Send, body: bytes, json_length: int) -> None:
    """Answer with a body of JSON up to `json_length` and of tensors behind it."""
    fields = [
        (b"content-type", b"application/octet-stream"),
        (b"inference-header-content-length", b"%d" % json_length),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
