"""What stands between uvicorn and KServe's application: `wrap`. Answers `POST /predict` itself and passes all else on.

The fast path for V2 requests belongs here later: it sees every request before KServe does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from kserve.errors import InferenceError, InvalidInput
from starlette.exceptions import HTTPException

from relevo.serving.model import PackagedModel

__all__ = ["MAX_BODY_BYTES", "AsgiApp", "wrap"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Of a request; more is answered 413. The largest request that the model takes is far smaller."""


class _TooLarge(HTTPException):
    """The body is longer than `MAX_BODY_BYTES`. FastAPI lets an HTTPException pass while it reads a body, and answers with it."""

    def __init__(self) -> None:
        super().__init__(413, f"body: is larger than {MAX_BODY_BYTES} bytes")


def wrap(app: AsgiApp, model: PackagedModel) -> AsgiApp:
    """The application that uvicorn serves."""

    async def front(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            limited = _limited(scope, receive)
            if scope["path"] == "/predict":
                await _predict(scope, limited, send, model)
            else:
                await app(scope, limited, send)
        except _TooLarge as error:
            await _answer(send, error.status_code, {"error": error.detail}, close=True)

    return front


async def _predict(scope: MutableMapping[str, Any], receive: Receive, send: Send, model: PackagedModel) -> None:
    if scope["method"] != "POST":
        await _answer(send, 405, {"error": "/predict takes POST"}, headers=[(b"allow", b"POST")])
        return
    try:
        body = orjson.loads(await _read(receive))
    except orjson.JSONDecodeError as error:
        await _answer(send, 400, {"error": f"body: is not JSON: {error}"})
        return
    try:
        await _answer(send, 200, await model.predict_features(body))
    except InvalidInput as error:
        await _answer(send, 400, {"error": error.reason})
    except InferenceError as error:
        await _answer(send, 500, {"error": error.reason})


def _limited(scope: MutableMapping[str, Any], receive: Receive) -> Receive:
    """`receive`, raising once more came than may come; at once if the request says that it will."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _TooLarge
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise _TooLarge
        return message

    return limited


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(
    send: Send, status: int, content: Any, *, headers: list[tuple[bytes, bytes]] | None = None, close: bool = False
) -> None:
    body = orjson.dumps(content)
    fields = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(headers or [])]
    if close:
        fields.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
