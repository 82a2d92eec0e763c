"""Locust as the source of evidence and as the load generator, through its web server.

The counts come from the route `/relevo` that `loadtests.v2` adds (see `wire`); starting, ramping and stopping go through Locust's
own `/swarm` and `/stop`, so that its dashboard shows what is really going on and a person may use it meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import orjson
from pydantic import ValidationError

from relevo import errors
from relevo.evidence.http import NoAnswerError, SourceClient, TooSlowError
from relevo.evidence.source import LoadPlan, ShadowTargets
from relevo.evidence.wire import GeneratorReport, LabelCommand, ShadowCommand
from relevo.rollout.observation import Counts, Pairs, Reading, Silence

__all__ = ["LocustSource"]

_AT_WORK: Final = frozenset({"spawning", "running"})
_REPORT_FRESH_SECONDS: Final = 0.5
_STOP_PATIENCE_SECONDS: Final = 0.2


class LocustSource:
    """One Locust process that runs `loadtests/v2.py`, at `base_url` (`http://127.0.0.1:8089`).

    Implements `EvidenceSource` and `LoadGenerator`. `stamps`: no proxy says by which split a request was routed, so Locust notes
    what `announce` said when it was sent. Not thread-safe: one reconcile loop owns it.
    """

    name = "locust"

    def __init__(
        self,
        base_url: str,
        timeout_seconds: float = 1.0,
        *,
        stamps: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._client = SourceClient(base_url, timeout_seconds)
        self._stamps = stamps
        self._now = now
        self._monotonic = monotonic
        self._report: GeneratorReport | None = None
        self._report_at = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read(self) -> Reading | Silence:
        """Read the counts per (route label, revision), the shadow pairs and the number of users at work. Never raises."""
        try:
            report = self._ask()
        except NoAnswerError as problem:
            return Silence(self.name, self._now(), str(problem))
        if report.workers == 0:
            return Silence(self.name, self._now(), f"Locust at {self._client.address} has no worker just now")
        return Reading(
            source=self.name,
            epoch=report.epoch,
            taken_at=self._now(),
            edges_ms=report.edges_ms,
            steps={
                (entry.label, entry.revision): Counts(
                    requests=entry.requests,
                    errors=entry.errors,
                    latency=entry.latency,
                    predictions=entry.predictions,
                    labelled=entry.labelled,
                    wrong=entry.wrong,
                )
                for entry in report.counts
            },
            pairs={entry.label: Pairs(entry.compared, entry.disagreed) for entry in report.pairs},
            users=report.users,
        )

    def ensure(self, plan: LoadPlan) -> None:
        """Make the load be as planned; see `LoadGenerator`.

        Compares with what Locust last said of itself: what `read` has just fetched, else asked for now. A report is trusted for
        half a second, one tick, and never across a change.
        """
        try:
            report = self._latest()
            # The shadow stage first: users who start into it shadow from their first row on.
            if report.shadow != plan.shadow:
                self._set_shadow(plan.shadow)
            self._ensure_users(report, plan)
        except NoAnswerError as problem:
            raise self._not_heard(problem) from problem

    def announce(self, label: str) -> None:
        """Say by which split requests are routed from now on; see `LoadGenerator`."""
        if not self._stamps:
            return
        try:
            if self._latest().label != label:
                self._report = None
                self._client.post_json("/relevo/label", LabelCommand(label=label).model_dump_json().encode())
        except NoAnswerError as problem:
            raise self._not_heard(problem) from problem

    def _not_heard(self, problem: NoAnswerError) -> errors.Transient:
        self._report = None
        return errors.Transient(
            f"the load generator did not take its orders: {problem}",
            next_step=f"See whether Locust at {self.base_url} runs; relevo tries again.",
        )

    def _ensure_users(self, report: GeneratorReport, plan: LoadPlan) -> None:
        at_work = report.state in _AT_WORK
        if plan.users == 0:
            if at_work:
                self._stop()
            return
        if at_work and report.target_users == plan.users:
            return
        self._report = None
        fields = {"user_count": str(plan.users), "spawn_rate": f"{plan.spawn_rate_per_second:g}"}
        answer = self._client.post_form("/swarm", fields)
        try:
            outcome = orjson.loads(answer)
            taken, message = bool(outcome["success"]), str(outcome.get("message", ""))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise NoAnswerError(f"{self._client.address}/swarm answered something else than Locust does") from None
        if not taken:
            raise NoAnswerError(f"Locust at {self._client.address} refused: {message}")

    def _stop(self) -> None:
        self._report = None
        # Locust answers only when the last user has finished its request. The order is heard before, and the next tick sees.
        with suppress(TooSlowError):
            self._client.post_form("/stop", {}, patience_seconds=_STOP_PATIENCE_SECONDS)

    def _set_shadow(self, shadow: ShadowTargets | None) -> None:
        self._report = None
        try:
            command = ShadowCommand(shadow=shadow)
        except ValidationError as problem:
            raise errors.BadInput(f"shadow targets: {problem.errors()[0]['msg']}") from problem
        self._client.post_json("/relevo", command.model_dump_json().encode())

    def _latest(self) -> GeneratorReport:
        if self._report is not None and self._monotonic() - self._report_at <= _REPORT_FRESH_SECONDS:
            return self._report
        return self._ask()

    def _ask(self) -> GeneratorReport:
        self._report = None
        body = self._client.get("/relevo")
        try:
            report = GeneratorReport.model_validate_json(body)
        except ValidationError as problem:
            raise NoAnswerError(f"{self._client.address}/relevo: {_in_words(problem)}") from None
        self._report, self._report_at = report, self._monotonic()
        return report


def _in_words(problem: ValidationError) -> str:
    first = problem.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return "not JSON"
    where = ".".join(str(part) for part in first["loc"])
    return f"not a report of relevo's load test ({where}: {first['msg']})" if where else first["msg"]
