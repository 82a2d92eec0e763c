"""Access on the local platform: what `relevo up --access FILE` makes, and what Envoy and the model servers are told of it.

Users meet their settings' TLS at Envoy and their keys and tokens at the model servers, as they would on a cluster. What lies between is
relevo's own, below LOCAL/access, readable by its owner only: an authority whose key nobody keeps, a certificate for Envoy and the servers
on both ends of their connections, and a credential with which load, shadow and smoke requests come in. They enter Envoy by a server
name of their own (SNI), so that they need no certificate of the users' authority.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo.platforms.local import files

if TYPE_CHECKING:  # keys and certificates are for whoever makes them, not for every command that reads a deployment
    from relevo.access.certificates import Pair
    from relevo.access.settings import Access

__all__ = ["INTERNAL_NAME", "Guard", "describe", "make", "remove", "write_secrets"]

Json = dict[str, Any]

INTERNAL_NAME = "internal.relevo"
"""The server name by which relevo's own requests come."""
_TYPE = "type.googleapis.com/envoy."
_SECRETS = ("users", "clients")
"""What Envoy watches: the users' certificate, and the authority of theirs. One file each, as Envoy takes one secret from a file."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Access as a deployment remembers it."""

    settings: str
    """The user's, as JSON with absolute paths."""
    folder: str
    """Where relevo's own part is."""
    tls: bool
    """Whether connections are encrypted."""
    mutual: bool
    """Whether users need a certificate."""

    @property
    def credential(self) -> Path:
        """The folder of relevo's own credential."""
        return Path(self.folder) / "own"

    @property
    def authority(self) -> str | None:
        """Whom the platform's own health checks trust; None without TLS."""
        return str(self.credential / "ca.crt") if self.tls else None

    def server_options(self) -> tuple[str, ...]:
        """What a model server is started with."""
        return ("--access", str(Path(self.folder) / "servers.json"))

    def upstream(self) -> Json:
        """How Envoy speaks to the model servers; nothing without TLS."""
        if not self.tls:
            return {}
        own = {"exact": "127.0.0.1"}
        validation = {
            "trusted_ca": _file(self.credential / "ca.crt"),
            "match_typed_subject_alt_names": [{"san_type": "IP_ADDRESS", "matcher": own}],
        }
        context = {
            "@type": _TYPE + "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {**self._own_certificate(), "validation_context": validation, **_NEWEST},
        }
        return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}

    def filter_chains(self, filters: list[Json], envoy_folder: Path) -> list[Json]:
        """The listener's, for relevo's own requests and for users."""
        if not self.tls:
            return [{"filters": filters}]
        users: Json = {"tls_certificate_sds_secret_configs": [_watched(envoy_folder, "users")]}
        if self.mutual:
            users["validation_context_sds_secret_config"] = _watched(envoy_folder, "clients")
        own = {**self._own_certificate(), "validation_context": {"trusted_ca": _file(self.credential / "ca.crt")}}
        return [
            {
                "filter_chain_match": {"server_names": [INTERNAL_NAME]},
                "filters": filters,
                "transport_socket": _downstream(own, wants_client=True),
            },
            {
                "filters": filters,
                "transport_socket": _downstream(users, wants_client=self.mutual),
            },
        ]

    def _own_certificate(self) -> Json:
        pair = {
            "certificate_chain": _file(self.credential / "tls.crt"),
            "private_key": _file(self.credential / "tls.key"),
        }
        return {"tls_certificates": [pair]}


def describe(access: Access, folder: Path) -> Guard:
    """What a deployment is to remember of these settings."""
    settings = access.model_dump_json(by_alias=True, exclude_none=True)
    mutual = access.tls is not None and access.tls.client_ca is not None
    return Guard(settings, str(folder), tls=access.tls is not None, mutual=mutual)


def make(access: Access, folder: Path, envoy_folder: Path) -> Guard:
    """Write relevo's own part for these settings into `folder`, and the users' certificate where Envoy finds it.

    Raises:
        errors.BadInput: a file that the settings name cannot be used. errors.Permanent: the folder cannot be written.
    """
    from relevo.access.certificates import read_pair
    from relevo.access.keys import new_key, read_keys, render

    for path in access.keys:
        read_keys(path)
    pair = read_pair(access.tls) if access.tls is not None else None
    guard = describe(access, folder)
    remove(folder, envoy_folder)
    try:
        guard.credential.mkdir(parents=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise files.storage_error("make", folder, error) from error
    servers: Json = {"metrics": access.metrics}
    if access.asks_for_credential:
        line, key = new_key("relevo-itself", now=datetime.now(UTC))
        files.write_atomic(guard.credential / "key", key + "\n")
        files.write_atomic(folder / "keys.jsonl", render(line) + "\n")
        servers["keys"] = [*map(str, access.keys), str(folder / "keys.jsonl")]
    if access.oidc is not None:
        servers["oidc"] = access.oidc.model_dump(mode="json", by_alias=True, exclude_none=True)
    if pair is not None:
        servers["tls"] = _make_certificates(guard.credential)
        write_secrets(pair, envoy_folder)
    files.write_json(folder / "servers.json", servers)
    return guard


def remove(folder: Path, envoy_folder: Path) -> None:
    """Take relevo's own part away, and the users' key that Envoy was given."""
    for name in _SECRETS:
        files.remove(_secret(envoy_folder, name))
    shutil.rmtree(folder, ignore_errors=True)


def _users_secrets(pair: Pair) -> list[Json]:
    """The users' certificate and the authority of theirs, as Envoy takes secrets."""
    kind = _TYPE + "extensions.transport_sockets.tls.v3.Secret"
    certificate = {"certificate_chain": _inline(pair.certificate), "private_key": _inline(pair.key)}
    secrets: list[Json] = [{"@type": kind, "name": "users", "tls_certificate": certificate}]
    if pair.client_ca is not None:
        secrets.append(
            {"@type": kind, "name": "clients", "validation_context": {"trusted_ca": _inline(pair.client_ca)}}
        )
    return secrets


def write_secrets(pair: Pair, envoy_folder: Path) -> None:
    """Write them where Envoy looks; it takes them at once. The files are their owner's only."""
    for secret in _users_secrets(pair):
        files.write_atomic(_secret(envoy_folder, secret["name"]), json.dumps({"resources": [secret]}))


def _make_certificates(folder: Path) -> Json:
    from relevo.access.authority import Authority

    authority = Authority("relevo local platform")
    issued = authority.issue("relevo-itself", ["127.0.0.1", "localhost", INTERNAL_NAME])
    for name, content in (("ca.crt", authority.certificate), ("tls.crt", issued.certificate), ("tls.key", issued.key)):
        files.write_atomic(folder / name, content.decode())
    files.write_atomic(folder / "server-name", INTERNAL_NAME + "\n")
    paths = {"certificate": "tls.crt", "key": "tls.key", "clientCa": "ca.crt"}
    return {setting: str(folder / name) for setting, name in paths.items()}


_NEWEST: Json = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_2"}}


def _downstream(common: Json, *, wants_client: bool) -> Json:
    context = {
        "@type": _TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {**common, **_NEWEST, "alpn_protocols": ["h2", "http/1.1"]},
        "require_client_certificate": wants_client,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _watched(envoy_folder: Path, name: str) -> Json:
    source = {"path": str(_secret(envoy_folder, name)), "watched_directory": {"path": str(envoy_folder)}}
    return {"name": name, "sds_config": {"resource_api_version": "V3", "path_config_source": source}}


def _secret(envoy_folder: Path, name: str) -> Path:
    return envoy_folder / f"secret-{name}.json"


def _file(path: Path) -> Json:
    return {"filename": str(path)}


def _inline(content: bytes) -> Json:
    return {"inline_string": content.decode("utf-8", "replace")}
