"""`relevo access`: API keys made, listed and revoked, and a credential checked against the settings of a server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevo.cli.output import Output, OutputOption, emit, say, tell
from relevo.errors import BadInput

if TYPE_CHECKING:
    from relevo.access.gate import Gate
    from relevo.access.keys import Key
    from relevo.access.settings import Access

__all__ = ["access_app"]

access_app = typer.Typer(no_args_is_help=True, help="Say who may ask a model: API keys, tokens, certificates.")

KeysOption = Annotated[
    Path | None, typer.Option("--keys", help="File of the keys' hashes (default: access/keys.jsonl in RELEVO_HOME).")
]


@access_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who will use it; lists and logs show this name.")],
    keys: KeysOption = None,
    expires_days: Annotated[float | None, typer.Option(help="Days until it expires; else never.", min=0.001)] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model that it may ask; again for more. Else all.")] = None,
) -> None:
    """Make an API key: print it, this once, and put its hash into the file. Running servers take it within a second."""
    from relevo.access.keys import new_key, render

    path, now = _path(keys), datetime.now(UTC).replace(microsecond=0)
    expires = now + timedelta(days=expires_days) if expires_days is not None else None
    line, key = new_key(name, now=now, expires=expires, models=model)
    _change(path, lambda known, text: text + render(line) + "\n")
    say(key)
    tell(f"{name} ({line.id}) is in {path}. The key itself is nowhere: keep it now.")


@access_app.command("list")
def list_(keys: KeysOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the keys of a file: id, name, when made and when over, for which models. Never the keys."""
    from relevo.access.keys import read_keys

    found = list(read_keys(_path(keys)).values())
    if output is not Output.TABLE:
        emit([one.model_dump(mode="json", exclude={"hash"}) for one in found], output)
        return
    now = datetime.now(UTC)
    for one in found:
        until = f"until {one.expires:%Y-%m-%d %H:%M}" if one.expires else "for ever"
        until = f"expired {one.expires:%Y-%m-%d %H:%M}" if one.has_expired(now) else until
        models = ", ".join(one.models) if one.models else "all models"
        say(f"{one.id}  {one.name}  made {one.created:%Y-%m-%d %H:%M}  {until}  {models}")


@access_app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, or its name where only one has it.")], keys: KeysOption = None
) -> None:
    """Take a key out of the file. Running servers refuse it within a second."""
    path = _path(keys)
    gone: list[Key] = []

    def without(known: dict[str, Key], text: str) -> str:
        gone.extend(one for one in known.values() if key in (one.id, one.name))
        if len(gone) != 1:
            ids = ", ".join(one.id for one in gone) or ", ".join(f"{one.id} ({one.name})" for one in known.values())
            what = (
                f"{len(gone)} keys are called {key}: {ids}"
                if gone
                else f"no key is called {key}; there is {ids or 'none'}"
            )
            raise BadInput(f"{path}: {what}", next_step="Give the id that `relevo access list` shows.")
        return "".join(line for line in text.splitlines(keepends=True) if f'"{gone[0].id}"' not in line)

    _change(path, without)
    say(f"{gone[0].name} ({gone[0].id}) is revoked.")


@access_app.command("check")
def check(
    access: Annotated[str, typer.Option("--access", help="The settings, as the server takes them.")],
    model: Annotated[str, typer.Option(help="The model that would be asked.")] = "iris",
    credential: Annotated[
        Path | None,
        typer.Option(help="File with an API key or a token; - is stdin. Without it only the settings are checked."),
    ] = None,
) -> None:
    """Check settings, their files and issuer, and say whether a credential would be let in, or why not."""
    from relevo.access.gate import Gate
    from relevo.access.settings import read_access

    settings = read_access(access)
    gate = Gate(settings, model)
    for line in _told(settings, gate):
        say(line)
    if credential is not None:
        say(_verdict(gate, _read(credential)))


def _told(settings: Access, gate: Gate) -> list[str]:
    from relevo.access.jwks import fetch
    from relevo.access.keys import read_keys

    lines = [f"keys: {path}: {len(read_keys(path))}" for path in settings.keys]
    if settings.oidc is not None:
        found = fetch(settings.oidc)
        lines.append(
            f"oidc: {settings.oidc.issuer} publishes {len(found.keys)} keys; audience {settings.oidc.audience}"
        )
    if gate.tls is not None:
        mutual = "clients need a certificate" if gate.tls.needs_client else "clients need none"
        lines.append(f"tls: valid until {gate.tls.pair.expires:%Y-%m-%d %H:%M} UTC; {mutual}")
    return lines


def _verdict(gate: Gate, credential: str) -> str:
    from relevo.access.refusal import Refused

    try:
        who = asyncio.run(gate.decide([(b"authorization", f"Bearer {credential}".encode())], "a client"))
    except Refused as refused:
        raise BadInput(
            f"refused ({refused.status}): {refused.reason}", next_step="`relevo access list` shows the keys of a file."
        ) from None
    return f"let in: {who.kind} {who.name}"


def _read(path: Path) -> str:
    """A credential, which is never an argument: everybody on the machine can read those."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path}: cannot be read ({error})", next_step="Give a file with the key or token, or -."
        ) from error
    return text.strip()


def _path(keys: Path | None) -> Path:
    from relevo.packaging.store import home_folder

    return keys if keys is not None else home_folder() / "access" / "keys.jsonl"


def _change(path: Path, how: Callable[[dict[str, Key], str], str]) -> None:
    """Replace the file's text in one rename, one command at a time. A new file can be read by its owner only."""
    from relevo.access.keys import parse_keys
    from relevo.platforms.local import files

    path = path.resolve()  # a link stays one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.storage_error("make", path.parent, error) from error
    with files.exclusive(path.with_name(f".{path.name}.lock")):
        try:
            text, mode = path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777
        except FileNotFoundError:
            text, mode = "", 0o600
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: cannot be read ({error})", next_step="Name another file with --keys.") from error
        known = parse_keys(text, str(path))
        if text and not text.endswith("\n"):
            text += "\n"
        files.write_atomic(path, how(known, text))
        os.chmod(path, mode)
