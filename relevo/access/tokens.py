"""OIDC bearer tokens: `Issuer` checks them with the keys that their issuer publishes. PyJWT does the cryptography.

The keys are found by discovery (OpenID Connect Discovery 1.0), asked for again every few minutes and, at most every few seconds, when a
token names one that is not known. While the issuer does not answer, what is known goes on: a token of a known key is checked as always,
any other is refused with 503, as nobody can say whether it is good. RS256 and ES256 only, chosen by the key and never by the token, so
neither `none` nor a symmetric algorithm can be asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from relevo import errors
from relevo.access.jwks import Jwks, PublicKey, fetch
from relevo.access.refusal import Refused
from relevo.access.settings import Oidc

__all__ = ["MAX_TOKEN_CHARACTERS", "REFETCH_SECONDS", "Issuer"]

_log = logging.getLogger("relevo.access")

MAX_TOKEN_CHARACTERS = 8192
REFETCH_SECONDS = 10.0
"""The issuer is asked no more often than this, however many tokens name keys that are not known."""
REFRESH_SECONDS = 300.0
"""It is asked at least this often, so that a withdrawn key is not good for longer."""
_REMEMBERED = 4096
"""Tokens whose signature need not be checked again: that costs more than the rest of a small request."""


class Issuer:
    """One issuer's tokens for one audience. Use it on one event loop only."""

    def __init__(
        self,
        settings: Oidc,
        *,
        fetch: Callable[[Oidc], Jwks] = fetch,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._fetch = fetch
        self._now = now
        self._monotonic = monotonic
        self._keys: Jwks | None = None
        self._asked_at = -REFRESH_SECONDS
        self._asking: asyncio.Task[None] | None = None
        self._trouble = "it has not been asked yet"
        self._known: dict[bytes, tuple[str, float]] = {}

    def remembered(self, token: str) -> str | None:
        """The subject of a token that was found good before and still is; None for any other."""
        found = self._known.get(_digest(token))
        return found[0] if found is not None and self._now() < found[1] else None

    async def check(self, token: str) -> str:
        """The subject of a token.

        Raises:
            Refused: 401 it is not good; 403 a claim is missing; 503 its key is not known and the issuer does not answer.
        """
        subject = self.remembered(token)
        if subject is not None:
            return subject
        key_id, algorithm = _header(token)
        key = self._key(key_id, algorithm)
        if key is None:
            await self._ask()
            key = self._key(key_id, algorithm)
        if key is None and self._trouble:
            raise Refused(503, f"the token cannot be checked now: {self._trouble}")
        if key is None:
            raise Refused(401, "the token is signed by a key that its issuer does not publish")
        claims = self._verified(token, key)
        subject = _shown(claims.get("sub") or claims.get("client_id") or "no subject")
        self._require_claims(claims, subject)
        self._remember(token, subject, float(claims["exp"]))
        return subject

    async def refresh_if_due(self) -> None:
        """Ask for the keys again if it is time."""
        due = REFRESH_SECONDS if not self._trouble else REFETCH_SECONDS
        if self._monotonic() - self._asked_at >= due:
            await self._ask()

    async def _ask(self) -> None:
        """Ask the issuer, unless that was done a moment ago; whoever comes while it is being asked waits for the same answer."""
        if self._asking is None:
            if self._monotonic() - self._asked_at < REFETCH_SECONDS:
                return
            self._asked_at = self._monotonic()
            self._asking = asyncio.create_task(self._ask_now())
            self._asking.add_done_callback(self._answered)
        await asyncio.shield(self._asking)

    def _answered(self, _: asyncio.Task[None]) -> None:
        self._asking = None

    async def _ask_now(self) -> None:
        try:
            keys = await asyncio.to_thread(self._fetch, self._settings)
        except errors.RelevoError as error:
            if self._trouble != error.message:
                goes_on = "; the keys known so far go on" if self._keys is not None else ""
                _log.warning("%s%s. %s", error.message, goes_on, error.next_step)
            self._trouble = error.message
            return
        if self._trouble:
            _log.info("OIDC issuer %s: %d keys", self._settings.issuer, len(keys.keys))
        if self._keys is None or self._keys.document != keys.document:
            self._known.clear()
        self._keys, self._trouble = keys, ""

    def _key(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        return self._keys.find(key_id, algorithm) if self._keys is not None else None

    def _verified(self, token: str, key: PublicKey) -> Mapping[str, Any]:
        wanted = self._settings
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=wanted.audience,
                issuer=wanted.issuer,
                leeway=wanted.leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise Refused(401, _reason(error, wanted)) from None
        except _UNREADABLE:
            raise Refused(401, "the token cannot be read") from None
        return claims

    def _require_claims(self, claims: Mapping[str, Any], subject: str) -> None:
        for name, wanted in self._settings.claims.items():
            has = claims.get(name)
            if isinstance(has, str):
                has = [has, *has.split()]
            if not isinstance(has, list) or wanted not in has:
                raise Refused(403, f"the token's claim {name!r} does not have {wanted!r}", who=subject)

    def _remember(self, token: str, subject: str, expires: float) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[_digest(token)] = (subject, expires + self._settings.leeway_seconds)


_UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What a token that is none of any issuer's may make a JSON or base64 reader raise besides; an `exp` of 1e999, say."""
_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidIssuedAtError: "the token's iat is no time",
    jwt.InvalidAudienceError: "the token is not for the audience {audience!r}",
    jwt.InvalidIssuerError: "the token is not of the issuer {issuer}",
    jwt.InvalidSignatureError: "the token's signature is wrong",
    jwt.InvalidAlgorithmError: "the token's algorithm is not that of its key",
}


def _reason(error: jwt.PyJWTError, wanted: Oidc) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token has no {error.claim}"
    found = next((text for kind, text in _REASONS.items() if isinstance(error, kind)), "the token cannot be read")
    return found.format(audience=wanted.audience, issuer=wanted.issuer)


def _header(token: str) -> tuple[str | None, str]:
    """Which key a token names, and the algorithm that it says."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise Refused(401, f"the token has more than {MAX_TOKEN_CHARACTERS} characters")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, *_UNREADABLE):
        raise Refused(401, "the credential is neither an API key nor a JSON Web Token") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ("RS256", "ES256"):
        raise Refused(401, "the token's algorithm is not RS256 or ES256")
    return key_id if isinstance(key_id, str) else None, algorithm


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _shown(subject: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(subject))[:100]
