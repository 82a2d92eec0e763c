"""Where a revision answers directly, whatever the weights say: by the tag that Knative gives it.

KServe tags the stable revision `prev` while a canary runs, and the newest ready one `latest` where the annotation
serving.kserve.io/enable-tag-routing asks for it. Both names answer inside the cluster through the gateway's internal listener.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relevo.platforms.kserve.objects import Target

__all__ = ["AddressStyle", "InCluster", "ThroughGateway"]


class AddressStyle(Protocol):
    """How an address is written."""

    def direct(self, target: Target, service: str, namespace: str) -> str:
        """The address of one revision by its tag; `service` is the Knative Service's name."""

    def users(self, host: str, service: str, namespace: str) -> str:
        """The address that users send to, where the weights apply; `host` is the Route's public name."""


@dataclass(frozen=True, slots=True)
class InCluster:
    """For who runs inside the cluster."""

    domain: str = "cluster.local"

    def direct(self, target: Target, service: str, namespace: str) -> str:
        return f"http://{target.tag}-{service}.{namespace}.svc.{self.domain}"

    def users(self, host: str, service: str, namespace: str) -> str:
        return f"http://{service}.{namespace}.svc.{self.domain}"


@dataclass(frozen=True, slots=True)
class ThroughGateway:
    """For who reaches only the gateway, at `url`: the Host header to send follows as the URL's fragment, which no client sends."""

    url: str

    def direct(self, target: Target, service: str, namespace: str) -> str:
        return f"{self.url}#{target.host}"

    def users(self, host: str, service: str, namespace: str) -> str:
        return f"{self.url}#{host}"
