"""The extra routes on Locust's web server: `GET /relevo` gives the counts, `POST /relevo` sets or ends the shadow stage, and
`POST /relevo/label` says under which label requests are counted from now on.

Their documents are defined in `relevo.evidence.wire`; `relevo.evidence.locust` is at the other end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import orjson
from flask import Flask, Response, request
from pydantic import BaseModel, ValidationError

from loadtests.orders import Orders
from loadtests.tally import Tally
from relevo.evidence.counts import LATENCY_EDGES_MS
from relevo.evidence.wire import LabelCommand, ShadowCommand

__all__ = ["add_routes"]

_EPOCH = uuid4().hex
"""Names this process: all counts are of its lifetime."""

_AT_WORK = ("spawning", "running")

C = TypeVar("C", bound=BaseModel)


def add_routes(
    app: Flask, runner: Any, tally: Tally, orders: Orders, tell_workers: Callable[[], None] = lambda: None
) -> None:
    """Add the routes to Locust's Flask application. `runner` is Locust's; `tell_workers` passes changed orders on."""

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
                "shadow": orders.shadow,
                "label": orders.label,
                "workers": getattr(runner, "worker_count", None),
            }
        )

    def shadow() -> Response:
        def obey(asked: ShadowCommand) -> None:
            orders.set_shadow(asked.shadow)

        return take(ShadowCommand, obey)

    def label() -> Response:
        def obey(asked: LabelCommand) -> None:
            orders.set_label(asked.label)

        return take(LabelCommand, obey)

    def take(kind: type[C], obey: Callable[[C], None]) -> Response:
        try:
            asked = kind.model_validate_json(request.get_data())
        except ValidationError as problem:
            return _json({"error": _in_words(problem)}, status=400)
        obey(asked)
        tell_workers()
        return _json(asked.model_dump())

    app.add_url_rule("/relevo", "relevo_report", report, methods=["GET"])
    app.add_url_rule("/relevo", "relevo_shadow", shadow, methods=["POST"])
    app.add_url_rule("/relevo/label", "relevo_label", label, methods=["POST"])


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status=status, mimetype="application/json")


def _in_words(problem: ValidationError) -> str:
    first = problem.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
