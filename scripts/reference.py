"""Writes the reference pages from the code: docs/cli.md from the command line, docs/rollout.md and docs/crd.md from the Rollout's model.

python -m scripts.reference           # write them
python -m scripts.reference --check   # fail if they are not what the code says
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from relevo.cli.exit_codes import ExitCode
from relevo.cli.main import app
from relevo.rollout.spec import Rollout
from scripts.crd_page import crd_page

__all__ = ["cli_page", "main", "rollout_page"]

DOCS = Path("docs")
EXIT_CODES = {
    ExitCode.OK: "Done; for a rollout: promoted.",
    ExitCode.FAILURE: "It could not be done, through no fault of the input: something does not answer, the disk is full.",
    ExitCode.BAD_INPUT: "An option, a file, a manifest or a package is wrong, or does not fit the present state.",
    ExitCode.ROLLED_BACK: "Rolled back: the candidate is worse, never became ready, or somebody ordered it.",
    ExitCode.INCONCLUSIVE: "No decision within the limits; all traffic is with the stable revision.",
    ExitCode.UNMEASURABLE: "Held because evidence is missing; the rollout goes on when the command is called again.",
    ExitCode.INTERNAL: "A fault of relevo's own; the message names a file with the details.",
    ExitCode.INTERRUPTED: "Ctrl-C. The rollout stays where it is.",
}


def cli_page() -> str:
    """The command line's reference, Markdown."""
    root = typer.main.get_command(app)
    lines = ["# Command line", "", "Made by `make docs` from the code.", "", root.help or "", ""]
    for path, command in _commands(root, ("relevo",)):
        lines += [f"## `{' '.join(path)}`", "", (command.help or "").split("\f")[0].strip(), ""]
        lines += _parameters(command)
    lines += ["## Exit codes", "", "| code | meaning |", "| --- | --- |"]
    lines += [f"| {int(code)} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    lines += ["", "Results go to stdout, progress and messages to stderr.", ""]
    return "\n".join(lines)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _commands(child, (*path, name))


def _parameters(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = (
            ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts])
            if parameter.param_type_name == "option"
            else f"`{parameter.name.upper()}`"
        )
        default = (
            ""
            if parameter.default in (None, False, ...) or callable(parameter.default)
            else f"`{getattr(parameter.default, 'value', parameter.default)}`"
        )
        required = "required" if parameter.required else default
        rows.append(f"| {names} | {required} | {(getattr(parameter, 'help', '') or '').strip()} |")
    return ["| option | default | meaning |", "| --- | --- | --- |", *rows, ""] if rows else []


def rollout_page() -> str:
    """The Rollout's reference, Markdown: every field with its type, default, bounds and meaning."""
    schema = Rollout.model_json_schema(by_alias=True)
    lines = [
        "# The Rollout",
        "",
        "Made by `make docs` from the model that validates it. An example: `k8s/samples/rollout-iris.yaml`.",
        "",
    ]
    lines += ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{path}` | {kind} | {default} | {text} |" for path, kind, default, text in _fields(schema, schema, "")
    ]
    return "\n".join([*lines, ""])


def _fields(schema: dict[str, Any], node: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    required = node.get("required", [])
    for name, field in node.get("properties", {}).items():
        inner = _resolve(schema, field)
        path = f"{prefix}{name}"
        default = (
            "required"
            if name in required
            else f"`{field['default']}`"
            if "default" in field and field["default"] is not None
            else ""
        )
        text = field.get("description") or inner.get("description", "")
        yield path, _type(schema, field), default, " ".join(text.split())
        if "properties" in inner:
            yield from _fields(schema, inner, f"{path}.")


def _resolve(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    for option in field.get("anyOf", [field]):
        reference = option.get("$ref", "")
        if reference:
            found: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]]
            return found
    return field


def _type(schema: dict[str, Any], field: dict[str, Any]) -> str:
    inner = _resolve(schema, field)
    if inner is not field:
        return "object"
    options = [o for o in field.get("anyOf", [field]) if o.get("type") != "null"]
    kinds = []
    for option in options:
        kind = option.get("type", "")
        if "enum" in option or "const" in option:
            kind = " or ".join(f"`{v}`" for v in option.get("enum", [option.get("const")]))
        elif kind == "array":
            kind = f"list of {_type(schema, option['items'])}" if "items" in option else "list"
        bounds = {
            "minimum": "at least {}",
            "exclusiveMinimum": "above {}",
            "maximum": "at most {}",
            "exclusiveMaximum": "below {}",
        }
        limits = [text.format(option[key]) for key, text in bounds.items() if key in option]
        kinds.append(f"{kind}{', ' if limits else ''}{', '.join(limits)}")
    return " or ".join(kinds)


def main() -> int:
    """Write the pages, or with --check compare them."""
    pages = {DOCS / "cli.md": cli_page(), DOCS / "rollout.md": rollout_page(), DOCS / "crd.md": crd_page()}
    if "--check" in sys.argv[1:]:
        stale = [
            str(path) for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text
        ]
        if stale:
            print(f"{', '.join(stale)}: not what the code says; run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for path, text in pages.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
