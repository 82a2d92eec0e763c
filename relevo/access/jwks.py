"""The public keys of an OIDC issuer: `fetch`, by its discovery document."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt

from relevo import errors
from relevo.access.settings import Oidc

__all__ = ["DISCOVERY", "Jwks", "PublicKey", "fetch", "parse_jwks"]

DISCOVERY = "/.well-known/openid-configuration"
_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 1 << 20
_SMALLEST_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signs tokens, and the one algorithm that it does it by."""

    id: str | None
    algorithm: str
    key: Any


@dataclass(frozen=True, slots=True)
class Jwks:
    """An issuer's keys. `document` tells one set from another."""

    keys: tuple[PublicKey, ...]
    document: str

    def find(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        """The key of this ID; for a token that names none, the only one of its algorithm."""
        if key_id is not None:
            return next((one for one in self.keys if one.id == key_id), None)
        of_kind = [one for one in self.keys if one.algorithm == algorithm]
        return of_kind[0] if len(of_kind) == 1 else None


def fetch(settings: Oidc) -> Jwks:
    """Ask the issuer; takes up to two round trips.

    Raises:
        errors.Transient: it does not answer, or with something else than its discovery document or its keys.
    """
    issuer = settings.issuer
    about = _get(settings, issuer.rstrip("/") + DISCOVERY, "its discovery document")
    if about.get("issuer") != issuer:
        raise _trouble(
            settings,
            f"the discovery document is of the issuer {str(about.get('issuer'))[:200]!r}",
            "Write the issuer as that document has it, to the last slash.",
        )
    place = about.get("jwks_uri")
    allowed = ("https",) if issuer.startswith("https:") else ("https", "http")
    if not isinstance(place, str) or urlsplit(place).scheme not in allowed:
        raise _trouble(settings, "the discovery document has no jwks_uri that can be used", "Look at that document.")
    return parse_jwks(settings, _get(settings, place, "its keys (jwks_uri)"))


def parse_jwks(settings: Oidc, document: dict[str, Any]) -> Jwks:
    """Those of the keys that can be used: RSA of 2048 bits or more, and P-256, for signatures. Raises `errors.Transient` if none."""
    entries = document.get("keys")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(entry.get("kty")))
        if algorithm is None or entry.get("alg", algorithm) != algorithm:
            continue
        if algorithm == "ES256" and entry.get("crv") != "P-256":
            continue
        try:
            key = jwt.PyJWK(entry, algorithm=algorithm).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if algorithm == "RS256" and key.key_size < _SMALLEST_RSA_BITS:
            continue
        name = entry.get("kid")
        found.append(PublicKey(name if isinstance(name, str) else None, algorithm, key))
    if not found:
        raise _trouble(settings, "it publishes no RS256 or ES256 key", "Let the issuer sign by one of these.")
    return Jwks(tuple(found), json.dumps(entries, sort_keys=True))


def _get(settings: Oidc, url: str, what: str) -> dict[str, Any]:
    import httpx  # only where there is an issuer

    try:
        verify = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    except OSError as error:
        raise _trouble(
            settings, f"{settings.ca_file}: cannot be read as PEM certificates", "Mend oidc.caFile."
        ) from error
    try:
        with (
            httpx.Client(verify=verify, timeout=_TIMEOUT_SECONDS) as client,
            client.stream("GET", url, headers={"accept": "application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise _trouble(settings, f"{url} answers {answer.status_code} instead of {what}", _LOOK)
            body = b""
            for part in answer.iter_bytes():
                body += part
                if len(body) > _MAX_BYTES:
                    raise _trouble(settings, f"{url} answers with more than {_MAX_BYTES} bytes", _LOOK)
    except httpx.HTTPError as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise _trouble(settings, f"no answer from {url} ({reason})", "It is asked again by itself.") from error
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _trouble(settings, f"{url} does not answer with {what}", _LOOK)
    return value


_LOOK = "Open the address in a browser: is oidc.issuer the right one?"


def _trouble(settings: Oidc, what: str, next_step: str) -> errors.Transient:
    return errors.Transient(f"OIDC issuer {settings.issuer}: {what}", next_step=next_step)
