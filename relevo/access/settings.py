"""The file that switches access on: `read_access`. One file, the same for the model server, the local platform and the chart.

    keys: keys.jsonl                # or a list of files
    oidc: {issuer: https://id.example.com, audience: relevo}
    tls: {certificate: tls.crt, key: tls.key, clientCa: ca.crt}

Every part may be left out; what is there is demanded. Paths are relative to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
import yaml

from relevo import errors

__all__ = ["Access", "Oidc", "Tls", "parse_access", "read_access"]


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Oidc(_Part):
    """Whose bearer tokens are taken."""

    issuer: str
    """As the tokens have it in `iss`; its discovery document is below it."""
    audience: Annotated[str, pydantic.Field(min_length=1)]
    """What the tokens must have in `aud`."""
    claims: dict[str, str] = {}
    """What else they must have: the claim is this text, or a list or space-separated text that contains it. Else 403."""
    ca_file: Annotated[Path | None, pydantic.Field(alias="caFile")] = None
    """The certificate authority of the issuer's own server, where it is none that the system knows."""
    leeway_seconds: Annotated[float, pydantic.Field(alias="leewaySeconds", ge=0, le=300)] = 30.0
    """By how much clocks may differ."""

    @pydantic.field_validator("issuer")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{value!r} is not a URL like https://id.example.com/realm")
        return value


class Tls(_Part):
    """The server's own certificate, and whose clients' are taken. All files are PEM."""

    certificate: Path
    """The chain, the server's own first."""
    key: Path
    client_ca: Annotated[Path | None, pydantic.Field(alias="clientCa")] = None
    """With it clients must have a certificate of this authority: mutual TLS."""


class Access(_Part):
    """What is demanded of whoever asks."""

    keys: tuple[Path, ...] = ()
    oidc: Oidc | None = None
    tls: Tls | None = None
    metrics: Literal["open", "closed"] = "open"
    """Whether /metrics answers without a credential. Health always does."""

    @pydantic.field_validator("keys", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @property
    def asks_for_credential(self) -> bool:
        """Whether requests must carry a key or a token."""
        return bool(self.keys) or self.oidc is not None

    @property
    def is_open(self) -> bool:
        """Whether anybody may ask."""
        return not self.asks_for_credential and (self.tls is None or self.tls.client_ca is None)


def read_access(given: str) -> Access:
    """The settings in a file, or those written out as one YAML or JSON mapping, `{...}`, whose paths are relative to where we are.

    Raises:
        errors.BadInput: no such file, or it says what cannot be honoured; the message names the field.
    """
    if given.lstrip().startswith("{"):
        return parse_access(given, "--access", Path())
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise errors.BadInput(
            f"{path}: the access settings cannot be read: {error.strerror}",
            next_step="docs/access.md shows such a file.",
        ) from error
    except UnicodeDecodeError as error:
        raise errors.BadInput(f"{path}: is not UTF-8 text") from error
    return parse_access(text, str(path), path.parent)


def parse_access(text: str, source: str, folder: Path) -> Access:
    """The settings in a text; relative paths are taken from `folder`. Raises `errors.BadInput`."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise errors.BadInput(
            f"{source}: is not YAML: {problem}", next_step="docs/access.md shows such a file."
        ) from error
    if not isinstance(value, dict) or not value:
        raise errors.BadInput(
            f"{source}: demands nothing: it must have keys, oidc or tls",
            next_step="docs/access.md shows such a file; leave --access out to let anybody ask.",
        )
    try:
        read = Access.model_validate(value)
    except pydantic.ValidationError as error:
        lines = [_complaint(source, one["loc"], one["type"], one["msg"]) for one in error.errors()]
        raise errors.BadInput("\n".join(lines), next_step="docs/access.md shows such a file.") from error
    if read.is_open and read.tls is None:
        raise errors.BadInput(f"{source}: demands nothing: it must have keys, oidc or tls")
    return _absolute(read, folder.resolve())


def _complaint(source: str, location: tuple[int | str, ...], kind: str, message: str) -> str:
    path = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        return f"{source}: {path}: there is no such setting"
    if kind == "missing":
        return f"{source}: {path}: is missing"
    return f"{source}: {path}: {message.removeprefix('Value error, ')}"


def _absolute(access: Access, folder: Path) -> Access:
    # `/` keeps an absolute right side as it is.
    oidc, tls = access.oidc, access.tls
    if oidc is not None and oidc.ca_file is not None:
        oidc = oidc.model_copy(update={"ca_file": folder / oidc.ca_file})
    if tls is not None:
        paths = {"certificate": folder / tls.certificate, "key": folder / tls.key}
        tls = tls.model_copy(update={**paths, "client_ca": folder / tls.client_ca if tls.client_ca else None})
    keys = tuple(folder / one for one in access.keys)
    return access.model_copy(update={"keys": keys, "oidc": oidc, "tls": tls})
