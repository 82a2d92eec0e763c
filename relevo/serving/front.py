"""What stands between uvicorn and KServe's application: `wrap`. It sees every request first, and answers those that need no KServe.

That is the fast path for V2 requests, `POST /predict` for beginners, and nothing else yet; whatever it does not answer it passes on
unchanged. A version in the path, `/v2/models/NAME/versions/V/...`, is checked here, for KServe knows none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException

from relevo.serving.fast import FastPath
from relevo.serving.limits import MAX_BODY_BYTES
from relevo.serving.refusals import InvalidRequest, ModelFailed
from relevo.serving.revision import Revision
from relevo.serving.tensors import rows_from_lists

__all__ = ["AsgiApp", "wrap"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_UNUSUAL = frozenset({b"inference-header-content-length", b"ce-specversion", b"content-encoding"})
"""Headers that make a request one for KServe's application: binary tensors, CloudEvents."""
_KINDS = {400: "invalid", 404: "other", 405: "other", 413: "too_large"}
"""What an error of this status is counted as."""


class _TooLarge(HTTPException):
    """The body is longer than `MAX_BODY_BYTES`. FastAPI lets an HTTPException pass while it reads a body, and answers with it."""

    def __init__(self) -> None:
        super().__init__(413, f"body: is larger than {MAX_BODY_BYTES} bytes")


class _Gone(Exception):
    """The client went away before all of its request had come: there is nobody to answer."""


def wrap(app: AsgiApp, revision: Revision, *, fast: bool = True) -> AsgiApp:
    """The application that uvicorn serves. Without `fast`, KServe's application answers all V2 requests."""
    return _Front(app, revision, fast=fast)


class _Front:
    def __init__(self, app: AsgiApp, revision: Revision, *, fast: bool) -> None:
        self._app = app
        self._revision = revision
        self._fast = FastPath(revision)
        self._model_path = f"/v2/models/{revision.name}"
        self._version_path = f"{self._model_path}/versions/"
        self._infer_paths = frozenset(
            {f"{self._model_path}/infer", f"{self._version_path}{revision.revision}/infer"} if fast else ()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        try:
            if path in self._infer_paths and scope["method"] == "POST" and _is_plain_json(scope["headers"]):
                await self._infer(scope, receive, send)
            elif path == "/predict":
                await self._predict(scope, receive, self._counting(send))
            else:
                await self._pass_on(scope, _limited(scope, receive), send)
        except _TooLarge as error:
            await _answer(self._counting(send), error.status_code, {"error": error.detail}, close=True)
        except _Gone:
            return

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body", False) or len(body) > MAX_BODY_BYTES:
            body = await _read(_limited(scope, receive, len(body)), body)
        elif message["type"] == "http.disconnect":
            raise _Gone
        request = self._fast.understood(body)
        if request is None:
            await self._pass_on(scope, _replayed(body, receive), send)
            return
        revision = self._revision
        rows, probabilities = request.rows, request.probabilities
        try:
            if revision.is_quick(len(rows)):
                classes, scores = revision.predict_now(rows, probabilities=probabilities)
            else:
                classes, scores = await revision.predict(rows, probabilities=probabilities)
        except ModelFailed as error:
            await _answer(send, 500, {"error": str(error)})
            return
        await _send(send, 200, self._fast.answer(request, classes, scores))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(self._version_path):
            version, slash, rest = path.removeprefix(self._version_path).partition("/")
            if version != self._revision.revision:
                await _answer(send, 404, {"error": f"Model with name {self._revision.name} has no version {version}"})
                return
            plain = f"{self._model_path}{slash}{rest}"
            scope = {**scope, "path": plain, "raw_path": plain.encode()}
        await self._app(scope, receive, self._counting(send) if scope["method"] == "POST" else send)

    def _counting(self, send: Send) -> Send:
        """`send`, counting what ends as the request's fault. The model's own failures are counted where they happen."""

        async def counting(message: Message) -> None:
            kind = _KINDS.get(message.get("status", 200))
            if kind is not None:
                self._revision.tallies.failed(kind)
            await send(message)

        return counting

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the beginner's `{"features": [...]}` with `{"prediction": class}`; a list of rows gets a list of classes."""
        if scope["method"] != "POST":
            await _answer(send, 405, {"error": "/predict takes POST"}, headers=[(b"allow", b"POST")])
            return
        try:
            body = orjson.loads(await _read(_limited(scope, receive)))
        except orjson.JSONDecodeError as error:
            await _answer(send, 400, {"error": f"body: is not JSON: {error}"})
            return
        try:
            await _answer(send, 200, await self._prediction(body))
        except InvalidRequest as error:
            await _answer(send, 400, {"error": str(error)})
        except ModelFailed as error:
            await _answer(send, 500, {"error": str(error)})

    async def _prediction(self, body: Any) -> dict[str, Any]:
        about = self._revision.about
        if not isinstance(body, dict) or "features" not in body:
            raise InvalidRequest('features: is missing; the body must be {"features": [...]}')
        features = body["features"]
        several = isinstance(features, list) and features and all(isinstance(row, list) for row in features)
        if not several and (not isinstance(features, list) or len(features) != len(about.feature_names)):
            count = f"has {len(features)} values" if isinstance(features, list) else "is no list"
            raise InvalidRequest(f"features: {count}, must be {len(about.feature_names)} numbers")
        rows = rows_from_lists(features if several else [features], "features", about)
        classes, _ = await self._revision.predict(rows, probabilities=False)
        return {"prediction": classes if several else classes[0]}


def _is_plain_json(headers: list[tuple[bytes, bytes]]) -> bool:
    kind = None
    for name, value in headers:
        if name == b"content-type":
            if kind is not None:
                return False
            kind = value
        elif name in _UNUSUAL or (name == b"content-length" and int(value) > MAX_BODY_BYTES):
            return False
    return kind in _JSON


def _limited(scope: Scope, receive: Receive, seen: int = 0) -> Receive:
    """`receive`, raising once more came than may come; at once if the request says that it will."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _TooLarge

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise _TooLarge
        return message

    return limited


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body which was read already, and then what comes after it."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _read(receive: Receive, first: bytes = b"") -> bytes:
    parts = [first]
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(
    send: Send, status: int, content: Any, *, headers: list[tuple[bytes, bytes]] | None = None, close: bool = False
) -> None:
    await _send(
        send, status, orjson.dumps(content), [*(headers or []), *([(b"connection", b"close")] if close else [])]
    )


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
