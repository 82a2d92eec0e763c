"""What relevo's own requests carry: `Credential`, a folder of small files, as a mounted Secret is one.

    key           an API key, or
    token         a bearer token that somebody else renews (a projected service account's, say)
    ca.crt        whom to trust, where the server's authority is none that the system knows
    tls.crt       and tls.key: a client certificate, for mutual TLS
    server-name   the name to ask for, where it is not the address

On one machine `relevo.platforms.local.guard` makes it; on a cluster it is a Secret. Used by the load test and the smoke tests.
"""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any

from relevo import errors

__all__ = ["Credential"]

_LOOK_SECONDS = 1.0
_NEXT = "It holds key or token, and ca.crt, tls.crt, tls.key, server-name where there is TLS; see docs/access.md."


class Credential:
    """The credential in a folder.

    Raises:
        errors.BadInput: nothing that could be one is in there, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked_at = -_LOOK_SECONDS
        self._bearer = ""
        if not any((folder / name).exists() for name in ("key", "token", "ca.crt", "tls.crt")):
            raise errors.BadInput(f"{folder}: holds no credential", next_step=_NEXT)
        self.headers()
        self.context()

    def headers(self) -> dict[str, str]:
        """The headers to send; a renewed file is noticed within a second."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._bearer = self._text("token") or self._text("key")
        return {"authorization": f"Bearer {self._bearer}"} if self._bearer else {}

    @property
    def server_name(self) -> str:
        """The name to ask for by SNI and to find in the certificate; empty is that of the address."""
        return self._text("server-name")

    @property
    def authority(self) -> str | None:
        """The file of the authority to trust."""
        return self._path("ca.crt")

    @property
    def certificate(self) -> tuple[str, str] | None:
        """The files of the client certificate and its key."""
        certificate, key = self._path("tls.crt"), self._path("tls.key")
        return (certificate, key) if certificate and key else None

    def context(self) -> ssl.SSLContext:
        """What a client speaks TLS by."""
        try:
            context = ssl.create_default_context(cafile=self.authority)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                context.load_cert_chain(*self.certificate)
        except (ssl.SSLError, OSError) as error:
            raise errors.BadInput(
                f"{self._folder}: ca.crt, tls.crt or tls.key cannot be used ({error})", next_step=_NEXT
            ) from error
        return context

    def for_httpx(self) -> dict[str, Any]:
        """Arguments for `httpx.Client`."""
        return {"headers": self.headers(), "verify": self.context()}

    def _path(self, name: str) -> str | None:
        path = self._folder / name
        return str(path) if path.exists() else None

    def _text(self, name: str) -> str:
        try:
            text = (self._folder / name).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise errors.BadInput(f"{self._folder / name}: cannot be read ({error})", next_step=_NEXT) from error
        if any(character <= " " or character > "~" for character in text):
            raise errors.BadInput(f"{self._folder / name}: must be one line of printable ASCII", next_step=_NEXT)
        return text
