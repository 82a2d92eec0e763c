"""The first requests to a candidate on a cluster. Its package is not here, so that the candidate itself is asked what it takes.

`relevo.reconcile.smoke` is the same where the stable package's held-out rows are at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from relevo.access.credential import Credential
from relevo.reconcile.smoke import settle
from relevo.rollout.observation import Smoke

__all__ = ["MetadataSmokeTest"]

_NUMBERS: Final = {"FP64": float, "FP32": float, "FP16": float, "INT64": int, "INT32": int, "INT16": int, "INT8": int}


@dataclass(frozen=True, slots=True)
class MetadataSmokeTest:
    """Rows of ones, twos and so on, of the shape that the model's V2 metadata name. An address may carry a Host as its fragment."""

    model: str
    requests: int = 10
    timeout_seconds: float = 5.0
    wake_seconds: float = 30.0
    """For the first request: it may have to wake a colour that sleeps."""
    credential: Credential | None = None
    """What the requests carry, where not anybody may ask."""

    def run(self, address: str) -> Smoke:
        """Send the requests one by one and count what was not answered with a prediction."""
        failed, detail = 0, ""
        host = urlsplit(address).fragment
        carried = self.credential.for_httpx() if self.credential is not None else {"headers": {}}
        if host:
            carried["headers"]["host"] = host
        with httpx.Client(
            base_url=address.partition("#")[0],
            timeout=self.timeout_seconds,
            trust_env=False,
            **carried,
        ) as client:
            try:
                inputs = self._inputs(client)
            except _UnusableError as error:
                return Smoke(self.requests, self.requests, str(error))
            settle(client, self.model)
            for number in range(1, self.requests + 1):
                problem = self._problem(client, inputs, number)
                if problem:
                    failed, detail = failed + 1, problem
        return Smoke(self.requests, failed, detail)

    def _inputs(self, client: httpx.Client) -> list[dict[str, Any]]:
        try:
            response = client.get(f"/v2/models/{self.model}", timeout=self.wake_seconds)
            if response.status_code != httpx.codes.OK:
                raise _UnusableError(f"HTTP {response.status_code} for its metadata: {response.text[:200]}")
            inputs: list[dict[str, Any]] = response.json()["inputs"]
        except httpx.HTTPError as error:
            raise _UnusableError(str(error) or type(error).__name__) from error
        except (ValueError, LookupError, TypeError) as error:
            raise _UnusableError("its metadata are not V2") from error
        if not inputs:
            raise _UnusableError("its metadata name no input")
        return inputs

    def _problem(self, client: httpx.Client, inputs: list[dict[str, Any]], number: int) -> str:
        try:
            tensors = [_tensor(one, number) for one in inputs]
            response = client.post(f"/v2/models/{self.model}/infer", json={"inputs": tensors})
            if response.status_code != httpx.codes.OK:
                return f"HTTP {response.status_code}: {response.text[:200]}"
            return "" if response.json()["outputs"][0]["data"] else "an answer without a prediction"
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
        except (ValueError, LookupError, TypeError):
            return "an answer that is not V2"


class _UnusableError(Exception):
    """The candidate does not say what it takes."""


def _tensor(described: dict[str, Any], number: int) -> dict[str, Any]:
    shape = [1 if int(size) < 1 else int(size) for size in described["shape"]]
    length = 1
    for size in shape:
        length *= size
    kind = described["datatype"]
    value: Any = _NUMBERS.get(kind, str)(number)
    return {"name": described["name"], "shape": shape, "datatype": kind, "data": [value] * length}
