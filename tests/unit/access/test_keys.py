"""API keys and the file of their hashes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo import errors
from relevo.access.keys import Key, find, new_key, parse_keys, read_keys, render

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_a_key_is_found_by_itself_and_by_nothing_else() -> None:
    """ID and secret together; another secret, another ID or a part of it find nothing."""
    line, key = new_key("ci", now=NOW)
    other, _ = new_key("other", now=NOW)
    keys = parse_keys(render(line) + "\n\n# a comment\n" + render(other), "keys")
    assert find(keys, key) == line
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for given_key in (wrong, key[:-1], key + "A", key.replace(line.id, other.id), key.replace(line.id, "0" * 12), ""):
        assert find(keys, given_key) is None


@given(st.text(max_size=80))
def test_whatever_is_given_finds_a_key_or_nothing(text: str) -> None:
    """No text of a caller's makes an error."""
    line, _ = new_key("ci", now=NOW)
    assert find({line.id: line}, text) is None
    assert find({line.id: line}, f"relevo_{line.id}_{text}") is None


def test_the_file_does_not_have_the_key() -> None:
    """Only its hash, which says its scheme."""
    line, key = new_key("ci", now=NOW)
    assert key.split("_", 2)[2] not in render(line)
    assert line.hash.startswith("sha256:")


def test_keys_are_never_the_same_and_have_256_bits() -> None:
    """The hash may be a plain one because of that."""
    keys = {new_key("ci", now=NOW)[1] for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key.split("_", 2)[2]) == 43 for key in keys)


def test_expiry_and_scope() -> None:
    """A key without them is for ever and for all models."""
    free, _ = new_key("free", now=NOW)
    bound, _ = new_key("bound", now=NOW, expires=NOW + timedelta(days=1), models=["iris"])
    assert free.allows("anything")
    assert not free.has_expired(NOW + timedelta(days=9999))
    assert (bound.allows("iris"), bound.allows("wine")) == (True, False)
    assert [bound.has_expired(NOW + timedelta(hours=hours)) for hours in (23, 24)] == [False, True]


def changed(**fields: object) -> str:
    line, _ = new_key("ci", now=NOW)
    return Key.model_construct(**{**line.model_dump(), **fields}).model_dump_json(warnings=False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("relevo_abc", "line 1: is no API key's line"),
        ("\n" + changed(hash="bcrypt:00"), "line 2: is no API key's line: hash: is of the scheme 'bcrypt'"),
        (changed(hash="sha256:00"), "hash: "),
        (changed(name="two\nlines"), "name: "),
        (changed(id="x"), "id: "),
        (changed(created="yesterday"), "created: "),
        ("{}", "id: "),
    ],
)
def test_a_malformed_line_is_named_by_its_number(text: str, says: str) -> None:
    """And what is wrong with it, without quoting it."""
    with pytest.raises(errors.BadInput) as refused:
        parse_keys(text, "keys")
    assert says in refused.value.message
    assert "relevo_abc" not in refused.value.message
    assert refused.value.next_step


def test_an_id_that_comes_twice_is_refused() -> None:
    """Which of the two would hold?"""
    line = render(new_key("ci", now=NOW)[0])
    with pytest.raises(errors.BadInput, match="line 2: a second key"):
        parse_keys(f"{line}\n{line}", "keys")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder, no file at all, or one that is no text."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "binary"):
        with pytest.raises(errors.BadInput) as refused:
            read_keys(path)
        assert str(path) in refused.value.message
