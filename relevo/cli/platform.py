"""`relevo up` and `relevo down`: the local platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relevo.cli.output import err, out
from relevo.cli.wiring import Local

__all__ = ["down", "up"]


def up(
    file: Annotated[Path, typer.Option("--file", "-f", help="InferenceService manifest, as a cluster takes it.")],
    port: Annotated[int, typer.Option(help="Where users send their requests.")] = 8080,
    timeout: Annotated[float, typer.Option(help="Seconds within which everything must be ready.", min=1)] = 60,
) -> None:
    """Serve the models of a manifest on this machine: a server process each, behind Envoy. It outlives the terminal."""
    local = Local.open()
    try:
        names = local.platform.up(file, proxy_port=port, timeout_seconds=timeout, progress=err.print)
        for name in names:
            stable = local.platform.observe(name).stable
            out.print(
                f"{name}  {stable.name}  {stable.storage_uri}  {local.platform.proxy_url}/v2/models/{name}/infer",
                soft_wrap=True,
            )
    finally:
        local.platform.close()


def down() -> None:
    """End everything that `relevo up` and rollouts have started. Packages and history stay."""
    local = Local.open()
    local.platform.down()
    err.print("Nothing runs any more.")
