"""What stands between uvicorn and KServe's application: `wrap`. It sees every request first, and answers those that need no KServe.

These are the ordinary V2 requests (`fast`), health, the model's metadata, the metrics, and `POST /predict` for beginners. Whatever it
does not answer it passes on unchanged. A version in the path, `/v2/models/NAME/versions/V/...`, is checked here, for KServe knows none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, exposition

from relevo.serving.asgi import (
    AsgiApp,
    Gone,
    Message,
    Receive,
    Scope,
    Send,
    TooLarge,
    limited,
    read,
    replayed,
    send_binary,
    send_body,
    send_json,
)
from relevo.serving.fast import FastPath, Understood
from relevo.serving.large import LARGE_BODY_BYTES, LargeBodies
from relevo.serving.limits import MAX_BODY_BYTES, MAX_OTHER_BODY_BYTES
from relevo.serving.openapi import document
from relevo.serving.reading import json_length
from relevo.serving.refusals import InvalidRequest, ModelFailed, Overloaded
from relevo.serving.revision import Revision
from relevo.serving.tensors import rows_from_lists

__all__ = ["wrap"]

_CLOSE = [(b"connection", b"close")]
_KINDS = {400: "invalid", 404: "other", 405: "other", 413: "too_large"}
"""What an error of this status is counted as."""


def wrap(app: AsgiApp, revision: Revision, *, fast: bool = True) -> AsgiApp:
    """The application that uvicorn serves. Without `fast`, KServe's application answers all V2 requests."""
    return _Front(app, revision, fast=fast)


class _Front:
    def __init__(self, app: AsgiApp, revision: Revision, *, fast: bool) -> None:
        self._app = app
        self._revision = revision
        self._fast = FastPath(revision)
        self._large = LargeBodies(revision, self._fast)
        self._model_path = f"/v2/models/{revision.name}"
        self._version_path = f"{self._model_path}/versions/"
        self._infer_paths = frozenset(
            {f"{self._model_path}/infer", f"{self._version_path}{revision.revision}/infer"} if fast else ()
        )
        self._views: dict[str, Callable[[], tuple[int, Any]]] = {
            "/": lambda: (200, {"status": "alive"}),
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            f"{self._model_path}/ready": self._model_ready,
            self._model_path: lambda: (200, revision.metadata()),
            "/openapi.json": lambda: (200, document(revision)),
        }
        self._registry = CollectorRegistry()
        self._registry.register(revision.tallies)
        if revision.tallies.workers == 1:  # of several workers these would describe the one that was asked
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        try:
            if path in self._infer_paths and scope["method"] == "POST":
                length = json_length(scope["headers"], MAX_BODY_BYTES)
                if length is None:
                    await self._pass_on(scope, limited(scope, receive, largest=MAX_OTHER_BODY_BYTES), send)
                else:
                    await self._infer(scope, receive, send, length)
            elif scope["method"] == "GET" and path in self._views:
                await send_json(send, *self._views[path]())
            elif scope["method"] == "GET" and path == "/metrics":
                await self._metrics(scope, send)
            elif path == "/predict":
                await self._predict(scope, receive, self._counting(send))
            else:
                await self._pass_on(scope, limited(scope, receive, largest=MAX_OTHER_BODY_BYTES), send)
        except TooLarge as error:
            await send_json(self._counting(send), error.status_code, {"error": error.detail}, _CLOSE)
        except Gone:
            return

    async def _infer(self, scope: Scope, receive: Receive, send: Send, length: int) -> None:
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body", False) or len(body) > MAX_BODY_BYTES:
            body = await read(limited(scope, receive, seen=len(body)), body)
        elif message["type"] == "http.disconnect":
            raise Gone
        request = await self._understood(body, length, send)
        if request is None:
            if len(body) <= LARGE_BODY_BYTES:
                await self._pass_on(scope, replayed(body, receive), send)
            return
        del body
        self._fast.taken(request)
        revision = self._revision
        rows, probabilities = request.rows, request.probabilities
        try:
            if revision.is_quick(len(rows)):
                classes, scores = revision.predict_now(rows, probabilities=probabilities)
            else:
                classes, scores = await revision.predict(rows, probabilities=probabilities)
        except ModelFailed as error:
            await send_json(send, 500, {"error": str(error)})
        except Overloaded as error:
            await send_json(send, 503, {"error": str(error)}, _retry(error))
        else:
            answer, ends = self._fast.answer(request, classes, scores)
            if ends is None:
                await send_body(send, 200, answer)
            else:
                await send_binary(send, answer, ends)

    async def _understood(self, body: bytes, length: int, send: Send) -> Understood | None:
        """The request; None if KServe's application is to answer it, or if it was large and has been refused."""
        if len(body) <= LARGE_BODY_BYTES:
            return self._fast.understood(body, length)
        try:
            return await self._large.understood(body, length)
        except InvalidRequest as error:
            await send_json(self._counting(send), 400, {"error": str(error)})
            return None

    def _live(self) -> tuple[int, Any]:
        return (200, {"live": True}) if self._revision.live else (503, {"error": "Server is not live."})

    def _ready(self) -> tuple[int, Any]:
        return (200, {"ready": True}) if self._revision.ready else (503, {"error": "Server is not ready."})

    def _model_ready(self) -> tuple[int, Any]:
        name = self._revision.name
        if self._revision.ready:
            return 200, {"name": name, "ready": True}
        return 503, {"error": f"Model with name {name} is not ready."}

    async def _metrics(self, scope: Scope, send: Send) -> None:
        accepted = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        encode, kind = exposition.choose_encoder(accepted)
        body = encode(self._registry)
        fields = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(self._version_path):
            version, slash, rest = path.removeprefix(self._version_path).partition("/")
            if version != self._revision.revision:
                await send_json(send, 404, {"error": f"Model with name {self._revision.name} has no version {version}"})
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
            await send_json(send, 405, {"error": "/predict takes POST"}, [(b"allow", b"POST")])
            return
        try:
            body = orjson.loads(await read(limited(scope, receive, largest=MAX_OTHER_BODY_BYTES)))
        except orjson.JSONDecodeError as error:
            await send_json(send, 400, {"error": f"body: is not JSON: {error}"})
            return
        try:
            await send_json(send, 200, await self._prediction(body))
        except InvalidRequest as error:
            await send_json(send, 400, {"error": str(error)})
        except ModelFailed as error:
            await send_json(send, 500, {"error": str(error)})
        except Overloaded as error:
            await send_json(send, 503, {"error": str(error)}, _retry(error))

    async def _prediction(self, body: Any) -> dict[str, Any]:
        about = self._revision.about
        if not isinstance(body, dict) or "features" not in body:
            raise InvalidRequest('features: is missing; the body must be {"features": [...]}')
        features = body["features"]
        several = isinstance(features, list) and features and all(isinstance(row, list | dict) for row in features)
        if about.input.kind == "text":
            several = isinstance(features, list)
        elif (
            about.input.kind == "tensor"
            and not several
            and (not isinstance(features, list) or len(features) != len(about.feature_names))
        ):
            count = f"has {len(features)} values" if isinstance(features, list) else "is no list"
            raise InvalidRequest(f"features: {count}, must be {len(about.feature_names)} numbers")
        rows = rows_from_lists(features if several else [features], "features", about)
        values, _ = await self._revision.predict(rows, probabilities=False)
        predicted = self._revision.schema.by_row(values)
        return {"prediction": predicted if several else predicted[0]}


def _retry(error: Overloaded) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", b"%d" % error.retry_after_seconds)]
