"""`relevo access`: keys made, listed, revoked, and credentials checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relevo.access.authority import Authority
from relevo.access.keys import find, read_keys
from relevo.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`relevo access ...` in this process: its exit code, stdout and stderr."""
    monkeypatch.setenv("RELEVO_HOME", str(tmp_path / "home"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["relevo", "access", *arguments])
        with pytest.raises(SystemExit) as end:
            main.run()
        seen = capsys.readouterr()
        return int(end.value.code or 0), seen.out, seen.err

    return call


def test_a_key_is_printed_once_and_only_its_hash_is_kept(run: Run, tmp_path: Path) -> None:
    """Alone on stdout, so that a pipe gets it; the file is its owner's only."""
    code, out, err = run("create", "ci", "--model", "iris", "--expires-days", "2")
    key = out.strip()
    file = tmp_path / "home" / "access" / "keys.jsonl"
    assert (code, file.stat().st_mode & 0o777) == (0, 0o600)
    assert key not in file.read_text() + err
    found = find(read_keys(file), key)
    assert found is not None
    assert (found.name, found.models) == ("ci", ("iris",))
    assert found.expires is not None


def test_listed_keys_are_no_secrets(run: Run, tmp_path: Path) -> None:
    """Neither keys nor hashes; as a table or as JSON."""
    key = run("create", "ci")[1].strip()
    for arguments in (("list",), ("list", "-o", "json")):
        out = run(*arguments)[1]
        assert "ci" in out
        assert key.split("_")[1] in out
        assert key.split("_", 2)[2] not in out
        assert "sha256" not in out


def test_a_revoked_key_is_gone_and_the_others_and_comments_stay(run: Run, tmp_path: Path) -> None:
    """By name where it is clear, else by id."""
    file = tmp_path / "keys"
    file.write_text("# made by hand\n")
    file.chmod(0o640)
    first, second, other = (run("create", name, "--keys", str(file))[1].strip() for name in ("ci", "ci", "dev"))
    code, _, err = run("revoke", "ci", "--keys", str(file))
    assert (code, "2 keys are called ci" in err) == (2, True)
    assert run("revoke", first.split("_")[1], "--keys", str(file))[0] == 0
    assert run("revoke", "dev", "--keys", str(file))[0] == 0
    keys = read_keys(file)
    assert [find(keys, one) is not None for one in (first, second, other)] == [False, True, False]
    assert file.read_text().startswith("# made by hand\n")
    assert file.stat().st_mode & 0o777 == 0o640
    code, _, err = run("revoke", "nobody", "--keys", str(file))
    assert (code, "no key is called nobody" in err) == (2, True)


def test_a_broken_file_is_not_written_over(run: Run, tmp_path: Path) -> None:
    """The line is named and everything stays as it was."""
    file = tmp_path / "keys"
    file.write_text("broken\n")
    code, _, err = run("create", "ci", "--keys", str(file))
    assert (code, "line 1: is no API key's line" in err, file.read_text()) == (2, True, "broken\n")


@pytest.mark.parametrize("name", ["two words", "", "a" * 64, "x\ny"])
def test_a_name_must_fit_into_a_log(run: Run, name: str) -> None:
    """And is refused before anything is made."""
    assert run("create", name)[0] == 2


def test_check_says_who_gets_in_and_why_not(run: Run, tmp_path: Path) -> None:
    """Settings, files, and then the credential, which comes by a file and never as an argument."""
    key = run("create", "ci", "--model", "wine", "--keys", str(tmp_path / "keys"))[1].strip()
    issued = Authority("test").issue("server")
    (tmp_path / "tls.crt").write_bytes(issued.certificate)
    (tmp_path / "tls.key").write_bytes(issued.key)
    (tmp_path / "access.yaml").write_text("keys: keys\ntls: {certificate: tls.crt, key: tls.key}\n")
    (tmp_path / "credential").write_text(key + "\n")
    settings = ("check", "--access", str(tmp_path / "access.yaml"))
    code, out, _ = run(*settings)
    assert (code, "keys: 1" in out, "clients need none" in out) == (0, True, True)
    code, out, _ = run(*settings, "--model", "wine", "--credential", str(tmp_path / "credential"))
    assert (code, "let in: key ci" in out) == (0, True)
    code, _, err = run(*settings, "--model", "iris", "--credential", str(tmp_path / "credential"))
    assert (code, "refused (403): the API key ci" in err) == (2, True)
    code, _, err = run("check", "--access", json.dumps({"oidc": {"issuer": "http://127.0.0.1:9", "audience": "x"}}))
    assert (code, "no answer from http://127.0.0.1:9/.well-known/openid-configuration" in err) == (1, True)
