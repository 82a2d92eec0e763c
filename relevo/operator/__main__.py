"""`python -m relevo.operator`: the operator's process, in a pod or on a developer's machine."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from relevo.errors import BadInput, RelevoError

DESCRIPTION = "Carries the Rollouts of a cluster. One replica acts at a time; the others are ready to take over."


def main() -> int:
    """Read the options and run. Exit codes: 0 ended in peace, 2 bad input, 1 no cluster answers."""
    arguments = _parser().parse_args()
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr
    )
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # What follows loads SciPy and the clients; --help need not wait for that.
    from relevo.access.credential import Credential
    from relevo.operator.program import Options, run
    from relevo.operator.wiring import Wiring
    from relevo.platforms.cluster_api import connect

    try:
        cluster = connect(arguments.context)
        options = Options(
            namespaces=tuple(arguments.namespace),
            http_host=arguments.http_host,
            http_port=arguments.http_port,
            threads=arguments.threads,
            lease_namespace=os.environ.get("POD_NAMESPACE") or cluster.namespace,
            lease_name=os.environ.get("RELEVO_LEASE") or "relevo-operator",
        )
        wiring = Wiring(
            cluster,
            gateway=arguments.gateway,
            load_url=arguments.load_url,
            kourier_url=arguments.kourier_url,
            prometheus_url=arguments.prometheus,
            credential=Credential(arguments.credential) if arguments.credential else None,
            credential_secret=arguments.credential_secret,
        )
        run(options, cluster, wiring)
    except RelevoError as error:
        print(f"{error.message}\n{error.next_step}".rstrip(), file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="python -m relevo.operator", description=DESCRIPTION)
    scope = options.add_mutually_exclusive_group(required=True)
    scope.add_argument("--namespace", action="append", default=[], help="watch this namespace; may be repeated")
    scope.add_argument("--all-namespaces", action="store_true", help="watch the whole cluster")
    options.add_argument("--http-port", type=int, default=8080, help="port of /metrics, /healthz and /readyz (8080)")
    options.add_argument("--http-host", default="0.0.0.0", help="address that they listen on")
    options.add_argument("--threads", type=int, default=16, help="rollouts looked at at the same time (16)")
    options.add_argument("--log-level", choices=("debug", "info", "warning"), default="info")
    options.add_argument("--context", help="the kubeconfig's context, for an operator that does not run in the cluster")
    options.add_argument(
        "--prometheus", default="", metavar="URL", help="Prometheus, for rollouts whose sources name it"
    )
    options.add_argument(
        "--credential", type=Path, metavar="FOLDER", help="what smoke tests carry, where models ask for it"
    )
    options.add_argument(
        "--credential-secret", default="", metavar="NAME", help="the Secret beside a Rollout with what its load carries"
    )
    outside = options.add_argument_group("where the cluster's parts answer, seen from outside (for development)")
    outside.add_argument("--gateway", default="", metavar="URL", help="Kourier's gateway, http://127.0.0.1:8080 say")
    outside.add_argument("--load-url", default="", metavar="URL", help="Locust's web server")
    outside.add_argument("--kourier-url", default="", metavar="URL", help="the gateway's statistics")
    return options


if __name__ == "__main__":
    sys.exit(main())
