"""Envoy's own statistics as a source of evidence: traffic that is not ours counts too, whatever server answers it.

The same series come from the local platform's Envoy and from Kourier's. Envoy counts per cluster, one cluster per revision, and does not
know the route's label: the ledger (`relevo.rollout.ledger`) attributes the counts to steps. Neighbours: `locust`, `http`.

What the counts are: requests per final response code (a retried attempt counts once; active health checks are counted elsewhere by
Envoy; its own 503 for a cluster without a ready server counts), errors are the 5xx among them, latency is from the whole
request sent to the whole response received, of all responses, and Envoy merges it into its histograms only every `stats_flush_interval`
(5 s unless set), so it trails the requests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import orjson

from relevo.evidence.http import NoAnswerError, SourceClient
from relevo.rollout.observation import Counts, Reading, Silence

__all__ = ["LATENCY", "REQUESTS", "STATS_PATH", "EnvoySource", "Sample", "add_up", "count_of", "read_revisions"]

REQUESTS: Final = "envoy_cluster_upstream_rq"
LATENCY: Final = "envoy_cluster_upstream_rq_time_bucket"
_LABELS: Final = r'(?:[a-zA-Z_]\w*="[^"\\]*",?)*'  # no cluster's name needs an escape
_LINE: Final = re.compile(rf"({REQUESTS}|{LATENCY})\{{({_LABELS})\}} (\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_RESPONSE_CODE: Final = re.compile(r"[1-5][0-9][0-9]")

# A cluster's name has no dot here, which leaves out the doubles that Envoy keeps as cluster.NAME.external.* and .internal.*.
STATS_PATH: Final = "/stats/prometheus?usedonly&filter=" + quote(r"^cluster\.[^.]+\.upstream_rq_(\d\d\d|time)$")
_EPOCH_PATH: Final = "/config_dump?mask=last_updated"


class EnvoySource:
    """One Envoy by its admin interface at `admin_url`. Implements `EvidenceSource`.

    `namespace`: count only clusters named NAMESPACE/REVISION, as on Kourier. Without it the part before the slash is ignored.

    The epoch is the moment, in ms, when this Envoy process loaded its bootstrap: every reader of one process sees the same, and a
    restarted one has another. Not thread-safe.
    """

    name = "envoy"

    def __init__(
        self,
        admin_url: str,
        timeout_seconds: float = 1.0,
        *,
        namespace: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = SourceClient(admin_url, timeout_seconds)
        self._namespace = namespace
        self._now = now

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read(self) -> Reading | Silence:
        """Read the counts per revision. Never raises."""
        try:
            # The epoch first: should Envoy restart in between, small counts come under the old epoch, and the ledger sees them fall.
            epoch = self._epoch()
            edges_ms, revisions = read_revisions(self._client.get(STATS_PATH).decode(), namespace=self._namespace)
        except NoAnswerError as problem:
            return Silence(self.name, self._now(), str(problem))
        except ValueError as problem:
            return Silence(self.name, self._now(), f"{self._client.address}: not Envoy's statistics ({problem})")
        return Reading(self.name, epoch, self._now(), edges_ms=edges_ms, revisions=revisions)

    def _epoch(self) -> str:
        body = self._client.get(_EPOCH_PATH)
        try:
            dumps = orjson.loads(body)["configs"]
            return next(str(dump["last_updated"]) for dump in dumps if dump["@type"].endswith(".BootstrapConfigDump"))
        except orjson.JSONDecodeError:
            raise NoAnswerError(f"{self._client.address}{_EPOCH_PATH}: not JSON") from None
        except (KeyError, TypeError, AttributeError, StopIteration):
            raise NoAnswerError(f"{self._client.address}{_EPOCH_PATH}: does not say when Envoy started") from None


def read_revisions(text: str, *, namespace: str = "") -> tuple[tuple[float, ...], dict[str, Counts]]:
    """Read counts per revision, and the latency edges in ms, from Envoy's statistics in Prometheus' text format.

    Clusters with other histogram buckets than the rest cannot be compared with them: then there is no latency, and no edges.
    Raises `ValueError` for text that is not in that format.
    """
    return add_up(_samples(text), namespace=namespace)


def add_up(samples: Iterable[Sample], *, namespace: str = "") -> tuple[tuple[float, ...], dict[str, Counts]]:
    """As `read_revisions`, from samples of the two series, of one Envoy or of several."""
    tallies: dict[str, _Tally] = {}
    for sample in samples:
        if (revision := _revision(sample.labels.get("envoy_cluster_name", ""), namespace)) is None:
            continue
        tally = tallies.setdefault(revision, _Tally())
        if sample.name == LATENCY:
            edge = float(sample.labels.get("le", "nan"))
            if math.isnan(edge):
                raise ValueError(f"{LATENCY} without an edge")
            tally.at_most[edge] = tally.at_most.get(edge, 0) + sample.count
        elif _RESPONSE_CODE.fullmatch(code := sample.labels.get("envoy_response_code", "")):
            tally.requests += sample.count
            tally.errors += sample.count if code[0] == "5" else 0
    ladders = {tuple(sorted(tally.at_most)) for tally in tallies.values() if tally.at_most}
    edges = ladders.pop() if len(ladders) == 1 else ()
    counts = {
        revision: Counts(tally.requests, tally.errors, tally.histogram() if edges else ())
        for revision, tally in tallies.items()
    }
    return edges[:-1], counts  # the last edge is infinity: the bucket above all others


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one of the two series."""

    name: str
    labels: dict[str, str]
    count: int


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    errors: int = 0
    at_most: dict[float, int] = field(default_factory=dict)
    """Responses at most so many ms, per edge: cumulative, as Prometheus has it."""

    def histogram(self) -> tuple[int, ...]:
        below, buckets = 0, []
        for edge in sorted(self.at_most):
            buckets.append(self.at_most[edge] - below)
            below = self.at_most[edge]
        return tuple(buckets)


def _samples(text: str) -> Iterator[Sample]:
    """Parse the lines of our two series. The tests hold this against prometheus_client, which takes thrice as long."""
    for line in text.splitlines():
        if line.startswith((REQUESTS + "{", LATENCY + "{")):
            if not (match := _LINE.fullmatch(line)):
                raise ValueError(f"unexpected line {line[:80]!r}")
            name, labels, value = match.groups()
            yield Sample(name, dict(_LABEL.findall(labels)), count_of(name, value))
        elif line and not line.startswith(("#", "envoy_")):
            raise ValueError(f"unexpected line {line[:80]!r}")


def count_of(name: str, text: str) -> int:
    """The number behind a sample's text. Raises `ValueError` for what is no count."""
    value = float(text)
    if not value.is_integer() or value < 0:
        raise ValueError(f"{name} is {text}")
    return int(value)


def _revision(cluster: str, namespace: str) -> str | None:
    owner, _, revision = cluster.rpartition("/")
    return revision if revision and (not namespace or owner == namespace) else None
