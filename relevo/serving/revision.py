"""The one thing that all protocols serve: a revision, which answers checked rows with classes and counts what it did.

Knows nothing of HTTP, gRPC or KServe. `fast` and `model` bring requests to it, `tallies` is where it counts.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevo.packaging.package import Package
from relevo.serving.predictor import Predictor, load_predictor
from relevo.serving.refusals import ModelFailed
from relevo.serving.tallies import Tallies

__all__ = ["CLASS_OUTPUT", "PROBABILITY_OUTPUT", "Revision"]

_log = logging.getLogger(__name__)

CLASS_OUTPUT = "predict"
PROBABILITY_OUTPUT = "predict_proba"
INLINE_SECONDS = 0.0005
"""A prediction that takes no longer is computed at once, on the event loop: handing it to a thread would cost as much again."""
_PREDICT_THREADS = 2
_PREPROCESS, _PREDICT, _POSTPROCESS = range(3)

Rows = NDArray[np.float64]
Answer = tuple[list[Any], Any]
"""The classes as Python values, and the probabilities [rows, classes] or None."""


class Revision:
    """A model package under the names that requests know it by."""

    def __init__(self, name: str, package: Package, revision: str, *, workers: int = 1) -> None:
        self.name = name
        self.package = package
        self.revision = revision
        self.about = package.metadata
        self.ready = False
        self.string_classes = isinstance(self.about.classes[0], str)
        self.tallies = Tallies(name, revision, self.about.classes, workers=workers)
        self._predictor: Predictor | None = None
        # Off the event loop: while a slow model computes, health checks and other requests are still answered.
        self._threads = ThreadPoolExecutor(_PREDICT_THREADS, thread_name_prefix="predict")

    @property
    def class_datatype(self) -> str:
        """Of the output `predict`, as V2 names it."""
        return "BYTES" if self.string_classes else "INT64"

    def load(self) -> None:
        """Load the model; raises `errors.BadInput` if the package's does not load here."""
        self._predictor = load_predictor(self.package)
        self.tallies.loaded(self.about.version, self.about.runtime)
        self.ready = True

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
        """The class of each row [rows, features], computed here and now. Call it from the event loop only.

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
        """The same, in a thread if it would take long; so the event loop is never held."""
        if self.is_quick(len(rows)):
            return self.predict_now(rows, probabilities=probabilities)
        began = perf_counter()
        loop = asyncio.get_running_loop()
        answer = self.predictor.answer
        try:
            found = await loop.run_in_executor(self._threads, lambda: answer(rows, probabilities=probabilities))
        except Exception as error:
            raise self._failed(error, began) from error
        return self._counted(found, began)

    def _counted(self, answer: tuple[NDArray[Any], Any], began: float) -> Answer:
        classes = answer[0].tolist()
        self.tallies.timed(_PREDICT, perf_counter() - began)
        self.tallies.predicted(classes)
        return classes, answer[1]

    def _failed(self, error: Exception, began: float) -> ModelFailed:
        self.tallies.timed(_PREDICT, perf_counter() - began)
        self.tallies.failed("model")
        _log.debug("the model raised", exc_info=error)
        return ModelFailed(error)
