"""`relevo up` and `relevo down`: the local platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevo.cli.output import say, tell

if TYPE_CHECKING:
    from relevo.access.settings import Access

__all__ = ["down", "up"]


def up(
    file: Annotated[
        list[Path],
        typer.Option(
            "--file",
            "-f",
            help="InferenceService manifest, as a cluster takes it; or a colour's values for charts/model, of which the first is active.",
        ),
    ],
    port: Annotated[int, typer.Option(help="Where users send their requests.", min=1, max=65535)] = 8080,
    access: Annotated[
        str | None, typer.Option(help="Who may ask: a file with keys, oidc, tls (docs/access.md). Else anybody here.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds within which everything must be ready.", min=1)] = 60,
) -> None:
    """Serve the models of a manifest on this machine: a server process each, behind Envoy. It outlives the terminal."""
    from relevo.cli.wiring import Local

    local = Local.open()
    platform = local.platform
    settings = _settings(access)
    try:
        names = platform.up(file, proxy_port=port, timeout_seconds=timeout, progress=tell, access=settings)
        for name in names:
            stable = platform.observe(name).stable
            say(f"{name}  {stable.name}  {stable.storage_uri}  {platform.proxy_url}/v2/models/{name}/infer")
    finally:
        platform.close()


def _settings(access: str | None) -> Access | None:
    if access is None:
        return None
    from relevo.access.settings import read_access

    return read_access(access)


def down() -> None:
    """End everything that `relevo up` and rollouts have started. Packages and history stay."""
    from relevo.cli.wiring import Local

    local = Local.open()
    local.platform.down()
    tell("Nothing runs any more.")
    for record in local.unfinished():
        target = record.rollout.spec.target
        tell(
            f"{target}: the rollout to {record.rollout.spec.storage_uri} has not ended ({record.state.shown_phase}). "
            f"After the next `relevo up`, `relevo rollback {target}` ends it and `relevo retry {target}` begins it anew."
        )
