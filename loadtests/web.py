"""The extra route on Locust's web server: `GET /relevo` gives the counts, `POST /relevo` sets or ends the shadow stage.

Its two documents are defined in `relevo.evidence.wire`; `relevo.evidence.locust` is at the other end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
from flask import Flask, Response, request
from pydantic import ValidationError

from loadtests.tally import Tally
from relevo.evidence.counts import LATENCY_EDGES_MS
from relevo.evidence.source import ShadowTargets
from relevo.evidence.wire import ShadowCommand

__all__ = ["add_routes"]

_EPOCH = uuid4().hex
"""Names this process: all counts are of its lifetime."""

_AT_WORK = ("spawning", "running")


def add_routes(
    app: Flask,
    runner: Any,
    tally: Tally,
    shadow: Callable[[], ShadowTargets | None],
    set_shadow: Callable[[ShadowTargets | None], None],
) -> None:
    """Add both routes to Locust's Flask application. `runner` is Locust's."""

    def report() -> Response:
        return _json(
            {
                "epoch": _EPOCH,
                "state": runner.state,
                "users": runner.user_count,
                "target_users": runner.target_user_count if runner.state in _AT_WORK else 0,
                "edges_ms": LATENCY_EDGES_MS,
                "counts": tally.counts(),
                "pairs": tally.pairs(),
                "shadow": shadow(),
            }
        )

    def command() -> Response:
        try:
            asked = ShadowCommand.model_validate_json(request.get_data())
        except ValidationError as problem:
            return _json({"error": _in_words(problem)}, status=400)
        set_shadow(asked.shadow)
        return _json({"shadow": asked.shadow})

    app.add_url_rule("/relevo", "relevo_report", report, methods=["GET"])
    app.add_url_rule("/relevo", "relevo_command", command, methods=["POST"])


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status=status, mimetype="application/json")


def _in_words(problem: ValidationError) -> str:
    first = problem.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
