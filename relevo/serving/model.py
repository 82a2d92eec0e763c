"""The `kserve.Model` of a package: V1 and V2 in, validated rows to the predictor, V1 and V2 out, with the revision's name on it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kserve
import numpy as np
import orjson
from kserve import InferOutput, InferRequest, InferResponse
from kserve.errors import InferenceError, InvalidInput
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge

from relevo.packaging.package import Package
from relevo.serving.predictor import Predictor, load_predictor
from relevo.serving.tensors import rows_from_infer_request, rows_from_lists

__all__ = ["PackagedModel"]

_log = logging.getLogger(__name__)

CLASS_OUTPUT = "predict"
PROBABILITY_OUTPUT = "predict_proba"
_PREDICT_THREADS = 2

_INFO = Gauge(
    "relevo_model_info", "What this server serves; always 1.", ["model_name", "revision", "version", "runtime"]
)
_PREDICTIONS = Counter("relevo_predictions_total", "Predicted rows by class.", ["model_name", "revision", "predicted"])
_FAILURES = Counter("relevo_model_failures_total", "Requests on which the model raised.", ["model_name", "revision"])


class PackagedModel(kserve.Model):  # type: ignore[misc]
    """Serves one model package as one revision."""

    def __init__(self, name: str, package: Package, revision: str) -> None:
        super().__init__(name)
        self.package = package
        self.revision = revision
        self._about = package.metadata
        self._predictor: Predictor | None = None
        self._string_classes = isinstance(self._about.classes[0], str)
        # Off the event loop: while a slow model computes, health checks and other requests are still answered.
        self._threads = ThreadPoolExecutor(_PREDICT_THREADS, thread_name_prefix="predict")
        self._counters = {c: _PREDICTIONS.labels(name, revision, str(c)) for c in self._about.classes}
        self._failures = _FAILURES.labels(name, revision)

    def load(self) -> bool:
        """Load the model; raises `errors.BadInput` if the package's does not load here."""
        self._predictor = load_predictor(self.package)
        _INFO.labels(self.name, self.revision, self._about.version, self._about.runtime).set(1)
        self.ready = True
        return self.ready

    def get_input_types(self) -> list[dict[str, Any]]:
        """The input as V2 metadata."""
        shape = [-1, len(self._about.feature_names)]
        return [{"name": self._about.input.name, "datatype": self._about.input.datatype, "shape": shape}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The outputs as V2 metadata."""
        return [
            {"name": CLASS_OUTPUT, "datatype": self._class_datatype, "shape": [-1]},
            {"name": PROBABILITY_OUTPUT, "datatype": "FP64", "shape": [-1, len(self._about.classes)]},
        ]

    @property
    def _class_datatype(self) -> str:
        return "BYTES" if self._string_classes else "INT64"

    async def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        """Answer a V2 `InferRequest` or a V1 body.

        Raises:
            InvalidInput: the request is not what the model takes; answered 4xx or INVALID_ARGUMENT.
            InferenceError: the model raised on a valid request; answered 500 or INTERNAL.
        """
        if isinstance(payload, InferRequest):
            return await self._predict_v2(payload)
        body = _json_object(payload)
        if "instances" not in body:
            raise InvalidInput('instances: is missing; the body must be {"instances": [[...], ...]}')
        rows = rows_from_lists(body["instances"], "instances", self._about)
        return {"predictions": (await self.predict_rows(rows)).tolist()}

    async def predict_features(self, body: Any) -> dict[str, Any]:
        """Answer the beginner's `{"features": [...]}` with `{"prediction": class}`; a list of rows gets a list of classes."""
        if not isinstance(body, dict) or "features" not in body:
            raise InvalidInput('features: is missing; the body must be {"features": [...]}')
        features = body["features"]
        if isinstance(features, list) and features and all(isinstance(row, list) for row in features):
            rows = rows_from_lists(features, "features", self._about)
            return {"prediction": (await self.predict_rows(rows)).tolist()}
        if not isinstance(features, list) or len(features) != len(self._about.feature_names):
            count = f"has {len(features)} values" if isinstance(features, list) else "is no list"
            raise InvalidInput(f"features: {count}, must be {len(self._about.feature_names)} numbers")
        rows = rows_from_lists([features], "features", self._about)
        return {"prediction": (await self.predict_rows(rows)).tolist()[0]}

    async def predict_rows(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        """The class of each row [rows, features]; raises InferenceError if the model raises."""
        classes, _ = await self._answer(rows, probabilities=False)
        return classes

    async def _predict_v2(self, request: InferRequest) -> InferResponse:
        _check_id(request.id)
        wanted = self._wanted_outputs(request)
        rows = rows_from_infer_request(request, self._about)
        classes, probabilities = await self._answer(rows, probabilities=PROBABILITY_OUTPUT in wanted)
        outputs = []
        for name in wanted:
            if name == CLASS_OUTPUT:
                array = classes.astype(np.object_) if self._string_classes else classes.astype(np.int64)
                output = InferOutput(CLASS_OUTPUT, list(array.shape), self._class_datatype)
            else:
                array = probabilities
                output = InferOutput(PROBABILITY_OUTPUT, list(array.shape), "FP64")
            output.set_data_from_numpy(array, binary_data=False)
            outputs.append(output)
        return InferResponse(
            response_id=request.id or str(uuid.uuid4()),
            model_name=self.name,
            model_version=self.revision,
            infer_outputs=outputs,
            use_binary_outputs=bool(request.use_binary_outputs),
            requested_outputs=request.request_outputs,
        )

    def _wanted_outputs(self, request: InferRequest) -> list[str]:
        """The outputs to compute: what the request lists, else the class, and the probabilities if the parameter asks for them."""
        if request.request_outputs:
            names = list(dict.fromkeys(output.name for output in request.request_outputs))
            for name in names:
                if name not in (CLASS_OUTPUT, PROBABILITY_OUTPUT):
                    raise InvalidInput(f"outputs: {name!r} is not one of {CLASS_OUTPUT!r} and {PROBABILITY_OUTPUT!r}")
            return names
        asked = (request.parameters or {}).get(PROBABILITY_OUTPUT, False)
        if hasattr(asked, "bool_param"):  # a gRPC parameter, not yet a Python value
            asked = asked.bool_param if asked.HasField("bool_param") else None
        if not isinstance(asked, bool):
            raise InvalidInput(f"parameters: {PROBABILITY_OUTPUT} must be true or false")
        return [CLASS_OUTPUT, PROBABILITY_OUTPUT] if asked else [CLASS_OUTPUT]

    async def _answer(self, rows: NDArray[np.float64], *, probabilities: bool) -> tuple[NDArray[Any], Any]:
        predictor = self._predictor
        if predictor is None:
            raise RuntimeError("the model was not loaded")
        loop = asyncio.get_running_loop()
        try:
            if probabilities:
                classes, scores = await loop.run_in_executor(self._threads, predictor.classes_and_probabilities, rows)
            else:
                classes, scores = await loop.run_in_executor(self._threads, predictor.classes, rows), None
        except Exception as error:  # a model may raise anything; the caller learns what, the log learns where
            self._failures.inc()
            _log.debug("the model raised", exc_info=True)
            reason = " ".join(str(error).split())[:200]
            raise InferenceError(f"the model failed on this input: {type(error).__name__}: {reason}") from error
        for predicted in classes.tolist():
            self._counters[predicted].inc()
        return classes, scores


def _check_id(request_id: Any) -> None:
    """The answer repeats the id, so it must be text that can be sent."""
    if request_id is None:
        return
    try:
        request_id.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidInput("id: must be a string of valid Unicode") from None


def _json_object(payload: Any) -> dict[str, Any]:
    """A V1 body as an object. KServe hands over bytes when it does not know the content type."""
    if isinstance(payload, bytes | bytearray | str):
        try:
            payload = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"body: is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise InvalidInput('body: must be a JSON object, {"instances": [[...], ...]}')
    return payload
