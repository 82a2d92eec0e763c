"""What relevo's own requests carry."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from relevo import errors
from relevo.access import credential
from relevo.access.authority import Authority
from relevo.access.credential import Credential


def test_a_key_goes_along_as_a_bearer_and_a_token_goes_before_it(tmp_path: Path) -> None:
    """Line ends around it are not part of it."""
    (tmp_path / "key").write_text("relevo_1_2\n")
    assert Credential(tmp_path).headers() == {"authorization": "Bearer relevo_1_2"}
    (tmp_path / "token").write_text("a.b.c")
    assert Credential(tmp_path).headers() == {"authorization": "Bearer a.b.c"}


def test_a_renewed_token_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second at most it is looked at again."""
    now = [100.0]
    monkeypatch.setattr(credential.time, "monotonic", lambda: now[0])
    (tmp_path / "token").write_text("old")
    carried = Credential(tmp_path)
    (tmp_path / "token").write_text("new")
    assert carried.headers() == {"authorization": "Bearer old"}
    now[0] += 1
    assert carried.headers() == {"authorization": "Bearer new"}


def test_certificates_are_used_where_there_are_any(tmp_path: Path) -> None:
    """An authority alone is trusted and nothing is sent; the server's name is another where it is written."""
    authority = Authority("test")
    issued = authority.issue("client")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    carried = Credential(tmp_path)
    assert (carried.headers(), carried.certificate, carried.server_name) == ({}, None, "")
    assert carried.context().minimum_version is ssl.TLSVersion.TLSv1_2
    (tmp_path / "tls.crt").write_bytes(issued.certificate)
    (tmp_path / "tls.key").write_bytes(issued.key)
    (tmp_path / "server-name").write_text("internal.relevo\n")
    carried = Credential(tmp_path)
    assert carried.certificate == (str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))
    assert carried.server_name == "internal.relevo"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("other", "x", "holds no credential"),
        ("key", "two\nlines", "must be one line"),
        ("key", "é", "cannot be read"),
        ("ca.crt", "no PEM", "cannot be used"),
    ],
)
def test_a_folder_that_holds_none_is_refused_by_name(tmp_path: Path, name: str, content: str, says: str) -> None:
    """With what belongs into it."""
    (tmp_path / name).write_text(content)
    with pytest.raises(errors.BadInput) as refused:
        Credential(tmp_path)
    assert str(tmp_path) in refused.value.message
    assert says in refused.value.message
    assert "docs/access.md" in refused.value.next_step
