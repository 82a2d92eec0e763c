"""Puts the parts together for the local platform: the store, the proxy and its servers, Locust, and the packages behind them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import relevo
from relevo.errors import BadInput
from relevo.evidence.envoy import EnvoySource
from relevo.evidence.locust import LocustSource
from relevo.evidence.locust_program import LocustProgram
from relevo.evidence.source import EvidenceSource
from relevo.packaging import Package, check_candidate, load_package, resolve
from relevo.packaging.store import home_folder
from relevo.platforms.local import files, ports
from relevo.platforms.local.platform import LocalPlatform
from relevo.platforms.local.program import Layout, Program
from relevo.reconcile.smoke import SmokeTest
from relevo.reconcile.tick import Reconciler
from relevo.rollout.spec import RolloutSpec
from relevo.store.rollouts import RolloutStore

__all__ = ["LOCUST", "Local", "clock", "new_uid"]

LOCUST = "locust"
"""The name of Locust's program under the supervisor."""

SMOKE_ROWS = 20

REQUESTS_PER_USER = 5.0
"""Per second and simulated user."""


def clock() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Local:
    """Everything under one RELEVO_HOME."""

    home: Path
    store: RolloutStore
    platform: LocalPlatform

    @classmethod
    def open(cls) -> Local:
        """RELEVO_HOME, or `.relevo` here."""
        home = home_folder()
        return cls(home, RolloutStore(home), LocalPlatform(home, resolve=resolve))

    def target(self, name: str | None) -> str:
        """The service that is meant: the one named, or the only one there is.

        Raises:
            BadInput: none is up, or which one is not clear.
        """
        services = self.platform.services()
        if name is not None:
            return name
        if not services:
            raise BadInput("nothing is up", next_step="Start it with `relevo up -f k8s/samples/iris.yaml`.")
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
        program = self.locust(spec.target, stable, web_port)
        status = self.platform.program_status(LOCUST)
        if status is None or status.pid is None:
            ports.require_free(web_port, option="--locust-port")
        env = {**program.env(), "RELEVO_ROLLOUT": uid}
        self.platform.ensure_program(Program(LOCUST, tuple(program.argv()), env, program.health_url, stop_order=0))
        return program

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
        )

    def stop_locust(self) -> None:
        """End the Locust of the last rollout, if it still runs."""
        self.platform.remove_program(LOCUST, wait_seconds=10.0)

    def reconciler(self, spec: RolloutSpec, stable: Package, locust_url: str) -> Reconciler:
        """The parts of the loop. An immediate strategy needs no evidence."""
        locust = LocustSource(locust_url)
        known: dict[str, EvidenceSource] = {"locust": locust, "envoy": EnvoySource(self.platform.admin_url)}
        rows: Sequence[Sequence[float]] = stable.heldout().x[:SMOKE_ROWS].tolist()
        return Reconciler(
            store=self.store,
            platform=self.platform,
            sources=tuple(known[name] for name in spec.sources),
            load=locust,
            smoke_test=SmokeTest(spec.target, stable.metadata.input.name, rows),
            clock=clock,
        )


def new_uid(target: str) -> str:
    """A rollout's name: the target's, and what tells it from all others."""
    return f"{target}-{uuid.uuid4().hex[:8]}"
