"""What is up: services, their revisions, the split between them. One JSON file, changed under a lock, from which all else is rendered.

`envoy_config` renders it for the proxy, `platform` for the supervisor. Revisions are named as Knative names them and numbers are never
used again, not even after `relevo down`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from relevo import errors
from relevo.platforms.colours import other
from relevo.platforms.local import files
from relevo.platforms.local.guard import Guard
from relevo.platforms.local.program import Layout
from relevo.platforms.manifest import InferenceService

__all__ = ["Deployment", "Revision", "Service", "load", "new_service", "revision_name", "save"]


@dataclass(frozen=True, slots=True)
class Revision:
    """One model, served by one process at fixed ports of 127.0.0.1."""

    name: str
    storage_uri: str
    http_port: int
    grpc_port: int
    colour: str = ""
    """Of a service that has colours: which of them this is."""
    scheme: str = "http"

    @property
    def address(self) -> str:
        """Where it answers whatever the weights say."""
        return f"{self.scheme}://127.0.0.1:{self.http_port}"


@dataclass(frozen=True, slots=True)
class Service:
    """One InferenceService and the split of its traffic."""

    name: str
    namespace: str
    stable: Revision
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 60.0
    candidate: Revision | None = None
    weight_percent: int = 0
    label: str = ""
    retiring: tuple[Revision, ...] = ()
    """Out of the routes, their processes not ended yet."""
    idle: Revision | None = None
    """Of a service that has colours: what the other colour serves when it is woken, while it has no process."""

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """All that have a process."""
        return (self.stable, *((self.candidate,) if self.candidate else ()), *self.retiring)

    @property
    def has_colours(self) -> bool:
        """Whether it is served by two environments, blue and green, instead of by one revision after another."""
        return bool(self.stable.colour)

    @property
    def idle_colour(self) -> str:
        """The colour that is not active; "" where there are none."""
        return other(self.stable.colour) if self.has_colours else ""

    def split(self, weight_percent: int, label: str) -> Service:
        """With this split."""
        return replace(self, weight_percent=weight_percent, label=label)

    def without_candidate(self) -> Service:
        """The candidate retires, the stable revision has all traffic."""
        gone = (self.candidate,) if self.candidate else ()
        idle = self.candidate if self.has_colours and self.candidate else self.idle
        return replace(self, candidate=None, weight_percent=0, label="", retiring=self.retiring + gone, idle=idle)

    def promoted(self) -> Service:
        """The candidate becomes the stable revision, and the one that was retires."""
        if self.candidate is None:
            return self.without_candidate()
        retiring = (*self.retiring, self.stable)
        after = replace(self, stable=self.candidate, candidate=None, weight_percent=0, label="", retiring=retiring)
        return replace(after, idle=self.stable) if self.has_colours else after

    def switched(self) -> Service:
        """The colours exchange their places, and both stay up."""
        if self.candidate is None:
            return self
        return replace(self, stable=self.candidate, candidate=self.stable, weight_percent=0, label="")

    def woken(self, ports: tuple[int, int]) -> Service:
        """The idle colour comes back as it was, as the candidate; at new ports, unless its process has not ended yet."""
        if self.idle is None:
            return self
        still = next((one for one in self.retiring if one.name == self.idle.name), None)
        back = still or replace(self.idle, http_port=ports[0], grpc_port=ports[1])
        retiring = tuple(one for one in self.retiring if one.name != back.name)
        return replace(self, candidate=back, weight_percent=0, label="", idle=None, retiring=retiring)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything on this machine under one RELEVO_HOME."""

    proxy_port: int = 0
    admin_port: int = 0
    services: tuple[Service, ...] = ()
    last_revision: Mapping[str, int] = field(default_factory=dict)
    """The highest revision number ever given out, by service name."""
    guard: Guard | None = None
    """Who may ask; None is anybody."""

    @property
    def scheme(self) -> str:
        """By which all addresses here begin."""
        return "https" if self.guard is not None and self.guard.tls else "http"

    def find(self, name: str) -> Service | None:
        """The service of this name, if it is up."""
        return next((one for one in self.services if one.name == name), None)

    def with_service(self, service: Service) -> Deployment:
        """With `service` added, or put in the place of the one of its name."""
        if self.find(service.name) is None:
            return replace(self, services=(*self.services, service))
        return replace(self, services=tuple(service if one.name == service.name else one for one in self.services))

    def without_service(self, name: str) -> Deployment:
        """With the service of this name gone."""
        return replace(self, services=tuple(one for one in self.services if one.name != name))

    def new_revision(
        self, service: str, storage_uri: str, ports: tuple[int, int], colour: str = ""
    ) -> tuple[Deployment, Revision]:
        """The next revision of a service, and the deployment that remembers its number."""
        number = self.last_revision.get(service, 0) + 1
        remembering = replace(self, last_revision={**self.last_revision, service: number})
        owner = f"{service}-{colour}" if colour else service
        return remembering, Revision(revision_name(owner, number), storage_uri, *ports, colour, self.scheme)

    @property
    def ports(self) -> frozenset[int]:
        """All that are taken."""
        taken = {self.proxy_port, self.admin_port}
        for service in self.services:
            for revision in service.revisions:
                taken |= {revision.http_port, revision.grpc_port}
        return frozenset(taken)


def revision_name(service: str, number: int) -> str:
    """As KServe and Knative name it: iris, 1 -> iris-predictor-00001."""
    return f"{service}-predictor-{number:05d}"


def new_service(wanted: InferenceService, stable: Revision) -> Service:
    """The service that a manifest asks for, all traffic to `stable`."""
    return Service(wanted.name, wanted.namespace, stable, dict(wanted.env), wanted.timeout_seconds)


def save(layout: Layout, deployment: Deployment) -> None:
    """Write it, and wait until it is on the disk."""
    files.write_json(layout.deployment, asdict(deployment), durable=True)


def load(layout: Layout) -> Deployment:
    """Read it; an empty one where nothing was ever up.

    Raises:
        errors.Permanent: the file is not what `save` wrote.
    """
    value = files.read_json(layout.deployment)
    if value is None:
        return Deployment()
    try:
        return Deployment(
            proxy_port=int(value["proxy_port"]),
            admin_port=int(value["admin_port"]),
            services=tuple(_service(one) for one in value["services"]),
            last_revision={str(name): int(number) for name, number in value["last_revision"].items()},
            guard=Guard(**value["guard"]) if value.get("guard") else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.Permanent(
            f"{layout.deployment}: is not a deployment that relevo wrote ({error!r})",
            next_step="`relevo down` removes it; `relevo up` then writes it anew.",
        ) from error


def _service(value: Mapping[str, Any]) -> Service:
    candidate, idle = value["candidate"], value.get("idle")
    return Service(
        **{
            **value,
            "stable": Revision(**value["stable"]),
            "candidate": Revision(**candidate) if candidate else None,
            "idle": Revision(**idle) if idle else None,
            "retiring": tuple(Revision(**one) for one in value["retiring"]),
        }
    )
