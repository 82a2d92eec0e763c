"""The one thing that all protocols serve: a revision, which answers checked rows with classes and counts what it did.

Knows nothing of HTTP, gRPC or KServe. `fast` and `model` bring requests to it, `tallies` is where it counts.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import isfinite
from threading import get_ident
from time import monotonic, perf_counter
from typing import Any

from numpy.typing import NDArray

from relevo.packaging.package import Package
from relevo.serving.predictor import Predictor, load_large, load_predictor
from relevo.serving.refusals import ModelFailed, Overloaded
from relevo.serving.schema import Schema
from relevo.serving.tallies import Tallies

__all__ = ["Revision"]

_log = logging.getLogger(__name__)

INLINE_SECONDS = 0.0005
"""A prediction that takes no longer is computed at once, on the event loop: handing it to a thread would cost as much again."""
_PREDICT_THREADS = 2
MAX_WAITING_SECONDS = 5.0
"""A request that would have to wait longer for the model is refused, by how long what waits already is expected to take."""
MAX_WAITING = 64
"""Requests that may wait for the model in any case."""
_PREPROCESS, _PREDICT, _POSTPROCESS = range(3)

Rows = Any
"""float64 [rows, features], a pandas DataFrame, or texts [rows]: what the package's model takes."""
Answer = tuple[list[Any], Any]
"""The classes or values as Python values, flat, and the probabilities or None: `Schema` knows their shapes and types."""


class Revision:
    """A model package under the names that requests know it by."""

    def __init__(
        self, name: str, package: Package, revision: str, *, workers: int = 1, stuck_seconds: float = 120.0
    ) -> None:
        self.name = name
        self.package = package
        self.revision = revision
        self.about = package.metadata
        self.ready = False
        self.schema = Schema(self.about)
        self.tallies = Tallies(name, revision, self.schema.labels, workers=workers)
        self._predictor: Predictor | None = None
        self._stuck_seconds = stuck_seconds
        self._running: dict[int, float] = {}
        self._waiting_seconds = 0.0
        self._waiting = 0
        # Off the event loop: while a slow model computes, health checks and other requests are still answered.
        self._threads = ThreadPoolExecutor(_PREDICT_THREADS, thread_name_prefix="predict")

    @property
    def platform(self) -> str:
        """What computes, as V2 metadata names it."""
        return {"onnx": "onnx_onnxv1", "sklearn": "sklearn"}[self.about.runtime]

    @property
    def live(self) -> bool:
        """False once the model computes on one request for longer than `stuck_seconds`: only a new process helps then."""
        return not self._running or monotonic() - min(self._running.values()) < self._stuck_seconds

    def metadata(self) -> dict[str, Any]:
        """What V2's metadata says of the model: its version is the revision."""
        return {
            "name": self.name,
            "versions": [self.revision],
            "platform": self.platform,
            **self.schema.metadata(),
        }

    def load(self) -> None:
        """Load the model; raises `errors.BadInput` if the package's does not load here."""
        self._predictor = load_predictor(self.package)
        self.tallies.loaded(self.about.version, self.about.runtime)
        self.ready = True

    def load_large(self) -> None:
        """Load what answers large requests faster, where there is such; it may take seconds, and requests are answered meanwhile."""
        load_large(self.package, self.predictor)

    @property
    def predictor(self) -> Predictor:
        """The loaded model."""
        if self._predictor is None:
            raise RuntimeError("the model was not loaded")
        return self._predictor

    def is_quick(self, rows: int) -> bool:
        """Whether to compute this many rows on the event loop, with `predict_now`."""
        return self.predictor.seconds(rows) <= INLINE_SECONDS

    def predict_now(self, rows: Rows, *, probabilities: bool) -> Answer:
        """What the model says of each row, computed here and now. Call it from the event loop only.

        Raises:
            ModelFailed: the model raised.
        """
        began = perf_counter()
        try:
            found = self.predictor.answer(rows, probabilities=probabilities)
        except Exception as error:  # a model may raise anything; the caller learns what, the log learns where
            raise self._failed(error, began) from error
        return self._counted(found, began)

    async def predict(self, rows: Rows, *, probabilities: bool) -> Answer:
        """The same, in a thread if it would take long; so the event loop is never held.

        Raises:
            ModelFailed: the model raised.
            Overloaded: too much waits for the model already.
        """
        if self.is_quick(len(rows)):
            return self.predict_now(rows, probabilities=probabilities)
        seconds = self.predictor.seconds(len(rows))
        seconds = seconds if isfinite(seconds) else 0.0
        if self._waiting >= MAX_WAITING or (self._waiting and self._waiting_seconds > MAX_WAITING_SECONDS):
            self.tallies.failed("overload")
            raise Overloaded(self._waiting)
        self._waiting += 1
        self._waiting_seconds += seconds / _PREDICT_THREADS
        began = perf_counter()
        try:
            work = partial(self._watched, rows, probabilities=probabilities)
            found = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Exception as error:
            raise self._failed(error, began) from error
        finally:
            self._waiting -= 1
            self._waiting_seconds -= seconds / _PREDICT_THREADS
        return self._counted(found, began)

    def _watched(self, rows: Rows, *, probabilities: bool) -> tuple[NDArray[Any], Any]:
        """Compute in a thread, with the time of its start where `live` sees it."""
        thread = get_ident()
        self._running[thread] = monotonic()
        try:
            return self.predictor.answer(rows, probabilities=probabilities)
        finally:
            del self._running[thread]

    def _counted(self, answer: tuple[NDArray[Any], Any], began: float) -> Answer:
        values = self.schema.listed(answer[0])
        self.tallies.timed(_PREDICT, perf_counter() - began)
        self.tallies.predicted(self.schema.counted(values))
        return values, answer[1]

    def _failed(self, error: Exception, began: float) -> ModelFailed:
        self.tallies.timed(_PREDICT, perf_counter() - began)
        self.tallies.failed("model")
        _log.debug("the model raised", exc_info=error)
        return ModelFailed(error)
