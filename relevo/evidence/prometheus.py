"""Prometheus as a source of evidence: the same two series of the gateways' Envoys, by query. Neighbours: `envoy` adds them up, `http`.

What Prometheus knows is as old as its last scrape, so every reading says between when its counts were true (`Reading.as_of`), by the
scrapes' own times: the ledger then attributes an increase to a step only if the step lasted from one scrape to the other. With a
scrape every 15 s a step must last some 40 s to be seen at all; the gateways themselves (`kourier`) are asked where that is too long.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from relevo.evidence.envoy import LATENCY, REQUESTS, Sample, add_up, count_of
from relevo.evidence.http import NoAnswerError, SourceClient
from relevo.rollout.observation import Reading, Silence

__all__ = ["PrometheusSource"]

_UPTIME: Final = "envoy_server_uptime"
"""Seconds since an Envoy began: there is a sample at every scrape, traffic or not, and it falls when Envoy starts anew."""

SETTLED: Final = timedelta(seconds=1.5)
"""A younger sample is left for the next look: until then the ledger could not tell which step it still belongs to."""


class PrometheusSource:
    """The requests of all users of one InferenceService, as Prometheus at `base_url` has scraped them. Implements `EvidenceSource`.

    `stale_seconds`: with nothing newer than this from any of the gateways, the source is silent. Must exceed the scrape interval.
    `selector`: further label matchers, as in `job="kourier"`, where several clusters share one Prometheus. Not thread-safe.
    """

    name = "prometheus"

    def __init__(
        self,
        base_url: str,
        namespace: str,
        service: str,
        *,
        stale_seconds: float = 60.0,
        selector: str = "",
        timeout_seconds: float = 1.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = SourceClient(base_url, timeout_seconds)
        self._namespace = namespace
        self._stale = timedelta(seconds=stale_seconds)
        self._now = now
        clusters = f"({re.escape(namespace)}/{re.escape(service)}-predictor-.*)?".replace("\\", "\\\\")
        matchers = [f'__name__=~"{REQUESTS}|{LATENCY}|{_UPTIME}"', f'envoy_cluster_name=~"{clusters}"', selector]
        self._query = "{" + ",".join(m for m in matchers if m) + "}" + f"[{int(stale_seconds)}s]"
        self._run = uuid.uuid4().hex[:12]
        self._lives = 0
        self._last: Mapping[str, _Scrape] = {}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read(self) -> Reading | Silence:
        """Read the counts per revision as of the last scrapes. Never raises."""
        now = self._now()
        try:
            scrapes = self._scrapes(now)
            edges_ms, revisions = add_up(
                (one for scrape in scrapes.values() for one in scrape.samples), namespace=self._namespace
            )
        except NoAnswerError as problem:
            return Silence(self.name, now, str(problem))
        except ValueError as problem:
            return Silence(self.name, now, f"{self._client.address}: not Envoy's series ({problem})")
        if self._last and _began_anew(self._last, scrapes):
            self._lives += 1
        self._last = scrapes
        times = [scrape.at for scrape in scrapes.values()]
        return Reading(
            self.name,
            f"{self._run}-{self._lives}",
            now,
            edges_ms=edges_ms,
            revisions=revisions,
            as_of=(min(times), max(times)),
        )

    def _scrapes(self, now: datetime) -> dict[str, _Scrape]:
        """The last settled scrape of each gateway."""
        found: dict[str, _Scrape] = {}
        series = list(_series(self._ask(now), self._client.address))
        for target, times in _times(series, now - SETTLED).items():
            found[target] = _Scrape(datetime.fromtimestamp(max(times), UTC))
        for name, labels, values in series:
            scrape = found.get(_target(labels))
            value = values.get(scrape.at.timestamp()) if scrape is not None else None
            if scrape is None or value is None:
                continue
            if name == _UPTIME:
                scrape.uptime_seconds = float(value)
            else:
                scrape.samples.append(Sample(name, labels, count_of(name, value)))
        if not found:
            raise NoAnswerError(
                f"Prometheus at {self._client.address} has heard of no gateway ({_UPTIME}) for {self._stale.total_seconds():g} s"
            )
        return found

    def _ask(self, now: datetime) -> Sequence[Any]:
        body = self._client.post_form("/api/v1/query", {"query": self._query, "time": f"{now.timestamp():.3f}"})
        try:
            answer = orjson.loads(body)
            if answer["data"]["resultType"] != "matrix":
                raise NoAnswerError(f"{self._client.address}: not Prometheus' answer to a range")
            return list(answer["data"]["result"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise NoAnswerError(f"{self._client.address}: not Prometheus' query interface") from None


@dataclass(slots=True)
class _Scrape:
    """What one gateway told at one scrape."""

    at: datetime
    samples: list[Sample] = field(default_factory=list)
    uptime_seconds: float = 0.0


_Series = tuple[str, dict[str, str], dict[float, str]]


def _series(result: Sequence[Any], address: str) -> Iterator[_Series]:
    try:
        for one in result:
            labels = {str(k): str(v) for k, v in one["metric"].items()}
            # A time as Prometheus writes it, rounded as `datetime` holds it, so that a scrape's samples are found by it again.
            values = {datetime.fromtimestamp(float(t), UTC).timestamp(): str(v) for t, v in one["values"]}
            yield labels.pop("__name__", ""), labels, values
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NoAnswerError(f"{address}: not Prometheus' query interface") from None


def _target(labels: Mapping[str, str]) -> str:
    """Which gateway a series comes from."""
    return "/".join(labels.get(key, "") for key in ("job", "namespace", "pod", "instance"))


def _times(series: Sequence[_Series], latest: datetime) -> dict[str, list[float]]:
    """When each gateway was scraped, up to a moment."""
    times: dict[str, list[float]] = {}
    for name, labels, values in series:
        settled = [t for t in values if t <= latest.timestamp()] if name == _UPTIME else []
        if settled:
            times.setdefault(_target(labels), []).extend(settled)
    return times


def _began_anew(before: Mapping[str, _Scrape], after: Mapping[str, _Scrape]) -> bool:
    """Whether the sum cannot go on: another set of gateways, or one of them started again in between."""
    if before.keys() != after.keys():
        return True
    for target, last in before.items():
        ran_seconds = (after[target].at - last.at).total_seconds()
        # A second of slack: uptime is told in whole seconds.
        if after[target].uptime_seconds < last.uptime_seconds + ran_seconds - 2.0:
            return True
    return False
