"""A model served by two colours in one namespace of a cluster, as its users have it: Helm releases, the Route, and kubectl on that."""

from __future__ import annotations

import json
from typing import Any

import yaml

from relevo.platforms.colours import COLOURS
from scripts.arena import PROJECT
from scripts.lab.kube import LabError, Object, until
from scripts.lab.rollouts import Site, merged

__all__ = ["ColouredSite"]

SAMPLE = PROJECT / "k8s" / "samples" / "rollout-iris-blue-green.yaml"
READY_SECONDS = 180.0


class ColouredSite(Site):
    """The sample's model with its colours."""

    def install(self, **versions: str) -> None:
        """`helm upgrade --install` of these versions by colour, and wait until all are ready; they start side by side."""
        for colour, version in versions.items():
            values = PROJECT / f"charts/model/values-{colour}.yaml"
            model = [
                "--set-string",
                f"model.version={version}",
                "--set",
                f"model.storageUri=oci://dev.local/iris:{version}",
            ]
            self.helm("upgrade", "--install", f"{self.name}-{colour}", "charts/model", "--values", str(values), *model)
        services = [f"inferenceservice/{self.name}-{colour}" for colour in versions]
        self.lab.kubectl(
            "-n", self.namespace, "wait", *services, "--for=condition=Ready", f"--timeout={READY_SECONDS:.0f}s",
            timeout_seconds=READY_SECONDS + 10,
        )  # fmt: skip

    def open_route(self, active: str, *colours: str) -> None:
        """`helm upgrade --install` of the Route, and wait until the gateway has it."""
        names = "{" + ",".join(colours or (active,)) + "}"
        self.helm("upgrade", "--install", self.name, "charts/model-route", "--set", f"active={active},colours={names}")
        until("the Route is ready", self.confirmed, seconds=60)

    def helm(self, *arguments: str) -> None:
        """helm in the model's namespace. Raises `LabError`."""
        self.lab.helm(*arguments, namespace=self.namespace)

    def route(self) -> Object:
        """The Route."""
        path = f"/apis/serving.knative.dev/v1/namespaces/{self.namespace}/routes/{self.name}"
        body = self.lab.read(path)
        if body is None:
            raise LabError(f"there is no Route {self.namespace}/{self.name}")
        return body

    def confirmed(self) -> bool:
        """Whether the gateway routes by the Route's newest generation."""
        body = self.route()
        status = body.get("status") or {}
        ready = next((c["status"] for c in status.get("conditions", ()) if c["type"] == "Ready"), "")
        return ready == "True" and status.get("observedGeneration") == body["metadata"]["generation"]

    def percents(self) -> dict[str, int]:
        """Percent per colour that is routed."""
        return {t["tag"]: int(t.get("percent") or 0) for t in (self.route().get("status") or {}).get("traffic", ())}

    def patch_to(self, colour: str) -> None:
        """The documented kubectl command: all users to this colour, while both are named."""
        patch = [
            {"op": "replace", "path": f"/spec/traffic/{at}/percent", "value": 100 if one == colour else 0}
            for at, one in enumerate(COLOURS)
        ]
        route = f"route.serving.knative.dev/{self.name}"
        self.lab.kubectl("-n", self.namespace, "patch", route, "--type", "json", "--patch", json.dumps(patch))

    @property
    def host(self) -> str:
        """The Host header by which users reach it through the gateway."""
        return str((self.route().get("status") or {}).get("url", "")).partition("://")[2]

    def roll_out(self, version: str, **spec: Any) -> None:
        """`kubectl apply` the Rollout that brings this version, whose colour is installed."""
        body = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
        fields = {"storageUri": f"oci://dev.local/iris:{version}", **spec}
        self.lab.apply(merged(body, {"spec": fields}), namespace=self.namespace)
