"""The seam between the commands and where a rollout lives: on this machine (`local_site`) or on a cluster (`cluster_site`).

A `Site` does what people order, its `Journal` tells what is known. The commands and what they print are the same on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from relevo.cli.options import PlatformName
from relevo.cli.output import Output
from relevo.errors import BadInput

if TYPE_CHECKING:
    from relevo.cli.exit_codes import ExitCode
    from relevo.packaging import Package
    from relevo.reconcile.snapshot import Snapshot
    from relevo.report.page import Archive
    from relevo.rollout.spec import Rollout
    from relevo.store.rollouts import Record

__all__ = ["Journal", "Site", "Watching", "Where", "Wish", "open_site"]


@dataclass(frozen=True, slots=True)
class Where:
    """Where the model is served, as the options say it. A context or a namespace names a cluster."""

    platform: PlatformName | None = None
    context: str | None = None
    namespace: str | None = None

    @property
    def is_cluster(self) -> bool:
        """Whether a cluster is meant. Raises `BadInput` for options that contradict one another."""
        named = self.context is not None or self.namespace is not None
        if named and self.platform is PlatformName.LOCAL:
            raise BadInput(
                "--context and --namespace name a cluster, and the platform is local",
                next_step="Leave them out, or say --platform kserve.",
            )
        return named or self.platform is PlatformName.KSERVE


@dataclass(frozen=True, slots=True)
class Wish:
    """What deploy-canary or deploy-blue-green was asked for."""

    target: str | None
    version: str | None
    storage_uri: str | None
    file: Path | None
    shadow: bool | None
    blue_green: bool = False

    def overrides(self) -> dict[str, Any]:
        """What the options put in the place of the file's fields, or of the defaults where there is no file."""
        strategy: dict[str, Any] = {"strategy": {"blueGreen": {}}} if self.blue_green and self.file is None else {}
        return strategy if self.shadow is None else {**strategy, "shadow": {"enabled": self.shadow}}

    def check(self, rollout: Rollout) -> Rollout:
        """The rollout, if the command is the one for its strategy. Raises `BadInput`."""
        strategy = rollout.spec.strategy
        if self.blue_green and strategy.blue_green is None:
            raise BadInput(
                f"{self.file}: its strategy is not blueGreen",
                next_step="Roll it out by `relevo deploy-canary`, or give it strategy.blueGreen.",
            )
        if not self.blue_green and strategy.blue_green is not None:
            raise BadInput(
                f"{self.file}: its strategy is blueGreen", next_step="Roll it out by `relevo deploy-blue-green`."
            )
        return rollout


@dataclass(frozen=True, slots=True)
class Watching:
    """How a rollout is followed to its end."""

    output: Output = Output.TABLE
    hold_timeout_seconds: float | None = None
    locust_port: int = 0
    """Where Locust's web UI is, on this machine."""


class Site(Protocol):
    """Where rollouts are begun and steered. Each method follows what it began, and gives the exit code."""

    def deploy(self, wish: Wish, watching: Watching) -> ExitCode:
        """Roll out what is wished for, or go on with it."""

    def retry(self, target: str | None, watching: Watching) -> ExitCode:
        """Begin the last rollout anew, after it was rolled back."""

    def undo(self, target: str | None, to: int | None, watching: Watching) -> ExitCode:
        """Bring an earlier version back."""

    def switch(self, target: str | None, to: str | None, watching: Watching) -> ExitCode:
        """Send all users to the other colour, or to the one that is named."""

    def order(self, target: str | None, verb: str, *, to_the_end: bool, output: Output) -> ExitCode:
        """Have an order carried out; `to_the_end`, wait until the rollout has ended."""

    def journal(self) -> Journal:
        """What is known of rollouts."""


class Journal(Protocol):
    """What is known of rollouts, ended ones included."""

    @property
    def archive(self) -> Archive:
        """The stored rollouts."""

    @property
    def home(self) -> Path:
        """Where reports are written, unless told otherwise."""

    @property
    def locust_url(self) -> str:
        """Where Locust's web UI answers; empty where it does not without `relevo dashboard`."""

    def known(self, target: str | None) -> str:
        """The target that is meant. Raises `BadInput`."""

    def snapshot(self, record: Record) -> Snapshot | None:
        """How a rollout looked last; None before it was first looked at."""

    def idle(self, target: str) -> dict[str, Any]:
        """What is served where there has been no rollout: revision, storageUri, ready, detail."""

    def driver(self, record: Record) -> str:
        """Who drives a rollout; empty where nobody does."""

    def neglect(self, record: Record) -> str:
        """A sentence that says that nobody drives a rollout which has not ended; empty where all is well."""

    def package(self, storage_uri: str) -> Package | None:
        """A model's package, where it can be read here."""


def open_site(where: Where) -> Site:
    """The site that is meant. Raises `BadInput`."""
    if where.is_cluster:
        from relevo.cli.cluster_site import ClusterSite

        return ClusterSite.open(where)
    from relevo.cli.local_site import LocalSite

    return LocalSite()
