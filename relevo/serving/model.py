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
from kserve.protocol.infer_type import RequestedOutput
from numpy.typing import NDArray

from relevo.serving.refusals import InvalidRequest
from relevo.serving.revision import Revision
from relevo.serving.schema import PROBABILITY_OUTPUT, Wanted
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
        return {"predictions": self._revision.schema.by_row(classes)}

    async def _predict_v2(self, request: InferRequest) -> InferResponse:
        began = perf_counter()
        _check_id(request.id)
        listed = request.request_outputs
        wanted = self._revision.schema.wanted(
            [(output.name, output.parameters) for output in listed] if listed else None, request.parameters
        )
        rows = rows_from_tensors(_tensors(request), self._about)
        self._timed(_PREPROCESS, began)
        classes, scores = await self._revision.predict(
            rows, probabilities=any(one.name == PROBABILITY_OUTPUT for one in wanted)
        )
        began = perf_counter()
        answer = InferResponse(
            response_id=request.id or str(uuid.uuid4()),
            model_name=self.name,
            model_version=self._revision.revision,
            infer_outputs=[self._output(one, classes, scores) for one in wanted],
            # KServe takes the form of each output from here only.
            requested_outputs=[
                RequestedOutput(one.name, {"binary_data": one.binary}) for one in _as_listed(wanted, listed)
            ],
        )
        self._timed(_POSTPROCESS, began)
        return answer

    def _output(self, wanted: Wanted, classes: list[Any], scores: NDArray[np.float64] | None) -> InferOutput:
        array, datatype = self._revision.schema.array(wanted.name, classes, scores)
        output = InferOutput(wanted.name, list(array.shape), datatype)
        output.set_data_from_numpy(array, binary_data=False)
        return output

    def _timed(self, stage: int, began: float) -> None:
        self._revision.tallies.timed(stage, perf_counter() - began)


def _as_listed(wanted: tuple[Wanted, ...], listed: Any) -> list[Wanted]:
    """`wanted` as often and in the order in which the request lists its outputs."""
    by_name = {one.name: one for one in wanted}
    return [by_name[output.name] for output in listed] if listed else list(wanted)


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
