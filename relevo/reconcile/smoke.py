"""The first requests to a candidate that says it is ready, at its direct address: does it answer at all?

They also warm it up, and are no part of the evidence: one that fails a share of its requests is for the statistics to judge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from relevo.access.credential import Credential
from relevo.rollout.observation import Smoke

__all__ = ["SmokeTest", "settle"]

SETTLE_SECONDS = 15.0
"""How long a server that says it is ready may take to answer what it loads last."""


def settle(client: httpx.Client, model: str) -> None:
    """Wait until a server has loaded everything: what still loads beside them makes its first answers slow.

    Our model server is ready as soon as its model is, and loads KServe's application, which answers V1, afterwards. Another server may not
    know V1, or not answer: that is no matter here, the requests that follow will show it.
    """
    with contextlib.suppress(httpx.HTTPError):
        client.get(f"/v1/models/{model}", timeout=SETTLE_SECONDS)


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """A few held-out rows as V2 requests."""

    model: str
    input_name: str
    rows: Sequence[Sequence[float]]
    timeout_seconds: float = 5.0
    credential: Credential | None = None
    """What the requests carry, where not anybody may ask."""

    def run(self, address: str) -> Smoke:
        """Send each row to `address` (http://HOST:PORT, or https) and count what was not answered with a valid prediction."""
        failed, detail = 0, ""
        carried = self.credential.for_httpx() if self.credential is not None else {}
        with httpx.Client(base_url=address, timeout=self.timeout_seconds, **carried) as client:
            settle(client, self.model)
            for row in self.rows:
                problem = self._problem(client, row)
                if problem:
                    failed, detail = failed + 1, problem
        return Smoke(len(self.rows), failed, detail)

    def _problem(self, client: httpx.Client, row: Sequence[float]) -> str:
        tensor = {"name": self.input_name, "shape": [1, len(row)], "datatype": "FP64", "data": list(row)}
        try:
            response = client.post(f"/v2/models/{self.model}/infer", json={"inputs": [tensor]})
            if response.status_code != httpx.codes.OK:
                return f"HTTP {response.status_code}: {response.text[:200]}"
            return "" if response.json()["outputs"][0]["data"] else "an answer without a prediction"
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
        except (ValueError, LookupError, TypeError):
            return "an answer that is not V2"
