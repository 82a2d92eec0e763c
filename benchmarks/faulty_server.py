"""A model server whose faults are set: it answers a package's rows rightly, after a wait, and fails a share of the requests at random.

It runs in the model server's image, from a ConfigMap, as the runtime of `benchmarks.cluster_detection`. Faults are read from faults.json
in the model's folder; a model without one is the base. Imports nothing of this project but the reading of packages.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

__all__: list[str] = []

BASE = {"error_share": 0.005, "wait_ms": 100.0}
MODELS = Path(os.environ.get("MODELS", "/mnt/models"))
PORT = 8080

Message = MutableMapping[str, Any]


def main() -> None:
    """Serve until SIGTERM."""
    import uvicorn

    deadline = time.monotonic() + 60
    while not (MODELS / "metadata.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)  # KServe links the model's folder a moment after the start
    uvicorn.run(_application(), host="0.0.0.0", port=PORT, log_level="warning", access_log=False)


def _application() -> Callable[..., Awaitable[None]]:
    from relevo.packaging import load_package
    from relevo.serving.predictor import load_predictor

    # What is not in a package's manifest has no place in its folder.
    folder = Path(tempfile.mkdtemp()) / "package"
    shutil.copytree(MODELS, folder, ignore=shutil.ignore_patterns("faults.json"))
    package = load_package(folder)
    faults_file = MODELS / "faults.json"
    faults = BASE | (json.loads(faults_file.read_text(encoding="utf-8")) if faults_file.exists() else {})
    predictor = load_predictor(package)
    revision = os.environ.get("K_REVISION", "").encode()
    head = [(b"content-type", b"application/json"), (b"x-relevo-revision", revision)]
    shape = [-1, len(package.metadata.feature_names)]
    asked = {"name": package.metadata.input.name, "datatype": package.metadata.input.datatype, "shape": shape}
    given = {"name": "predict", "datatype": "INT64", "shape": [-1]}
    about: dict[str, Any] = {"name": package.metadata.name, "inputs": [asked], "outputs": [given]}
    import numpy as np

    async def answer(body: bytes) -> tuple[int, dict[str, Any]]:
        await asyncio.sleep(faults["wait_ms"] / 1000)
        if random.random() < faults["error_share"]:
            return 500, {"error": "as it was set to"}
        tensor = json.loads(body)["inputs"][0]
        rows = np.asarray(tensor["data"], dtype=np.float64).reshape(tensor["shape"])
        classes, _ = predictor.answer(rows, probabilities=False)
        data = np.asarray(classes).tolist()
        output = {"name": "predict", "datatype": "INT64", "shape": [len(data)], "data": data}
        return 200, {
            "model_name": package.metadata.name,
            "model_version": revision.decode(),
            "id": "0",
            "outputs": [output],
        }

    async def application(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"]
        status, document = 200, about
        if path.endswith("/infer"):
            status, document = await answer(body)
        elif path.startswith("/v2/health"):
            document = {"live": True}
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(document).encode()})

    return application


if __name__ == "__main__":
    main()
