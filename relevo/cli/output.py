"""Results on stdout, everything else on stderr. Sentences are never wrapped here, so that a pipe gets them whole."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

__all__ = ["Output", "OutputOption", "emit", "err", "out", "say", "tell"]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Output(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How the result is printed.")]


def say(*parts: str | Text) -> None:
    """Print a sentence of the result on stdout. Brackets in it are brackets; colour comes as `Text`."""
    out.print(*parts, soft_wrap=True, markup=False, emoji=False)


def tell(*parts: str | Text) -> None:
    """Print a sentence on stderr: progress, hints, mistakes."""
    err.print(*parts, soft_wrap=True, markup=False, emoji=False)


def emit(value: Any, output: Output) -> None:
    """Print a value as JSON or YAML on stdout."""
    if output is Output.JSON:
        print(json.dumps(value, indent=2, default=str))
        return
    import yaml  # only who asks for YAML waits for it

    print(yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True), end="")
