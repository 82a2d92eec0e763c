"""What the benchmarks on a cluster are told alike: which cluster, where its gateway is, in which namespace, and where the page goes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from scripts.lab.kube import GATEWAY

__all__ = ["cluster_parser"]


def cluster_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m benchmarks.cluster_NAME`, whose namespace is bench-NAME unless told otherwise."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.cluster_{name}", description=(description or "").partition("\n")[0]
    )
    parser.add_argument("--context", default=os.environ.get("CONTEXT") or "kind-relevo")
    parser.add_argument("--gateway", default=GATEWAY, help="HOST:PORT")
    parser.add_argument("--namespace", default=f"bench-{name}", help="is made if it is not there, and kept")
    parser.add_argument("--output", type=Path, help="write the page there too")
    return parser
