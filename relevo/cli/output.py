"""Results on stdout, everything else on stderr."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

__all__ = ["Output", "OutputOption", "emit", "err", "out"]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Output(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How the result is printed.")]


def emit(value: Any, output: Output) -> None:
    """Print a value as JSON or YAML on stdout."""
    if output is Output.JSON:
        print(json.dumps(value, indent=2, default=str))
    else:
        print(yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True), end="")
