"""`python -m k8s.cluster VERB`, which the Makefile calls. Settings come from the environment: CLUSTER, IMAGES, GATEWAY_PORT, RELEVO_CACHE.

Exit codes: 0 done; 1 failed; 2 something that the user can mend is missing or wrong; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys

from k8s.cluster import daemon, tools, up
from k8s.cluster.settings import read_settings
from relevo.errors import BadInput, RelevoError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one verb."""
    parser = argparse.ArgumentParser(prog="python -m k8s.cluster", description="The development cluster.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="have the cluster running, with everything on it")
    verbs.add_parser("down", help="delete it")
    verbs.add_parser("prepare", help="build what a new cluster takes, and begin none")
    verbs.add_parser("images", help="build relevo's images, and load them where the cluster runs")
    verbs.add_parser("docker", help="start Docker by hand, on a machine without systemd")
    tool = verbs.add_parser("tool", help="print where a tool is, which is made if need be")
    tool.add_argument("name", choices=sorted(tools.TOOLS))
    options = parser.parse_args(arguments)
    try:
        settings = read_settings()
        match options.verb:
            case "up":
                up.up(settings)
            case "down":
                up.down(settings)
            case "prepare":
                up.prepare(settings)
            case "images":
                up.build(settings)
            case "docker":
                daemon.start(settings.cache)
            case _:
                print(tools.tool(options.name))
    except RelevoError as error:
        print(f"error: {error.message} {error.next_step}".strip(), file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        print("interrupted; what was built whole is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
