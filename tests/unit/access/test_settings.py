"""The file that switches access on: what it may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from relevo import errors
from relevo.access.settings import parse_access, read_access

OIDC = "oidc: {issuer: 'https://id.example.com', audience: relevo}"


def test_relative_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    """So a folder with the file and what it names can be mounted anywhere."""
    (tmp_path / "access.yaml").write_text(
        "keys: keys.jsonl\ntls: {certificate: tls.crt, key: /run/tls.key, clientCa: ca.crt}\n"
    )
    access = read_access(str(tmp_path / "access.yaml"))
    assert access.keys == (tmp_path / "keys.jsonl",)
    assert access.tls is not None
    assert (access.tls.certificate, access.tls.key) == (tmp_path / "tls.crt", Path("/run/tls.key"))
    assert access.tls.client_ca == tmp_path / "ca.crt"


def test_the_settings_may_stand_on_the_command_line() -> None:
    """As the chart gives them, in JSON; several files of keys are a list."""
    access = read_access('{"keys": ["/a", "/b"], "metrics": "closed"}')
    assert (access.keys, access.metrics, access.oidc) == ((Path("/a"), Path("/b")), "closed", None)


def test_what_is_off_unless_said(tmp_path: Path) -> None:
    """Metrics are open; only what is named is demanded."""
    access = parse_access(OIDC, "x", tmp_path)
    assert (access.metrics, access.tls, access.keys, access.asks_for_credential) == ("open", None, (), True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "demands nothing"),
        ("metrics: closed", "demands nothing"),
        ("key: x", "key: there is no such setting"),
        ("oidc: {issuer: id.example.com, audience: x}", "oidc.issuer: 'id.example.com' is not a URL"),
        ("oidc: {issuer: 'https://id.example.com'}", "oidc.audience: is missing"),
        ("oidc: {issuer: 'https://id.example.com', audience: ''}", "oidc.audience: "),
        ("tls: {certificate: a}", "tls.key: is missing"),
        ("keys: [a, 1]", "keys.1: "),
        ("keys: [", "is not YAML"),
        ("- keys", "demands nothing"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused_by_name(text: str, says: str, tmp_path: Path) -> None:
    """The message has the source and the field; nothing falls back to letting anybody in."""
    with pytest.raises(errors.BadInput) as refused:
        parse_access(text, "access.yaml", tmp_path)
    assert refused.value.message.startswith("access.yaml: ")
    assert says in refused.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(errors.BadInput, match="cannot be read") as refused:
        read_access(str(tmp_path / "none.yaml"))
    assert refused.value.next_step
