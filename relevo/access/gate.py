"""Decides over a request by what its headers say: `Gate`. The only place that knows what is enough.

Synchronous where everything is known already (`admit`), so that the fast path can ask it; `decide` may have to ask an OIDC issuer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from relevo import errors
from relevo.access import keys as api_keys
from relevo.access.certificates import ServerTls
from relevo.access.refusal import Refused
from relevo.access.settings import Access
from relevo.access.tokens import Issuer
from relevo.access.watched import Watched

__all__ = ["Gate", "Who"]

_log = logging.getLogger("relevo.access")

LOOK_SECONDS = 1.0
"""How often the files are looked at."""
_AUTHORIZATION, _API_KEY = b"authorization", b"x-api-key"

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: a key by its name, a token by its subject, or a certificate by its."""

    kind: str
    name: str


def _clock() -> datetime:
    return datetime.now(UTC)


class Gate:
    """What `access` demands of whoever asks `model`.

    Raises:
        errors.BadInput: a file of keys or certificates cannot be used.
    """

    def __init__(self, access: Access, model: str, *, now: Callable[[], datetime] = _clock) -> None:
        self.access = access
        self.tls = ServerTls(access.tls) if access.tls is not None else None
        self._model = model
        self._now = now
        self._watched = Watched(access.keys)
        self._read_keys()
        self._issuer = Issuer(access.oidc) if access.oidc is not None else None
        self._needs_certificate = access.tls is not None and access.tls.client_ca is not None
        if access.asks_for_credential and not self._keys and self._issuer is None:
            _log.warning("%s: no API key is in there, so nobody gets in", ", ".join(str(one) for one in access.keys))

    def admit(self, headers: Headers, certificate: str | None) -> Who | None:
        """Who asks, if that can be said at once; None for whom `decide` must be asked.

        `headers` have names in lower case; `certificate` is the subject of the client's, which TLS has verified, None without one.
        """
        try:
            given = self._given(headers, certificate)
            if isinstance(given, Who):
                return given
            if given.startswith(api_keys.PREFIX):
                return self._by_key(given)
        except Refused:
            return None
        subject = self._issuer.remembered(given) if self._issuer is not None else None
        return Who("token", subject) if subject is not None else None

    async def decide(self, headers: Headers, certificate: str | None) -> Who:
        """Who asks. Raises `Refused`."""
        given = self._given(headers, certificate)
        if isinstance(given, Who):
            return given
        if given.startswith(api_keys.PREFIX) or self._issuer is None:
            return self._by_key(given)
        return Who("token", await self._issuer.check(given))

    async def keep_up(self) -> None:
        """Look at the files and at the issuer, for ever: what was renewed is used from then on."""
        # Each by itself: an issuer that takes its time must not keep a revoked key alive.
        await asyncio.gather(self._keep_up_with_files(), self._keep_up_with_issuer())

    async def _keep_up_with_files(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # whatever it is, what was known goes on
                _log.exception("the access settings could not be looked at")
            await asyncio.sleep(LOOK_SECONDS)

    async def _keep_up_with_issuer(self) -> None:
        while self._issuer is not None:
            try:
                await self._issuer.refresh_if_due()
            except Exception:  # likewise
                _log.exception("the OIDC issuer could not be asked")
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Read what changed; what cannot be used leaves what was there."""
        if self._watched.changed():
            try:
                self._read_keys()
                _log.info("the API keys were read again: %d", len(self._keys))
            except errors.BadInput as error:
                _log.error("%s The keys read before go on. %s", error.message.rstrip(".") + ".", error.next_step)
        if self.tls is not None:
            self.tls.look()

    def _read_keys(self) -> None:
        keys: dict[str, api_keys.Key] = {}
        for path in self.access.keys:
            keys |= api_keys.read_keys(path)
        self._keys = keys
        self._names = {key.id: Who("key", f"{key.name} ({key.id})") for key in keys.values()}

    def _given(self, headers: Headers, certificate: str | None) -> Who | str:
        """The credential; or who it is, where a certificate is enough. Raises `Refused`."""
        if self._needs_certificate and certificate is None:
            raise Refused(401, "a client certificate is needed here", presented=False)
        if not self.access.asks_for_credential:
            return Who("certificate", certificate) if certificate is not None else Who("anybody", "")
        found = [(name, value) for name, value in headers if name in (_AUTHORIZATION, _API_KEY)]
        if not found:
            raise Refused(401, f"a credential is needed here: {self._wanted}", presented=False)
        if len(found) > 1:
            raise Refused(401, "more than one credential is given; send one")
        name, value = found[0]
        text = value.decode("latin-1").strip()
        if name == _AUTHORIZATION:
            scheme, _, text = text.partition(" ")
            if scheme.lower() != "bearer":
                raise Refused(401, "the Authorization header is not of the scheme Bearer", presented=False)
            text = text.strip()
        if not text:
            raise Refused(401, f"the credential is empty: {self._wanted}", presented=False)
        return text

    @property
    def _wanted(self) -> str:
        ways = ["an API key (X-API-Key: KEY, or Authorization: Bearer KEY)"] if self.access.keys else []
        if self.access.oidc is not None:
            ways.append(f"a token of {self.access.oidc.issuer} (Authorization: Bearer TOKEN)")
        return " or ".join(ways)

    def _by_key(self, given: str) -> Who:
        key = api_keys.find(self._keys, given)
        if key is None:
            raise Refused(401, "the API key is not one of those known here")
        who = self._names[key.id]
        if key.expires is not None and key.has_expired(self._now()):
            raise Refused(401, f"the API key {who.name} has expired", who=who.name)
        if not key.allows(self._model):
            raise Refused(403, f"the API key {who.name} is not for the model {self._model}", who=who.name)
        return who
