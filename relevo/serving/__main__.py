"""`python -m relevo.serving`: serve one model package as one revision.

Exit codes: 0 ended on request; 1 cannot serve now (a port in use, say), trying again may help; 2 wrong arguments; 3 the package is
refused, and will be however often it is tried.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relevo import errors
from relevo.packaging.metadata import Metadata
from relevo.packaging.package import Package, load_package
from relevo.packaging.store import home_folder, resolve
from relevo.serving.arrival import wait_for_package

if TYPE_CHECKING:
    from relevo.access.gate import Gate

__all__ = ["EXIT_REFUSED", "main", "revision_name"]

EXIT_REFUSED = 3
_MOST_WORKERS = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    started = time.monotonic()
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        folder = options.package or resolve(options.storage_uri, home_folder())
        wait_for_package(folder, os.environ)
        package = load_package(folder)
        return _serve(options, package, started)
    except errors.RelevoError as error:
        return _told(error)


def _told(error: errors.RelevoError) -> int:
    print(f"error: {error.message} {error.next_step}".strip(), file=sys.stderr)
    return EXIT_REFUSED if isinstance(error, errors.BadInput) else 1


def _serve(options: argparse.Namespace, package: Package, started: float) -> int:
    # KServe parses sys.argv when it is imported; it must not take our options for its own.
    sys.argv = sys.argv[:1]
    from relevo.serving.revision import Revision
    from relevo.serving.server import Listen, RevisionServer, bind, reserve

    listener = bind(options.host, options.http_port)
    name = options.name or package.metadata.name
    revision = revision_name(options.revision, package.metadata)
    gate = _gate(options.access, name)
    served = Revision(name, package, revision, workers=options.workers, stuck_seconds=options.stuck_seconds)
    listen = Listen(
        options.host, options.http_port, options.grpc_port, options.grace_seconds, drain_seconds=options.drain_seconds
    )

    def serve(listen: Listen, *, until: int | None = None, beat: Callable[[], None] | None = None) -> None:
        served.load()
        server = RevisionServer(served, listen, fast=not options.no_fast_path, gate=gate)
        logging.getLogger("relevo.serving").info(
            "%s serves %s from %s by %s on %s://%s:%d, ready after %.1f s",
            revision,
            name,
            package.folder,
            package.metadata.runtime,
            "https" if gate is not None and gate.tls is not None else "http",
            options.host,
            listener.getsockname()[1],
            time.monotonic() - started,
        )
        server.run(listener, until=until, beat=beat)

    if options.workers == 1:
        serve(listen)
        return 0
    from relevo.serving.workers import Workers

    reserved = reserve(options.host, options.grpc_port) if options.grpc_port is not None else None
    if reserved is not None:
        listen = replace(listen, grpc_port=reserved.getsockname()[1], grpc_port_is_shared=True)

    def work(index: int, until: int, alive: Callable[[bool], None]) -> int:
        def beat() -> None:
            served.tallies.note_use()
            alive(served.live)

        served.tallies.use_row(index)
        try:
            serve(listen, until=until, beat=beat)
        except errors.RelevoError as error:
            return _told(error)
        return 0

    def close() -> None:
        listener.close()
        if reserved is not None:
            reserved.close()

    end_seconds = options.drain_seconds + options.grace_seconds + 5
    workers = Workers(
        options.workers,
        work,
        end_seconds=end_seconds,
        final=frozenset({EXIT_REFUSED}),
    )
    return workers.run(close)


def revision_name(given: str | None, metadata: Metadata) -> str:
    """The revision's name; NAME-VERSION where none is given.

    Kubernetes leaves `$(K_REVISION)` in an argument as it stands where there is no such variable, as in KServe's Standard mode.
    """
    return f"{metadata.name}-{metadata.version}" if not given or given.startswith("$(") else given


def _gate(access: str | None, model: str) -> Gate | None:
    if access is None:
        return None
    from relevo.access.gate import Gate
    from relevo.access.settings import read_access

    return Gate(read_access(access), model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m relevo.serving", description="Serve one model package.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--package", type=Path, help="the package's folder")
    source.add_argument("--storage-uri", help="file:///... or oci://HOST/NAME:VERSION from the local package store")
    parser.add_argument("--name", help="the model's name in URLs (default: the package's)")
    parser.add_argument("--revision", help="the revision's name (default: NAME-VERSION)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--http-port", type=_port, default=8080, help="REST; 0 picks a free one")
    parser.add_argument("--grpc-port", type=_port, help="gRPC; without it, none")
    parser.add_argument("--workers", type=_workers, default=1, help="processes that share the port (default: 1)")
    parser.add_argument("--grace-seconds", type=int, default=30, help="how long requests in flight may take at the end")
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=0.5,
        help="how long new requests are still taken after readiness has ended at the end",
    )
    parser.add_argument(
        "--stuck-seconds", type=float, default=120.0, help="a prediction that takes longer ends liveness"
    )
    parser.add_argument(
        "--access",
        help="who may ask: a file with keys, oidc, tls, or the same as {...} (docs/access.md); without it, anybody",
    )
    parser.add_argument("--no-fast-path", action="store_true", help="let KServe's application answer V2 requests")
    return parser


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers, 1 to {_MOST_WORKERS}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
