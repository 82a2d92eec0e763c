"""`relevo loadtest`: load alone, with Locust's dashboard, and no rollout."""

from __future__ import annotations

import os
import subprocess
from typing import Annotated

import typer

from relevo.cli.options import LOCUST_PORT, LocustPortOption, TargetArgument
from relevo.cli.output import tell
from relevo.errors import BadInput

__all__ = ["loadtest"]


def loadtest(
    target: TargetArgument = None,
    users: Annotated[int, typer.Option(help="Simulated users to begin with.", min=1)] = 10,
    seconds: Annotated[int | None, typer.Option(help="End after this many seconds; else with Ctrl-C.", min=1)] = None,
    locust_port: LocustPortOption = LOCUST_PORT,
) -> None:
    """Send held-out rows as V2 requests through the proxy, with Locust's dashboard open."""
    from relevo.cli.wiring import Local
    from relevo.platforms.local import ports

    local = Local.open()
    name = local.target(target)
    record = local.store.latest(name)
    if record is not None and not record.state.phase.is_terminal:
        raise BadInput(
            f"{name}: a rollout sends its own load now", next_step=f"Its dashboard is at {local.locust_url()}."
        )
    local.stop_locust()
    ports.require_free(locust_port, option="--locust-port")
    program = local.locust(name, local.package(local.platform.observe(name).stable.storage_uri), locust_port)
    argv = [*program.argv(), "--autostart", "--users", str(users), "--spawn-rate", str(users)]
    if seconds is not None:
        argv += ["--run-time", f"{seconds}s", "--autoquit", "0"]
    requests_url = f"{local.platform.proxy_url}/v2/models/{name}/infer"
    tell(f"Locust's dashboard: {program.web_url}   Requests: {requests_url}   (Ctrl-C ends it)")
    with subprocess.Popen(argv, env={**os.environ, **program.env(), "LOCUST_AUTOSTART": "true"}) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            code = process.wait() and 0  # Locust has heard the same Ctrl-C
    raise typer.Exit(code)
