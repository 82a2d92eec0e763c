"""API keys and the file of their hashes: one key a line, JSON, made by `relevo access create`, read by the model server.

A key is `relevo_ID_SECRET`. The ID is public: it finds the line, and is what lists and logs show. The file has only a hash of the
secret, so whoever reads it cannot use it. SHA-256 without salt or stretching suffices, because a secret is 256 random bits: there is
nothing to guess, unlike with a password. Each hash says its scheme, so that another can come beside it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pydantic

from relevo import errors

__all__ = ["PREFIX", "Key", "find", "new_key", "parse_keys", "read_keys", "render"]

PREFIX = "relevo_"
"""How every key begins, so that scanners for leaked secrets, and this server, tell it from a token."""
SCHEME = "sha256"
_KEY = re.compile(r"relevo_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = "0" * 64
"""Compared with where no key has the ID, so that an unknown ID takes as long as a wrong secret."""


class Key(pydantic.BaseModel):
    """One line of the file."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$")]
    hash: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9-]+:[0-9a-f]+$")]
    created: pydantic.AwareDatetime
    expires: pydantic.AwareDatetime | None = None
    models: tuple[str, ...] | None = None
    """The models that it may ask; None is all."""

    @pydantic.field_validator("hash")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        scheme, _, digest = value.partition(":")
        if scheme != SCHEME or len(digest) != 64:
            raise ValueError(
                f"is of the scheme {scheme!r}, and this version of relevo knows {SCHEME} of 64 digits only"
            )
        return value

    def allows(self, model: str) -> bool:
        """Whether it may ask this model."""
        return self.models is None or model in self.models

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires


def new_key(
    name: str, *, now: datetime, expires: datetime | None = None, models: Sequence[str] | None = None
) -> tuple[Key, str]:
    """A key's line, and the key itself, which is nowhere else.

    Raises:
        errors.BadInput: the name is none.
    """
    identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    scope = tuple(models) if models else None
    line = {"id": identity, "name": name, "hash": f"{SCHEME}:{_digest(secret)}", "created": now, "expires": expires}
    return _checked({**line, "models": scope}, "the new key"), f"{PREFIX}{identity}_{secret}"


def find(keys: dict[str, Key], given: str) -> Key | None:
    """The line of a key that somebody gives, whatever its expiry and scope; None if it is none of these. Takes constant time."""
    parts = _KEY.fullmatch(given)
    if parts is None:
        return None
    key = keys.get(parts[1])
    expected = key.hash.partition(":")[2] if key is not None else _NOBODY
    return key if hmac.compare_digest(_digest(parts[2]), expected) and key is not None else None


def render(key: Key) -> str:
    """A key's line."""
    return key.model_dump_json(exclude_none=True)


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file by ID.

    Raises:
        errors.BadInput: no such file, or a line of it is no key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise errors.BadInput(
            f"{path}: the API keys cannot be read: {error.strerror}",
            next_step="Give the path of a file that `relevo access create` made, readable by whoever runs the server.",
        ) from error
    except UnicodeDecodeError as error:
        raise errors.BadInput(f"{path}: is not UTF-8 text, so it is no file of API keys") from error
    return parse_keys(text, str(path))


def parse_keys(text: str, source: str) -> dict[str, Key]:
    """The same of a text. Empty lines and those that begin with # are left out; `source` names the text in messages."""
    found: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key = _checked(line, f"{source}, line {number}")
        if key.id in found:
            raise errors.BadInput(f"{source}, line {number}: a second key with the id {key.id}", next_step=_MEND)
        found[key.id] = key
    return found


_MEND = "Remove or mend the line; `relevo access list --keys FILE` reads the file as the server does."


def _checked(value: Any, where: str) -> Key:
    try:
        return Key.model_validate_json(value) if isinstance(value, str) else Key.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        # The message only, never the input: it might be the key itself, pasted where its line belongs.
        message = first["msg"].removeprefix("Value error, ")
        raise errors.BadInput(
            f"{where}: is no API key's line: {field}: {message}".replace(": : ", ": "), next_step=_MEND
        ) from None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def now_utc() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
