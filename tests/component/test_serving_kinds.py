"""Regressors, several outputs, texts, frames and missing values: both paths, random requests, right and wrong."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from relevo.packaging import TrainingResult, save_package
from relevo.packaging.metadata import DataInfo
from tests.component.both_paths import BINARY, JSON, LENGTH, PATH, Served, compare
from tests.component.model_server import Server, serving

pytestmark = pytest.mark.component

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(80, 3)), 2)
HOLES = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
SIDE = (X[:, 0] > 0).astype(int)
TEXTS = np.array([f"{'good' if side else 'bad'} film {i % 7}" for i, side in enumerate(SIDE)], dtype=object)
FRAME = pandas.DataFrame(
    {
        "age": HOLES[:, 0],
        "visits": np.arange(80) % 9,
        "member": SIDE == 0,
        "city": np.where(RNG.random(80) < 0.2, None, RNG.choice(["Bern", "Lyon", "Zürich"], 80)),
    }
)
MIXED = make_column_transformer(
    (SimpleImputer(), ["age", "visits"]),
    ("passthrough", ["member"]),
    (make_pipeline(SimpleImputer(strategy="constant", missing_values=None, fill_value="?"),
                   OneHotEncoder(handle_unknown="ignore")), ["city"]),
)  # fmt: skip
MODELS: dict[str, tuple[Any, Any, Any]] = {
    "regressor": (RandomForestRegressor(8, random_state=0), X, X @ np.array([1.0, 2.0, -1.0])),
    "values": (RandomForestRegressor(8, random_state=0), X, X[:, :2] * 2),
    "outputs": (RandomForestClassifier(4, random_state=0), X, np.column_stack([SIDE, 1 - SIDE])),
    "words": (DecisionTreeClassifier(random_state=0), X, np.array(["non", "oui é"])[SIDE]),
    "holes": (HistGradientBoostingClassifier(max_iter=5), HOLES, SIDE),
    "text": (make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS, np.array(["down", "up"])[SIDE]),
    "frame": (make_pipeline(MIXED, LogisticRegression()), FRAME, SIDE),
}


def package(folder: Path, kind: str) -> Path:
    """A package of that kind of model."""
    estimator, x, y = MODELS[kind]
    names = {"text": ("review",), "frame": tuple(FRAME)}.get(kind, ("a", "b", "c"))
    result = TrainingResult(
        estimator=estimator.fit(x, y),
        feature_names=names,
        data=DataInfo(name="d", digest="sha256:0", train_rows=80, validation_rows=0, test_rows=80),
        x_train=x,
        x_test=x,
        y_test=y,
        metrics={"test": {}},
        parameters={},
    )
    return save_package(folder / kind, result, name="iris", version="1").folder


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all requests of this module."""
    running = asyncio.new_event_loop()
    yield running
    running.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    """One of each."""
    folder = tmp_path_factory.mktemp("packages")
    return {kind: Served(package(folder, kind)) for kind in MODELS}


def tensors(kind: str, rows: Any) -> list[dict[str, Any]]:
    """These rows as inputs in JSON."""
    if kind == "text":
        return [{"name": "review", "shape": [len(rows)], "datatype": "BYTES", "data": list(rows)}]
    if kind != "frame":
        data = [None if np.isnan(value) else value for value in rows.ravel().tolist()]
        return [{"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": data}]
    datatypes = {"age": "FP64", "visits": "INT64", "member": "BOOL", "city": "BYTES"}
    inputs = []
    for name, datatype in datatypes.items():
        data = [None if pandas.isna(value) else value for value in rows[name].tolist()]
        inputs.append({"name": name, "shape": [len(rows)], "datatype": datatype, "data": data})
    return inputs


def some_rows(kind: str, index: list[int]) -> Any:
    """Held-out rows by their number."""
    x = MODELS[kind][1]
    return x.iloc[index] if kind == "frame" else x[index]


odd = st.sampled_from(
    [None, True, "", "x", "é", 1, 1.5, -1, 2**63, 1e31, [], [1.0], {}, "FP64", "BYTES", "INT64", "BOOL", "\ud800"]
)


@st.composite
def requests(draw: st.DrawFn, kind: str) -> tuple[bytes, Any]:
    """A request for this model and its headers: right, or with something odd in it."""
    rows = some_rows(kind, draw(st.lists(st.integers(0, 79), min_size=1, max_size=4)))
    request: dict[str, Any] = {"inputs": draw(st.permutations(tensors(kind, rows)))}
    request |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "parameters": st.sampled_from(
                    [{"predict_proba": True}, {"predict_proba": False}, {"binary_data_output": True}]
                ),
                "outputs": st.sampled_from([[{"name": "predict"}], [{"name": "predict_proba"}]]),
                "id": st.just("a"),
            },
        )
    )
    request = copy.deepcopy(request)
    raw, headers = b"", JSON
    if draw(st.booleans()):
        for item in request["inputs"]:
            part = as_bytes(item) if draw(st.integers(0, 3)) else None
            if part is not None:
                del item["data"]
                item["parameters"] = {"binary_data_size": len(part)}
                raw += part
    spoil = draw(st.sampled_from(["", "", "", "input", "value", "drop", "raw"]))
    item = draw(st.sampled_from(request["inputs"]))
    if spoil == "input":
        item[draw(st.sampled_from(sorted(item)))] = draw(odd)
    elif spoil == "value" and item.get("data"):
        item["data"][draw(st.integers(0, len(item["data"]) - 1))] = draw(odd)
    elif spoil == "drop":
        request["inputs"].remove(item)
    elif spoil == "raw" and raw:
        at = draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + bytes([draw(st.integers(0, 255))]) + raw[at + 1 :]
    head = json.dumps(request, ensure_ascii=draw(st.booleans()) or spoil != "").encode()
    if raw:
        headers = [*BINARY, (LENGTH, b"%d" % len(head))]
    return head + raw, headers


def as_bytes(item: dict[str, Any]) -> bytes | None:
    """A tensor's values as bytes; None if one is missing that bytes cannot say."""
    data = item["data"]
    if item["datatype"] == "BYTES":
        if None in data:
            return None
        texts = [text.encode() for text in data]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    dtype = {"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}[item["datatype"]]
    return np.array([np.nan if value is None else value for value in data], dtype=dtype).tobytes()


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_both_paths_answer_and_count_the_same(
    served: dict[str, Served], loop: asyncio.AbstractEventLoop, kind: str, data: st.DataObject
) -> None:
    """Whatever kind of model it is: the same status, the same JSON and bytes, the same counts."""
    body, headers = data.draw(requests(kind))
    answer = compare(served[kind], loop, body, PATH, headers)
    event(f"{answer.status} {'fast' if answer.fast else 'passed on'}")


@pytest.mark.parametrize("kind", MODELS)
def test_every_held_out_row_is_answered_as_scikit_learn_does(
    served: dict[str, Served], loop: asyncio.AbstractEventLoop, kind: str
) -> None:
    """By the fast path, in the shape and type that the metadata says; probabilities where the model has them."""
    both = served[kind]
    estimator = MODELS[kind][0]
    for index in ([3], list(range(80))):
        rows = some_rows(kind, index)
        answer = compare(both, loop, json.dumps({"inputs": tensors(kind, rows)}).encode(), PATH, JSON)
        assert (answer.status, answer.fast) == (200, True)
        (output,) = answer.body["outputs"]
        said = {o["name"]: o for o in both.revision.metadata()["outputs"]}
        assert output["datatype"] == said["predict"]["datatype"]
        assert output["shape"] == [len(index), *said["predict"]["shape"][1:]]
        assert output["data"] == estimator.predict(rows).ravel().tolist()
        if "predict_proba" in said:
            asked = {"inputs": tensors(kind, rows), "outputs": [{"name": "predict_proba"}]}
            answer = compare(both, loop, json.dumps(asked).encode(), PATH, JSON)
            likely = estimator.predict_proba(rows)
            likely = np.stack(likely, axis=1) if isinstance(likely, list) else likely
            assert answer.body["outputs"][0]["shape"] == list(likely.shape)
            np.testing.assert_allclose(answer.body["outputs"][0]["data"], likely.ravel(), atol=1e-12)


def test_metadata_tells_what_each_takes(served: dict[str, Served]) -> None:
    """A frame has an input per column, a text one of BYTES; a regressor answers FP64 and has no probabilities."""
    about = {kind: both.revision.metadata() for kind, both in served.items()}
    assert about["text"]["inputs"] == [{"name": "review", "datatype": "BYTES", "shape": [-1]}]
    assert [(i["name"], i["datatype"]) for i in about["frame"]["inputs"]] == [
        ("age", "FP64"), ("visits", "INT64"), ("member", "BOOL"), ("city", "BYTES")
    ]  # fmt: skip
    assert about["regressor"]["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [-1]}]
    assert about["values"]["outputs"][0]["shape"] == [-1, 2]
    assert [o["shape"] for o in about["outputs"]["outputs"]] == [[-1, 2], [-1, 2, 2]]
    assert about["words"]["outputs"][0]["datatype"] == "BYTES"
    assert about["regressor"]["platform"] == "onnx_onnxv1"
    assert about["frame"]["platform"] == "sklearn"


def test_a_real_server_answers_a_frame_by_every_protocol(tmp_path: Path) -> None:
    """KServe's clients by gRPC and REST, typed and as bytes; V1 with objects and with lists; the beginner's path."""
    expected = MODELS["frame"]
    folder = package(tmp_path, "frame")
    rows = FRAME[FRAME["city"].notna() & FRAME["age"].notna()].iloc[:3]
    right = expected[0].predict(rows).tolist()
    types = {
        "age": ("FP64", np.float64),
        "visits": ("INT64", np.int64),
        "member": ("BOOL", np.bool_),
        "city": ("BYTES", np.object_),
    }

    def request(binary: bool) -> InferRequest:
        inputs = []
        for name, (datatype, dtype) in types.items():
            item = InferInput(name, [3], datatype)
            values = rows[name].to_numpy()
            values = np.array([text.encode() for text in values], object) if name == "city" else values.astype(dtype)
            item.set_data_from_numpy(values, binary_data=binary)
            inputs.append(item)
        return InferRequest("iris", inputs)

    async def ask(server: Server) -> list[Any]:
        rest = InferenceRESTClient(RESTConfig(protocol="v2"))
        calls = InferenceGRPCClient(server.grpc_address)
        try:
            answers = [await calls.infer(request(binary), timeout=60) for binary in (False, True)]
            answers += [await rest.infer(server.url, request(binary), model_name="iris") for binary in (False, True)]
            return [answer.outputs[0].as_numpy().tolist() for answer in answers]
        finally:
            await calls.close()
            await rest.close()

    with serving(folder) as server:
        assert asyncio.run(ask(server)) == [right] * 4
        objects = json.loads(rows.to_json(orient="records"))
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for instances in (objects, [list(row.values()) for row in objects]):
                answer = client.post("/v1/models/iris:predict", json={"instances": instances})
                assert answer.json() == {"predictions": right}
            assert client.post("/predict", json={"features": objects[0]}).json() == {"prediction": right[0]}
            wrong = client.post("/predict", json={"features": {**objects[0], "city": 3}})
            assert (wrong.status_code, "city" in wrong.json()["error"]) == (400, True)
