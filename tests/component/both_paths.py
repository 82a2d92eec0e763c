"""One package behind the fast path and behind KServe's application alone, asked as uvicorn asks them: for tests that compare the two."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevo.packaging import load_package
from relevo.serving import application, front
from relevo.serving.revision import Revision

__all__ = ["BINARY", "JSON", "LENGTH", "PATH", "Answer", "Served", "compare"]

JSON = [(b"content-type", b"application/json")]
BINARY = [(b"content-type", b"application/octet-stream")]
LENGTH = b"inference-header-content-length"
PATH = "/v2/models/iris/infer"


@dataclass
class Answer:
    """What came back, and what the server counted meanwhile."""

    status: int
    kind: bytes
    body: Any
    counted: list[float]
    fast: bool


class Served:
    """One package behind both paths, called as uvicorn calls them."""

    def __init__(self, folder: Path) -> None:
        self.package = load_package(folder)
        self.revision = Revision("iris", self.package, "iris-predictor-00007")
        self.revision.load()
        app = application.build(self.revision)
        self.passed_on = 0
        self.fast = front.wrap(self._count(app), self.revision)
        self.slow = front.wrap(app, self.revision, fast=False)

    def _count(self, app: Any) -> Any:
        async def counted(*arguments: Any) -> None:
            self.passed_on += 1
            await app(*arguments)

        return counted

    async def ask(self, app: Any, body: bytes, path: str, headers: list[tuple[bytes, bytes]]) -> Answer:
        """Call `app` once."""
        sent: list[Any] = []
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return parts.pop(0) if parts else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [*headers, (b"content-length", b"%d" % len(body))], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        before, passed_on = list(self.revision.tallies.row), self.passed_on
        await app(scope, receive, send)
        changed = [after - was for after, was in zip(self.revision.tallies.row, before, strict=True)]
        answered = dict(sent[0]["headers"])
        content = b"".join(message.get("body", b"") for message in sent[1:])
        assert int(answered.get(b"content-length", len(content))) == len(content)
        ends = int(answered.get(LENGTH, len(content)))
        body = json.loads(content[:ends])
        if LENGTH in answered:
            body = {**body, "bytes behind it": content[ends:]}
        return Answer(
            sent[0]["status"],
            answered.get(b"content-type", b"application/octet-stream"),
            body,
            counts(changed),
            passed_on == self.passed_on,
        )


def counts(row: list[float]) -> list[float]:
    """The changes that do not depend on how long things took: each histogram's count, then all the counters."""
    width, stages = 16, 3
    histograms = [sum(row[s * width : (s + 1) * width - 1]) for s in range(stages)]
    return [*histograms, *row[stages * width :]]


def compare(served: Served, loop: asyncio.AbstractEventLoop, body: bytes, path: str, headers: Any) -> Answer:
    """Ask both paths and hold them to be the same."""
    quick = loop.run_until_complete(served.ask(served.fast, body, path, headers))
    slow = loop.run_until_complete(served.ask(served.slow, body, path, headers))
    for answer in (quick, slow):
        if answer.status == 200 and not _gives_id(body, headers):
            answer.body["id"] = "generated"
    same = (quick.status, quick.kind, quick.body) == (slow.status, slow.kind, slow.body)
    assert same, f"{body!r} gives\n{quick.status} {quick.body} fast, but\n{slow.status} {slow.body}"
    assert quick.counted == slow.counted
    assert slow.status in (200, 400, 404) or (slow.status == 500 and "the model failed" in slow.body["error"])
    return quick


def _gives_id(body: bytes, headers: Any) -> bool:
    try:
        return bool(json.loads(body).get("id"))
    except ValueError:  # tensors follow the JSON
        return bool(json.loads(body[: int(dict(headers)[LENGTH])]).get("id"))
