"""`python -m relevo.platforms.local.renewal SETTINGS ENVOY_FOLDER`: brings renewed certificates of the users' side to Envoy.

Envoy itself sees only files that are renamed into place. This looks once a second, in whatever way they are renewed; a pair that cannot
be used is told of in the log, and Envoy keeps what it has. Kept running by the supervisor, beside Envoy, where there is TLS.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from relevo import errors
from relevo.access.certificates import ServerTls
from relevo.access.settings import parse_access
from relevo.platforms.local.guard import write_secrets

__all__ = ["main"]

_LOOK_SECONDS = 1.0


def main(arguments: Sequence[str]) -> int:
    """Look until SIGTERM."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings, folder = arguments[0], Path(arguments[1])
    access = parse_access(settings, "the deployment's access", Path("/"))
    if access.tls is None:
        return 0
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        tls = ServerTls(access.tls)
    except errors.BadInput as error:  # expired meanwhile, say: the supervisor tries again, and Envoy keeps what it has
        print(f"error: {error.message} {error.next_step}", file=sys.stderr)
        return 1
    write_secrets(tls.pair, folder)
    written = tls.pair
    while not ended.wait(_LOOK_SECONDS):
        tls.look()
        if tls.pair is not written:
            write_secrets(tls.pair, folder)
            written = tls.pair
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
