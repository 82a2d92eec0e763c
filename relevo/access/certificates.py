"""The server's certificate and the authority of its clients', renewed without a restart: `ServerTls`.

A renewed pair is read whole and checked (does the key fit, is it valid now) before any connection gets it; what cannot be used leaves
what was there. Connections that are open keep what they have. TLS 1.2 and newer.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from relevo import errors
from relevo.access.settings import Tls
from relevo.access.watched import Watched

__all__ = ["Pair", "RenewedContext", "ServerTls", "read_pair", "subject_of"]

_log = logging.getLogger("relevo.access")

_SOON = timedelta(days=3)
_RENEW = "Renew it, and put certificate and key in their places together; they are read by themselves."


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain with its key, and the authorities of clients, as PEM that fits together."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires: datetime


def read_pair(settings: Tls, *, now: datetime | None = None) -> Pair:
    """Read and check the files.

    Raises:
        errors.BadInput: one cannot be read, is not PEM, the key does not fit, or the certificate is not valid now.
    """
    now = now or datetime.now(UTC)
    certificate, key = _bytes(settings.certificate), _bytes(settings.key)
    own = _certificates(settings.certificate, certificate)[0]
    if _public(_private_key(settings.key, key)) != _public(own):
        raise errors.BadInput(
            f"{settings.key}: is not the key of the certificate in {settings.certificate}", next_step=_RENEW
        )
    if now > own.not_valid_after_utc:
        raise errors.BadInput(
            f"{settings.certificate}: the certificate expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            next_step=_RENEW,
        )
    if now < own.not_valid_before_utc:
        raise errors.BadInput(
            f"{settings.certificate}: the certificate is only valid from {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            next_step="Is this machine's clock right?",
        )
    authority = None
    if settings.client_ca is not None:
        authority = _bytes(settings.client_ca)
        _certificates(settings.client_ca, authority)
    return Pair(certificate, key, authority, own.not_valid_after_utc)


class RenewedContext(ssl.SSLContext):
    """What an event loop takes for one context. Each new connection is made by `current`, which may be another than a second ago."""

    current: ssl.SSLContext

    def __new__(cls, first: ssl.SSLContext) -> RenewedContext:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made.current = first
        return made

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """As `ssl.SSLContext` does it."""
        return self.current.wrap_bio(*arguments, **named)


class ServerTls:
    """What a server needs of TLS. Raises `errors.BadInput` where its files cannot be used."""

    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        paths = [settings.certificate, settings.key, *([settings.client_ca] if settings.client_ca else [])]
        self._watched = Watched(paths)
        self.pair = read_pair(settings)
        self.context = RenewedContext(_context(settings, self.pair))
        self._warned_of: datetime | None = None
        _warn_if_readable(settings.key)

    @property
    def needs_client(self) -> bool:
        """Whether clients need a certificate."""
        return self._settings.client_ca is not None

    def look(self) -> None:
        """Read what changed. Says once when the certificate is about to expire."""
        if self._watched.changed():
            try:
                pair = read_pair(self._settings)
                self.context.current = _context(self._settings, pair)
            except errors.BadInput as error:
                _log.error(
                    "%s The certificate read before goes on. %s", error.message.rstrip(".") + ".", error.next_step
                )
            else:
                self.pair = pair
                _log.info("the certificate was read again; it is valid until %s", f"{pair.expires:%Y-%m-%d %H:%M} UTC")
        if self._warned_of != self.pair.expires and datetime.now(UTC) > self.pair.expires - _SOON:
            self._warned_of = self.pair.expires
            shown = f"{self.pair.expires:%Y-%m-%d %H:%M} UTC"
            _log.warning("%s: the certificate expires on %s. %s", self._settings.certificate, shown, _RENEW)

    def grpc_credentials(self) -> Any:
        """gRPC's server credentials, which ask for the pair at each new connection."""
        import grpc  # type: ignore[import-untyped]

        used = self.pair

        def configuration() -> Any:
            pairs = [(used.key, used.certificate)]
            return grpc.ssl_server_certificate_configuration(pairs, root_certificates=used.client_ca)

        def renewed() -> Any:
            nonlocal used
            if used is self.pair:
                return None  # what gRPC has is right
            used = self.pair
            return configuration()

        return grpc.dynamic_ssl_server_credentials(configuration(), renewed, self.needs_client)


def subject_of(peer: dict[str, Any] | None) -> str | None:
    """Whom a verified certificate (as `ssl` gives it) names: its common name, else its first alternative name. None for none."""
    if not peer:
        return None
    names = [value for part in peer.get("subject", ()) for field, value in part if field == "commonName"]
    names += [value for _, value in peer.get("subjectAltName", ())]
    return "".join(c if c.isprintable() else "?" for c in names[0])[:100] if names else "a certificate without a name"


def _context(settings: Tls, pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if pair.client_ca is not None:
            # Not required by TLS itself, so that probes, which have no certificate, still get an answer from the health paths.
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=pair.client_ca.decode("ascii", "replace"))
    except (ssl.SSLError, OSError) as error:
        raise errors.BadInput(f"{settings.certificate}: cannot be used: {error}", next_step=_RENEW) from error
    return context


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.BadInput(
            f"{path}: cannot be read: {error.strerror}",
            next_step="Give a PEM file that whoever runs the server may read.",
        ) from error


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise errors.BadInput(f"{path}: holds no certificate in PEM", next_step=_RENEW) from error


def _private_key(path: Path, content: bytes) -> Any:
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        why = "is protected by a password; the server has nobody to ask for it"
    except (ValueError, UnsupportedAlgorithm):
        why = "holds no private key in PEM"
    raise errors.BadInput(f"{path}: {why}", next_step="Give the key as unprotected PEM, readable by the server only.")


def _public(of: Any) -> bytes:
    found: bytes = of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def _warn_if_readable(path: Path) -> None:
    if (path.parent / "..data").is_symlink():
        return  # a Secret in a pod, where there is nobody else
    mode = path.stat().st_mode
    if mode & 0o004:
        _log.warning(
            "%s: everybody on this machine can read the private key (mode %o). `chmod 600 %s`", path, mode & 0o777, path
        )
