"""The gate: what is enough, by headers alone. Asked by real requests in tests/component/test_access.py."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.access.gate import Gate
from relevo.access.keys import new_key, render
from relevo.access.refusal import Refused
from relevo.access.settings import parse_access

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def keys_file(path: Path, name: str, **changes: object) -> str:
    """A file with one new key; the key."""
    line, key = new_key(name, now=NOW, **changes)  # type: ignore[arg-type]
    path.write_text(render(line) + "\n")
    return key


def admitted(gate: Gate, key: str) -> bool:
    return gate.admit([(b"x-api-key", key.encode())], None) is not None


def test_keys_in_a_switched_link_are_read_again(tmp_path: Path) -> None:
    """As Kubernetes renews a Secret: the file is a link into a folder, and the folder's link is switched."""
    found = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found[name] = keys_file(tmp_path / name / "keys.jsonl", name)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "keys.jsonl").symlink_to("..data/keys.jsonl")
    gate = Gate(parse_access("keys: keys.jsonl", "x", tmp_path), "iris")
    assert [admitted(gate, found[name]) for name in ("one", "two")] == [True, False]
    (tmp_path / "..new").symlink_to("two")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    gate.look()
    assert [admitted(gate, found[name]) for name in ("one", "two")] == [False, True]


def test_a_file_that_is_gone_keeps_its_keys_and_an_empty_one_has_none(tmp_path: Path) -> None:
    """Somebody may be replacing it; who wants nobody in says so."""
    key = keys_file(tmp_path / "keys", "ci")
    gate = Gate(parse_access("keys: keys", "x", tmp_path), "iris")
    (tmp_path / "keys").unlink()
    gate.look()
    assert admitted(gate, key)
    (tmp_path / "keys").write_text("")
    gate.look()
    assert not admitted(gate, key)


def test_a_key_ends_at_its_time_while_the_server_runs(tmp_path: Path) -> None:
    """Without the file being read again."""
    now = [NOW]
    key = keys_file(tmp_path / "keys", "ci", expires=NOW + timedelta(hours=1))
    gate = Gate(parse_access("keys: keys", "x", tmp_path), "iris", now=lambda: now[0])
    assert admitted(gate, key)
    now[0] += timedelta(hours=1)
    assert not admitted(gate, key)


def test_an_empty_file_at_the_start_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It lets nobody in, which may not be meant."""
    (tmp_path / "keys").write_text("# none yet\n")
    with caplog.at_level(logging.WARNING, "relevo.access"):
        Gate(parse_access("keys: keys", "x", tmp_path), "iris")
    assert "nobody gets in" in caplog.text


@given(
    st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"host"]), st.binary(max_size=40)), max_size=4)
)
def test_no_headers_are_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, headers: list[tuple[bytes, bytes]]
) -> None:
    """Whatever they say: refused, by one answer at once and later."""
    file = tmp_path_factory.getbasetemp() / "gate-keys"
    if not file.exists():
        keys_file(file, "ci")
    gate = Gate(parse_access(f"keys: {file}", "x", file.parent), "iris")
    assert gate.admit(headers, None) is None
    with pytest.raises(Refused) as refused:
        asyncio.run(gate.decide(headers, None))
    assert refused.value.status == 401


def test_an_issuer_that_takes_its_time_does_not_keep_a_revoked_key_alive(tmp_path: Path) -> None:
    """Files are looked at while it is being asked: a real one, that accepts and says nothing."""
    key = keys_file(tmp_path / "keys", "ci")

    async def life() -> None:
        silent = await asyncio.start_server(lambda _, writer: asyncio.sleep(60), "127.0.0.1", 0)
        issuer = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        settings = parse_access(f"keys: keys\noidc: {{issuer: '{issuer}', audience: x}}", "x", tmp_path)
        gate = Gate(settings, "iris")
        keeping_up = asyncio.create_task(gate.keep_up())
        await asyncio.sleep(0.1)
        (tmp_path / "keys").write_text("")
        waited = 0.0
        while admitted(gate, key) and waited < 4:  # the issuer's time is five seconds
            await asyncio.sleep(0.1)
            waited += 0.1
        assert not admitted(gate, key)
        keeping_up.cancel()
        silent.close()

    asyncio.run(life())
