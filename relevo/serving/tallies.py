"""What the server counts, in one flat array of float64: cheap enough to do on every request, and merged over all workers.

Each worker process writes one row of the array and only from its event loop, so that no count needs a lock; a scrape sums the rows.
The array lies in memory that the workers share, so whichever of them is scraped tells the counts of all. The names and buckets of the
histograms are KServe's own, `kserve.metrics`.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

__all__ = ["ERROR_KINDS", "STAGES", "Tallies"]

STAGES = ("preprocess", "predict", "postprocess")
"""What KServe times of a request: decoding it, the model, encoding the answer. In seconds."""
ERROR_KINDS = ("invalid", "model", "too_large", "overload", "other", "unauthenticated", "forbidden", "issuer")
"""What requests to infer can end with instead of an answer; the last three are refusals of `guard`, by any path."""

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_WIDTH = len(_BOUNDS) + 2
"""Of one histogram: its buckets, the one to infinity, and the sum."""


class Tallies(Collector):
    """Counts of one revision. `row` is the worker's own; a server without workers has row 0."""

    def __init__(self, name: str, revision: str, classes: Sequence[int | str], *, workers: int = 1) -> None:
        self._labels = {"model_name": name, "revision": revision}
        self._classes = tuple(str(c) for c in classes)
        self._first_class = len(STAGES) * _WIDTH
        self._first_error = self._first_class + len(self._classes)
        self._length = self._first_error + len(ERROR_KINDS)
        # Anonymous shared memory: what is forked from here writes into the same pages.
        self._all = memoryview(mmap.mmap(-1, workers * self._length * 8)).cast("B").cast("d")
        self._info: dict[str, str] | None = None
        self.index = {c: self._first_class + i for i, c in enumerate(classes)}
        """By predicted class: where `row` counts it."""
        self.row = self._all[: self._length]

    def use_row(self, worker: int) -> None:
        """Count in the row of this worker from now on."""
        self.row = self._all[worker * self._length : (worker + 1) * self._length]

    def loaded(self, version: str, runtime: str) -> None:
        """Tell what is served."""
        self._info = {"version": version, "runtime": runtime}

    def timed(self, stage: int, seconds: float) -> None:
        """Count a duration of `STAGES[stage]`."""
        first = stage * _WIDTH
        row = self.row
        row[first + bisect_left(_BOUNDS, seconds)] += 1.0
        row[first + _WIDTH - 1] += seconds

    def predicted(self, classes: list[Any]) -> None:
        """Count the predicted class of each row."""
        row, index = self.row, self.index
        if len(classes) == 1:
            row[index[classes[0]]] += 1.0
            return
        for found in set(classes):
            row[index[found]] += classes.count(found)

    def failed(self, kind: str) -> None:
        """Count a request that ended in an error; `kind` is one of `ERROR_KINDS`."""
        self.row[self._first_error + ERROR_KINDS.index(kind)] += 1.0

    def collect(self) -> Iterator[Metric]:
        """The sums over all workers, as Prometheus takes them."""
        sums = [sum(self._all[i :: self._length]) for i in range(self._length)]
        for stage, name in enumerate(STAGES):
            yield self._histogram(name, sums[stage * _WIDTH : (stage + 1) * _WIDTH])
        keys = list(self._labels)
        values = list(self._labels.values())
        if self._info is not None:
            info = GaugeMetricFamily(
                "relevo_model_info", "What this server serves; always 1.", labels=[*keys, *self._info]
            )
            info.add_metric([*values, *self._info.values()], 1.0)
            yield info
        predictions = CounterMetricFamily(
            "relevo_predictions_total", "Predicted rows by class.", labels=[*keys, "predicted"]
        )
        for i, found in enumerate(self._classes):
            predictions.add_metric([*values, found], sums[self._first_class + i])
        yield predictions
        errors = sums[self._first_error :]
        failures = CounterMetricFamily(
            "relevo_model_failures_total", "Requests on which the model raised.", labels=keys
        )
        failures.add_metric(values, errors[ERROR_KINDS.index("model")])
        yield failures
        by_kind = CounterMetricFamily(
            "relevo_request_errors_total", "Requests to infer that got no prediction, by why.", labels=[*keys, "kind"]
        )
        for kind, count in zip(ERROR_KINDS, errors, strict=True):
            by_kind.add_metric([*values, kind], count)
        yield by_kind

    def _histogram(self, stage: str, sums: list[float]) -> Metric:
        family = HistogramMetricFamily(f"request_{stage}_seconds", f"{stage} request latency", labels=["model_name"])
        total, buckets = 0.0, []
        for bound, count in zip((*_BOUNDS, float("inf")), sums[:-1], strict=True):
            total += count
            buckets.append((floatToGoString(bound), total))  # type: ignore[no-untyped-call]
        family.add_metric([self._labels["model_name"]], buckets, sums[-1])
        return family
