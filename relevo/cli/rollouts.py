"""The commands that start and steer a rollout: their options. A `Site` does the work, on this machine or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevo.cli.options import (
    LOCUST_PORT,
    ContextOption,
    HoldOption,
    LocustPortOption,
    NamespaceOption,
    PlatformOption,
    TargetArgument,
)
from relevo.cli.output import Output, OutputOption

if TYPE_CHECKING:
    from relevo.cli.site import Watching, Wish

__all__ = ["deploy_blue_green", "deploy_canary", "pause", "promote", "resume", "retry", "rollback", "switch", "undo"]


VersionOption = Annotated[
    str | None, typer.Option(help="The candidate's version: the stable model's URI with this tag.")
]
StorageOption = Annotated[str | None, typer.Option(help="The candidate's model, instead of --version.")]
FileOption = Annotated[Path | None, typer.Option("--file", "-f", help="A Rollout, for everything but the defaults.")]


def deploy_canary(
    target: TargetArgument = None,
    version: VersionOption = None,
    storage_uri: StorageOption = None,
    file: FileOption = None,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--no-shadow", help="With or without the shadow stage.")
    ] = None,
    locust_port: LocustPortOption = LOCUST_PORT,
    hold_timeout: HoldOption = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Roll a version out by canary and follow it to its verdict. Called again, it goes on with a rollout that was left."""
    from relevo.cli.site import Watching, Wish

    wish = Wish(target, version, storage_uri, file, shadow)
    _deploy(wish, (platform, context, namespace), Watching(output, hold_timeout, locust_port))


def deploy_blue_green(
    target: TargetArgument = None,
    version: VersionOption = None,
    storage_uri: StorageOption = None,
    file: FileOption = None,
    locust_port: LocustPortOption = LOCUST_PORT,
    hold_timeout: HoldOption = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring a version to the idle colour, rehearse it there, switch all users to it, and watch. Called again, it goes on."""
    from relevo.cli.site import Watching, Wish

    wish = Wish(target, version, storage_uri, file, None, blue_green=True)
    _deploy(wish, (platform, context, namespace), Watching(output, hold_timeout, locust_port))


def _deploy(wish: Wish, where: tuple[PlatformOption, str | None, str | None], watching: Watching) -> None:
    from relevo.cli.site import Where, open_site
    from relevo.errors import BadInput

    if wish.version is not None and wish.storage_uri is not None:
        raise BadInput("--version and --storage-uri name the candidate twice", next_step="Give one of them.")
    raise typer.Exit(open_site(Where(*where)).deploy(wish, watching))


def switch(
    target: TargetArgument = None,
    to: Annotated[str | None, typer.Option(help="The colour, blue or green; the other one, unless given.")] = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send all users to the other colour now, by hand. Both stay up, so that the way back is as short."""
    from relevo.cli.site import Watching, Where, open_site

    raise typer.Exit(open_site(Where(platform, context, namespace)).switch(target, to, Watching(output)))


def promote(
    target: TargetArgument = None,
    full: Annotated[bool, typer.Option("--full", help="All traffic now, without waiting for the checks.")] = False,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Go on to the next step now, or with --full give the candidate all traffic."""
    _order("promote-full" if full else "promote", target, (platform, context, namespace), output, to_the_end=full)


def rollback(
    target: TargetArgument = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give all traffic back to the stable revision, now."""
    _order("rollback", target, (platform, context, namespace), output, to_the_end=True)


def pause(
    target: TargetArgument = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Stay at this step. A proven regression still rolls back."""
    _order("pause", target, (platform, context, namespace))


def resume(
    target: TargetArgument = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Go on after a pause."""
    _order("resume", target, (platform, context, namespace))


def _order(
    verb: str,
    target: str | None,
    where: tuple[PlatformOption, str | None, str | None],
    output: Output = Output.TABLE,
    *,
    to_the_end: bool = False,
) -> None:
    from relevo.cli.site import Where, open_site

    raise typer.Exit(open_site(Where(*where)).order(target, verb, to_the_end=to_the_end, output=output))


def retry(
    target: TargetArgument = None,
    locust_port: LocustPortOption = LOCUST_PORT,
    hold_timeout: HoldOption = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Begin the last rollout anew, after it was rolled back. The old verdict stands in the history."""
    from relevo.cli.site import Watching, Where, open_site

    site = open_site(Where(platform, context, namespace))
    raise typer.Exit(site.retry(target, Watching(output, hold_timeout, locust_port)))


def undo(
    target: TargetArgument = None,
    to: Annotated[
        int | None, typer.Option(help="Number of the revision to go back to; the one before, unless given.", min=1)
    ] = None,
    platform: PlatformOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring an earlier version back: all traffic at once, when it is ready and answers."""
    from relevo.cli.site import Watching, Where, open_site

    raise typer.Exit(open_site(Where(platform, context, namespace)).undo(target, to, Watching(output)))
