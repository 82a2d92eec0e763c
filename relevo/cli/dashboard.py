"""`relevo dashboard`: Locust's web UI of a rollout, in a browser on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from relevo.cli.options import (
    LOCUST_PORT,
    ContextOption,
    LocustPortOption,
    NamespaceOption,
    PlatformOption,
    TargetArgument,
)
from relevo.cli.output import say, tell
from relevo.errors import BadInput, Transient

if TYPE_CHECKING:
    from relevo.cli.site import Where

__all__ = ["dashboard"]


def dashboard(
    target: TargetArgument = None,
    locust_port: LocustPortOption = LOCUST_PORT,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Print where Locust's web UI of a rollout can be opened; from a cluster, forward it to this machine until Ctrl-C."""
    from relevo.cli.site import Where, open_site

    where = Where(platform, context, namespace)
    if where.is_cluster:
        _forward(where, target, locust_port)
        return
    address = open_site(where).journal().locust_url
    if not address:
        raise BadInput(
            "no rollout has had a load here", next_step="`relevo deploy-canary` or `relevo loadtest` starts one."
        )
    say(address)


def _forward(where: Where, target: str | None, port: int) -> None:
    """Forward the port of the load's master."""
    from relevo.cli.cluster_records import ClusterJournal
    from relevo.load.workloads import WEB_PORT, load_name
    from relevo.platforms.cluster_api import SERVICES, connect
    from relevo.platforms.local.ports import require_free

    cluster = connect(where.context)
    spaces = where.namespace or cluster.namespace
    journal = ClusterJournal(cluster, spaces)
    name = journal.known(target)
    record = journal.latest(name)
    service = load_name(record.name) if record else ""
    if not service or cluster.get(SERVICES, spaces, service) is None:
        what = f"its rollout is {record.state.shown_phase}" if record else "there has been no rollout"
        raise BadInput(f"{name}: there is no load now, {what}", next_step="It lives as long as a rollout runs.")
    require_free(port, option="--locust-port")
    command = [kubectl(), "port-forward", "--address", "127.0.0.1", "--namespace", spaces]
    command += ["--context", where.context] if where.context else []
    command += [f"service/{service}", f"{port}:{WEB_PORT}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if not process.stdout.readline():
                said = process.stderr.read().strip().splitlines()
                raise Transient(
                    f"{service}: the port cannot be forwarded: {said[-1] if said else 'kubectl ended'}",
                    next_step="Its pod may still be starting; try again.",
                )
            say(f"http://127.0.0.1:{port}")
            tell("(Ctrl-C ends it)")
            process.wait()
        except KeyboardInterrupt:
            pass
        finally:
            process.terminate()


def kubectl() -> str:
    """The program kubectl: on the path, or where `make cluster` has put it. Raises `BadInput`."""
    cache = Path(os.environ.get("RELEVO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "relevo")
    found = shutil.which("kubectl") or shutil.which("kubectl", path=str(cache.expanduser() / "bin"))
    if found is None:
        raise BadInput(
            "kubectl is not on the path", next_step="Install it, or run `make cluster`, which brings it along."
        )
    return found
