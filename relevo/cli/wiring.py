"""Puts the parts together for the local platform: the store, the proxy and its servers, Locust, and the packages behind them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import relevo
from relevo.errors import BadInput, RelevoError
from relevo.evidence.locust_program import LocustProgram
from relevo.packaging import Package, check_candidate, load_package, resolve
from relevo.packaging.store import home_folder
from relevo.platforms.local import deployment, files, ports
from relevo.platforms.local.program import Layout, Program
from relevo.rollout.spec import RolloutSpec
from relevo.store.rollouts import Record, RolloutStore

if TYPE_CHECKING:
    from relevo.access.credential import Credential
    from relevo.evidence.source import EvidenceSource
    from relevo.platforms.local.platform import LocalPlatform
    from relevo.reconcile.tick import Reconciler

__all__ = ["LOCUST", "NO_LOCUST", "Local", "clock", "new_uid"]

LOCUST = "locust"
"""The name of Locust's program under the supervisor."""

NO_LOCUST = "http://127.0.0.1:9"
"""In the place of Locust's address, where a rollout has no load. Nothing answers there."""

SMOKE_ROWS = 20

REQUESTS_PER_USER = 5.0
"""Per second and simulated user."""


def clock() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Local:
    """Everything under one RELEVO_HOME."""

    home: Path
    store: RolloutStore

    @classmethod
    def open(cls) -> Local:
        """RELEVO_HOME, or `.relevo` here."""
        home = home_folder()
        return cls(home, RolloutStore(home))

    @cached_property
    def platform(self) -> LocalPlatform:
        """Envoy and the servers behind it. It takes no package that is not whole."""
        from relevo.platforms.local.platform import LocalPlatform  # an HTTP client, which `relevo status` does without

        return LocalPlatform(self.home, resolve=_verified)

    def services(self) -> tuple[str, ...]:
        """The names of the services that are up."""
        return tuple(service.name for service in deployment.load(Layout.of(self.home)).services)

    def unfinished(self) -> list[Record]:
        """The rollouts that have not ended; none where the state cannot be read, for whoever asks has ended what runs."""
        try:
            return [record for record in self.store.find() if not record.state.phase.is_terminal]
        except RelevoError:
            return []

    def target(self, name: str | None) -> str:
        """The service that is meant: the one named, or the only one there is.

        Raises:
            BadInput: none is up, there is none of that name, or which one is not clear.
        """
        services = self.services()
        if not services:
            raise BadInput(
                f"nothing is up under {self.home}", next_step="Start it with `relevo up -f k8s/samples/iris.yaml`."
            )
        if name is not None and name not in services:
            raise BadInput(
                f"no InferenceService {name} is up; there is {', '.join(services)}",
                next_step="`relevo up -f MANIFEST` adds one.",
            )
        if name is not None:
            return name
        if len(services) > 1:
            raise BadInput(
                f"which one is meant? There are {', '.join(services)}", next_step="Give its name as an argument."
            )
        return services[0]

    def package(self, storage_uri: str) -> Package:
        """The verified package behind a storageUri. Raises `BadInput`."""
        return load_package(resolve(storage_uri, self.home))

    def check(self, spec: RolloutSpec, stable_uri: str) -> None:
        """Refuse a candidate that cannot replace the stable model, before anything is started. Raises `BadInput`."""
        check_candidate(self.package(stable_uri), self.package(spec.storage_uri))

    def start_locust(self, spec: RolloutSpec, uid: str, stable: Package, web_port: int) -> LocustProgram:
        """Have a Locust of its own for this rollout: its rows are the stable package's, whose exam the candidate did not set.

        Raises:
            BadInput: the port is in use by somebody else.
        """
        self.require_locust_port(web_port)
        program = self.locust(spec.target, stable, web_port)
        env = {**program.env(), "RELEVO_ROLLOUT": uid}
        self.platform.ensure_program(Program(LOCUST, tuple(program.argv()), env, program.health_url, stop_order=0))
        return program

    def require_locust_port(self, web_port: int) -> None:
        """Refuse a port that somebody else has; our own Locust of the rollout before may have it. Raises `BadInput`."""
        status = self.platform.program_status(LOCUST)
        ours = status is not None and status.pid is not None and self.locust_url() == f"http://127.0.0.1:{web_port}"
        if not ours:
            ports.require_free(web_port, option="--locust-port")

    def locust_url(self) -> str | None:
        """Where the Locust of the last rollout answers; None where there is none."""
        path = Layout.of(self.home).program(LOCUST)
        health_url = Program.from_json(files.read_json(path)).health_url if path.exists() else None
        return health_url.removesuffix("/relevo") if health_url else None

    def locust(self, target: str, stable: Package, web_port: int) -> LocustProgram:
        """Locust's command line: it replays the rows of the stable model's package."""
        return LocustProgram(
            locustfile=Path(relevo.__file__).parent.parent / "loadtests" / "v2.py",
            host=self.platform.proxy_url,
            web_port=web_port,
            model=target,
            rows=stable.folder / "heldout.npz",
            input_name=stable.metadata.input.name,
            requests_per_user=REQUESTS_PER_USER,
            credential=self.platform.credential,
        )

    def credential(self) -> Credential | None:
        """What relevo's own requests carry here; None where anybody may ask."""
        folder = self.platform.credential
        if folder is None:
            return None
        from relevo.access.credential import Credential

        return Credential(folder)

    def stop_locust(self) -> None:
        """End the Locust of the last rollout, if it still runs."""
        self.platform.remove_program(LOCUST, wait_seconds=10.0)

    def reconciler(self, spec: RolloutSpec, stable: Package, locust_url: str) -> Reconciler:
        """The parts of the loop. An immediate strategy needs no evidence."""
        # The decision core and its SciPy are for whoever drives a rollout.
        from relevo.evidence.envoy import EnvoySource
        from relevo.evidence.locust import LocustSource
        from relevo.reconcile.smoke import SmokeTest
        from relevo.reconcile.tick import Reconciler

        if "prometheus" in spec.sources:
            raise BadInput(
                "spec.sources: there is no prometheus on the local platform",
                next_step="Take it out; envoy counts the same.",
            )
        locust = LocustSource(locust_url)
        known: dict[str, EvidenceSource] = {"locust": locust, "envoy": EnvoySource(self.platform.admin_url)}
        rows: Sequence[Sequence[float]] = stable.heldout().x[:SMOKE_ROWS].tolist()
        return Reconciler(
            store=self.store,
            platform=self.platform,
            sources=tuple(known[name] for name in spec.sources),
            load=locust,
            smoke_test=SmokeTest(spec.target, stable.metadata.input.name, rows, credential=self.credential()),
            clock=clock,
        )


def _verified(storage_uri: str, home: Path) -> Path:
    """The folder of a package of which every digest is right. Raises `BadInput`."""
    return load_package(resolve(storage_uri, home)).folder


def new_uid(target: str) -> str:
    """A rollout's name: the target's, and what tells it from all others."""
    return f"{target}-{uuid.uuid4().hex[:8]}"
