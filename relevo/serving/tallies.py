"""What the server counts, in one flat array of float64: cheap enough to do on every request, and merged over all workers.

Each worker process writes one row of the array and only from its event loop, so that no count needs a lock; a scrape sums the rows.
The array lies in memory that the workers share, so whichever of them is scraped tells the counts of all. The names and buckets of the
histograms are KServe's own, `kserve.metrics`.
"""

from __future__ import annotations

import contextlib
import mmap
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from time import process_time
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

_USES = 3
_STARTS, _CPU_SECONDS, _MEMORY_BYTES = range(_USES)
"""What a worker notes of itself."""


class Tallies(Collector):
    """Counts of one revision. `row` is the worker's own; a server without workers has row 0."""

    def __init__(self, name: str, revision: str, classes: Sequence[int | str], *, workers: int = 1) -> None:
        self._labels = {"model_name": name, "revision": revision}
        self._classes = tuple(str(c) for c in classes)
        self._first_class = len(STAGES) * _WIDTH
        self._first_error = self._first_class + len(self._classes)
        self._first_use = self._first_error + len(ERROR_KINDS)
        self._length = self._first_use + _USES
        self.workers = workers
        self._starts_cpu_seconds = 0.0
        # Anonymous shared memory: what is forked from here writes into the same pages.
        self._all = memoryview(mmap.mmap(-1, workers * self._length * 8)).cast("B").cast("d")
        self._info: dict[str, str] | None = None
        self.index = {c: self._first_class + i for i, c in enumerate(classes)}
        """By predicted class: where `row` counts it."""
        self.row = self._all[: self._length]

    def use_row(self, worker: int) -> None:
        """Count in the row of this worker from now on. One that was started before it left its counts there, and they go on."""
        self.row = self._all[worker * self._length : (worker + 1) * self._length]
        self.row[self._first_use + _STARTS] += 1.0
        self._starts_cpu_seconds = self.row[self._first_use + _CPU_SECONDS]

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

    def note_use(self) -> None:
        """Note the CPU time and the memory that this worker uses."""
        self.row[self._first_use + _CPU_SECONDS] = self._starts_cpu_seconds + process_time()
        with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as figures:
            self.row[self._first_use + _MEMORY_BYTES] = float(figures.read().split()[1]) * mmap.PAGESIZE

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
        errors = sums[self._first_error : self._first_use]
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
        if self.workers > 1:
            yield from self._uses(keys, values, sums[self._first_use :])

    def _uses(self, keys: list[str], values: list[str], sums: list[float]) -> Iterator[Metric]:
        """Of all workers together, where a single process is described by prometheus_client's own collectors."""
        yield CounterMetricFamily(
            "process_cpu_seconds_total", "CPU time of all workers, in seconds.", value=sums[_CPU_SECONDS]
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Resident memory of all workers, in bytes.", value=sums[_MEMORY_BYTES]
        )
        workers = GaugeMetricFamily("relevo_workers", "Worker processes that this server is to have.", labels=keys)
        workers.add_metric(values, self.workers)
        yield workers
        restarts = CounterMetricFamily(
            "relevo_worker_restarts_total", "Workers that were started for one that ended.", labels=keys
        )
        restarts.add_metric(values, max(sums[_STARTS] - self.workers, 0.0))
        yield restarts

    def _histogram(self, stage: str, sums: list[float]) -> Metric:
        family = HistogramMetricFamily(f"request_{stage}_seconds", f"{stage} request latency", labels=["model_name"])
        total, buckets = 0.0, []
        for bound, count in zip((*_BOUNDS, float("inf")), sums[:-1], strict=True):
            total += count
            buckets.append((floatToGoString(bound), total))  # type: ignore[no-untyped-call]
        family.add_metric([self._labels["model_name"]], buckets, sums[-1])
        return family
