"""The InferenceServices and Rollouts that the tests use: the samples of k8s/samples with a few fields set, and how one waits for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import yaml

from scripts.arena import PROJECT
from scripts.lab.kube import Lab, LabError, Object, until

__all__ = ["BY_USERS_ALONE", "TERMINAL", "Site", "condition", "merged", "sample_rollout", "sample_service"]

SAMPLES = PROJECT / "k8s" / "samples"
TERMINAL = ("Promoted", "RolledBack")
SERVICE_SECONDS = 180.0

BY_USERS_ALONE: Object = {
    "shadow": {"enabled": False},
    "sources": ["envoy"],
    "load": {"usersFrom": 0, "usersTo": 0},
    "baseline": {"requests": 100},
}
"""Of a Rollout's spec: nobody sends requests but its users, and the gateway counts them."""


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Object:
    """A mapping with the fields of another set in it, part by part."""
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return result


def sample_service(name: str = "iris", **predictor: Any) -> Object:
    """The sample InferenceService, under this name, with fields of its predictor set."""
    body = yaml.safe_load((SAMPLES / "iris.yaml").read_text(encoding="utf-8"))
    return merged(body, {"metadata": {"name": name}, "spec": {"predictor": predictor}})


def sample_rollout(name: str = "iris", version: str = "2", **spec: Any) -> Object:
    """The sample Rollout for the InferenceService of the same name, with fields of its spec set. `None` takes a field away;
    a strategy takes the place of the sample's."""
    body = yaml.safe_load((SAMPLES / "rollout-iris.yaml").read_text(encoding="utf-8"))
    if "strategy" in spec:
        del body["spec"]["strategy"]
    fields = {"target": name, "storageUri": f"oci://dev.local/iris:{version}"} | spec
    body = merged(body, {"metadata": {"name": name}, "spec": fields})
    body["spec"] = {key: value for key, value in body["spec"].items() if value is not None}
    return body


def condition(body: Mapping[str, Any] | None, kind: str) -> Object:
    """A condition of an object; empty where it has none."""
    conditions = ((body or {}).get("status") or {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == kind), {})


class Site:
    """One InferenceService of the sample's in one namespace."""

    def __init__(self, lab: Lab, namespace: str, name: str = "iris") -> None:
        self.lab = lab
        self.namespace = namespace
        self.name = name

    def serve(self, version: str = "1", **predictor: Any) -> None:
        """Serve this version of iris, and wait until its users get answers."""
        model = {"storageUri": f"oci://dev.local/iris:{version}"}
        self.lab.apply(sample_service(self.name, **merged({"model": model}, predictor)), namespace=self.namespace)
        self.wait_ready()

    def wait_ready(self, seconds: float = SERVICE_SECONDS) -> None:
        """Wait for the InferenceService."""
        self.lab.kubectl(
            "-n", self.namespace, "wait", "inferenceservice", self.name, "--for=condition=Ready", f"--timeout={seconds:.0f}s",
            timeout_seconds=seconds + 10,
        )  # fmt: skip

    @property
    def host(self) -> str:
        """The Host header by which users reach it through the gateway."""
        url = str((self.service().get("status") or {}).get("url", ""))
        if not url:
            raise LabError(f"InferenceService {self.namespace}/{self.name} has no address yet")
        return url.partition("://")[2]

    def service(self) -> Object:
        """The InferenceService."""
        body = self.lab.read(
            f"/apis/serving.kserve.io/v1beta1/namespaces/{self.namespace}/inferenceservices/{self.name}"
        )
        if body is None:
            raise LabError(f"there is no InferenceService {self.namespace}/{self.name}")
        return body

    def rollout(self, name: str = "") -> Object | None:
        """The Rollout of the same name, or another."""
        return self.lab.read(f"/apis/relevo.dev/v1alpha1/namespaces/{self.namespace}/rollouts/{name or self.name}")

    def roll_out(self, version: str, **spec: Any) -> None:
        """`kubectl apply` the Rollout that brings this version."""
        self.lab.apply(sample_rollout(self.name, version, **spec), namespace=self.namespace)

    def annotate(self, verb: str, *, by: str = "e2e") -> None:
        """Order something, as the command line does."""
        import json

        body = self.rollout() or {}
        said = json.loads(body.get("metadata", {}).get("annotations", {}).get("relevo.dev/command", "{}")).get("seq", 0)
        seq = max(int(said), int((body.get("status") or {}).get("commandSeq", 0))) + 1
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = json.dumps({"verb": verb, "by": by, "at": at, "seq": seq})
        self.lab.kubectl(
            "-n", self.namespace, "annotate", "--overwrite", "rollout", self.name, f"relevo.dev/command={text}"
        )

    def delete_rollout(self, *, seconds: float = 60.0) -> None:
        """Delete the Rollout and wait until it is gone."""
        self.lab.kubectl(
            "-n", self.namespace, "delete", "rollout", self.name, "--ignore-not-found", f"--timeout={seconds:.0f}s",
            timeout_seconds=seconds + 10,
        )  # fmt: skip

    def events(self, rollout: str = "") -> list[Object]:
        """The Rollout's Events, oldest first."""
        found = self.lab.items("events", self.namespace)
        mine = [
            e
            for e in found
            if e["involvedObject"].get("kind") == "Rollout" and e["involvedObject"]["name"] == (rollout or self.name)
        ]
        return sorted(mine, key=lambda e: e.get("eventTime") or e.get("lastTimestamp") or "")

    def settled_weights(self, *, seconds: float = 60.0) -> dict[str, int]:
        """Wait until one revision has all the traffic and no canary is left in the spec; the weights."""
        from scripts.lab.watching import weights_of

        def look() -> dict[str, int] | None:
            body = self.service()
            traffic = body.get("status", {}).get("components", {}).get("predictor", {}).get("traffic") or []
            weights = {name: weight for name, weight in weights_of(traffic).items() if weight}
            return (
                weights
                if "canaryTrafficPercent" not in body["spec"]["predictor"] and list(weights.values()) == [100]
                else None
            )

        return until(f"one revision of {self.namespace}/{self.name} has all the traffic", look, seconds=seconds)

    def bring_back(self, version: str, *, seconds: float = 120.0) -> None:
        """End whatever goes on and give all the traffic to this version, as `relevo undo` does: with no comparison."""
        uri = f"oci://dev.local/iris:{version}"
        self.delete_rollout()
        self.settled_weights(seconds=seconds)
        if self.service()["spec"]["predictor"]["model"]["storageUri"] == uri:
            return
        self.roll_out(version, strategy={"immediate": {}}, shadow=None, checks=None)
        self.lab.kubectl(
            "-n", self.namespace, "wait", "rollout", self.name, "--for=condition=Promoted", f"--timeout={seconds:.0f}s",
            timeout_seconds=seconds + 10,
        )  # fmt: skip
        self.delete_rollout()
        self.settled_weights(seconds=seconds)
