"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = [
    "LOCUST_PORT",
    "ContextOption",
    "HoldOption",
    "LocustPortOption",
    "NamespaceOption",
    "PlatformName",
    "PlatformOption",
    "TargetArgument",
]

LOCUST_PORT = 8089
"""Where Locust's web UI is, unless --locust-port says otherwise: the port that Locust itself would take."""


class PlatformName(StrEnum):
    """Where the model is served."""

    LOCAL = "local"
    KSERVE = "kserve"


TargetArgument = Annotated[
    str | None, typer.Argument(help="Name of the InferenceService; not needed when there is one.")
]
LocustPortOption = Annotated[
    int,
    typer.Option(
        "--locust-port",
        help="Port of Locust's web UI.",
        min=1,
        max=65535,
        envvar="RELEVO_LOCUST_PORT",
        show_envvar=True,
    ),
]
PlatformOption = Annotated[
    PlatformName | None,
    typer.Option(
        "--platform",
        help="Where the model is served: this machine, or a cluster with KServe. The first, unless a context or namespace is given.",
        envvar="PLATFORM",
        show_envvar=True,
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option("--context", help="The cluster: a context of the kubeconfig; the current one, unless given."),
]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The namespace there; the context's, unless given.")
]
HoldOption = Annotated[
    float | None,
    typer.Option(
        "--hold-timeout", help="Leave with exit code 12 when held as unmeasurable for this many seconds.", min=0
    ),
]
