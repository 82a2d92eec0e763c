"""The `kserve.Model` of a revision: V1 and V2 in, checked rows to the revision, V1 and V2 out, with the revision's name on it."""

from __future__ import annotations

import uuid
from time import perf_counter
from typing import Any

import kserve
import numpy as np
import orjson
from kserve import InferOutput, InferRequest, InferResponse
from kserve.model import InferenceVerb
from numpy.typing import NDArray

from relevo.serving.refusals import InvalidRequest
from relevo.serving.revision import CLASS_OUTPUT, PROBABILITY_OUTPUT, Revision
from relevo.serving.tensors import Tensor, rows_from_lists, rows_from_tensors

__all__ = ["PackagedModel"]

_PREPROCESS, _POSTPROCESS = 0, 2


class PackagedModel(kserve.Model):  # type: ignore[misc]
    """A revision, as KServe's server knows models."""

    def __init__(self, revision: Revision) -> None:
        super().__init__(revision.name)
        self._revision = revision
        self._about = revision.about
        self.ready = revision.ready

    def get_input_types(self) -> list[dict[str, Any]]:
        """The input as V2 metadata."""
        return list(self._revision.metadata()["inputs"])

    def get_output_types(self) -> list[dict[str, Any]]:
        """The outputs as V2 metadata."""
        return list(self._revision.metadata()["outputs"])

    async def __call__(
        self, body: Any, headers: dict[str, str] | None = None, verb: InferenceVerb = InferenceVerb.PREDICT
    ) -> tuple[Any, dict[str, str]]:
        """KServe's own would time its empty steps before and after `predict`; these are timed where they happen.

        Raises:
            InvalidRequest: the request is not what the model takes.
            ModelFailed: the model raised on a valid request.
        """
        if verb is not InferenceVerb.PREDICT:
            raise NotImplementedError
        return await self.predict(body, headers), {}

    async def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        """Answer a V2 `InferRequest` or a V1 body."""
        if isinstance(payload, InferRequest):
            return await self._predict_v2(payload)
        began = perf_counter()
        body = _json_object(payload)
        if "instances" not in body:
            raise InvalidRequest('instances: is missing; the body must be {"instances": [[...], ...]}')
        rows = rows_from_lists(body["instances"], "instances", self._about)
        self._timed(_PREPROCESS, began)
        classes, _ = await self._revision.predict(rows, probabilities=False)
        self._timed(_POSTPROCESS, perf_counter())
        return {"predictions": classes}

    async def _predict_v2(self, request: InferRequest) -> InferResponse:
        began = perf_counter()
        _check_id(request.id)
        wanted = self._wanted_outputs(request)
        rows = rows_from_tensors(_tensors(request), self._about)
        self._timed(_PREPROCESS, began)
        classes, scores = await self._revision.predict(rows, probabilities=PROBABILITY_OUTPUT in wanted)
        began = perf_counter()
        answer = InferResponse(
            response_id=request.id or str(uuid.uuid4()),
            model_name=self.name,
            model_version=self._revision.revision,
            infer_outputs=[self._output(name, classes, scores) for name in wanted],
            use_binary_outputs=bool(request.use_binary_outputs),
            requested_outputs=request.request_outputs,
        )
        self._timed(_POSTPROCESS, began)
        return answer

    def _output(self, name: str, classes: list[Any], scores: NDArray[np.float64] | None) -> InferOutput:
        array = np.array(classes, np.object_ if self._revision.string_classes else np.int64)
        datatype = self._revision.class_datatype
        if name == PROBABILITY_OUTPUT and scores is not None:
            array, datatype = scores, "FP64"
        output = InferOutput(name, list(array.shape), datatype)
        output.set_data_from_numpy(array, binary_data=False)
        return output

    def _wanted_outputs(self, request: InferRequest) -> list[str]:
        """The outputs to compute: what the request lists, else the class, and the probabilities if the parameter asks for them."""
        if request.request_outputs:
            names = list(dict.fromkeys(output.name for output in request.request_outputs))
            for name in names:
                if name not in (CLASS_OUTPUT, PROBABILITY_OUTPUT):
                    raise InvalidRequest(f"outputs: {name!r} is not one of {CLASS_OUTPUT!r} and {PROBABILITY_OUTPUT!r}")
            return names
        asked = (request.parameters or {}).get(PROBABILITY_OUTPUT, False)
        if not isinstance(asked, bool):
            raise InvalidRequest(f"parameters: {PROBABILITY_OUTPUT} must be true or false")
        return [CLASS_OUTPUT, PROBABILITY_OUTPUT] if asked else [CLASS_OUTPUT]

    def _timed(self, stage: int, began: float) -> None:
        self._revision.tallies.timed(stage, perf_counter() - began)


def _tensors(request: InferRequest) -> list[Tensor]:
    return [Tensor(item.name, item.shape, item.datatype, item.data, item._raw_data) for item in request.inputs or ()]


def _check_id(request_id: Any) -> None:
    """The answer repeats the id, so it must be text that can be sent."""
    if request_id is None:
        return
    try:
        request_id.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidRequest("id: must be a string of valid Unicode") from None


def _json_object(payload: Any) -> dict[str, Any]:
    """A V1 body as an object. KServe hands over bytes when it does not know the content type."""
    if isinstance(payload, bytes | bytearray | str):
        try:
            payload = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"body: is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise InvalidRequest('body: must be a JSON object, {"instances": [[...], ...]}')
    return payload
