"""The server's certificate: what is refused, and in which words."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from relevo import errors
from relevo.access.authority import Authority
from relevo.access.certificates import ServerTls, read_pair, subject_of
from relevo.access.settings import Tls

AUTHORITY = Authority("test")


def settings(folder: Path, **changes: Path) -> Tls:
    """A pair that fits, in files; `changes` replace paths."""
    issued = AUTHORITY.issue("server", ["127.0.0.1"])
    (folder / "tls.crt").write_bytes(issued.certificate)
    (folder / "tls.key").touch(0o600)
    (folder / "tls.key").write_bytes(issued.key)
    return Tls(certificate=folder / "tls.crt", key=folder / "tls.key").model_copy(update=changes)


def refusal(wanted: Tls) -> errors.BadInput:
    with pytest.raises(errors.BadInput) as refused:
        read_pair(wanted)
    assert refused.value.next_step
    return refused.value


def test_each_trouble_is_a_sentence_with_the_file(tmp_path: Path) -> None:
    """Missing, not PEM, another's key, a password, an authority that is none."""
    fine = settings(tmp_path)
    read_pair(fine)
    assert "cannot be read" in refusal(fine.model_copy(update={"certificate": tmp_path / "none"})).message
    (tmp_path / "text").write_text("no PEM")
    assert "holds no certificate" in refusal(fine.model_copy(update={"certificate": tmp_path / "text"})).message
    assert "holds no private key" in refusal(fine.model_copy(update={"key": tmp_path / "text"})).message
    assert "holds no certificate" in refusal(fine.model_copy(update={"client_ca": tmp_path / "text"})).message
    other = tmp_path / "other.key"
    other.write_bytes(AUTHORITY.issue("other").key)
    assert str(other) in refusal(fine.model_copy(update={"key": other})).message
    assert "is not the key of the certificate" in refusal(fine.model_copy(update={"key": other})).message
    key = load_pem_private_key(other.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))  # type: ignore[union-attr]
    other.write_bytes(locked)
    assert "is protected by a password" in refusal(fine.model_copy(update={"key": other})).message


@pytest.mark.parametrize(("since", "says"), [(-2, "the certificate expired on"), (1, "is only valid from")])
def test_a_certificate_must_be_valid_now(tmp_path: Path, since: int, says: str) -> None:
    """Not before, not after."""
    wanted = settings(tmp_path)
    issued = AUTHORITY.issue("server", since=timedelta(days=since), valid_for=timedelta(days=1))
    wanted.certificate.write_bytes(issued.certificate)
    wanted.key.write_bytes(issued.key)
    assert says in refusal(wanted).message


def test_a_private_key_that_everybody_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It works, and the log says what to do; in a pod's Secret, where there is nobody else, it says nothing."""
    wanted = settings(tmp_path)
    wanted.key.chmod(0o644)
    with caplog.at_level(logging.WARNING, "relevo.access"):
        ServerTls(wanted)
        assert any("chmod 600" in line for line in caplog.messages)
        caplog.clear()
        os.symlink(tmp_path, tmp_path / "..data")
        ServerTls(wanted)
        assert caplog.messages == []


def test_a_certificate_that_expires_soon_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not at every look."""
    wanted = settings(tmp_path)
    issued = AUTHORITY.issue("server", valid_for=timedelta(days=2))
    wanted.certificate.write_bytes(issued.certificate)
    wanted.key.write_bytes(issued.key)
    tls = ServerTls(wanted)
    with caplog.at_level(logging.WARNING, "relevo.access"):
        tls.look()
        tls.look()
    assert sum("expires on" in line for line in caplog.messages) == 1


def test_whom_a_certificate_names() -> None:
    """Its common name, else another name of its; nobody without a certificate."""
    assert subject_of(None) is None
    assert subject_of({"subject": ((("organizationName", "o"),), (("commonName", "ada"),))}) == "ada"
    assert subject_of({"subject": (), "subjectAltName": (("DNS", "a.example.com"),)}) == "a.example.com"
    assert subject_of({"subject": ((("commonName", "a\nb"),),)}) == "a?b"
