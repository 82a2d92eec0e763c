"""`relevo train` and `relevo package`: where model packages come from and what is in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from relevo.cli.output import Output, OutputOption, emit, say
from relevo.errors import BadInput

__all__ = ["package_app", "train"]

package_app = typer.Typer(no_args_is_help=True, help="Look into model packages, and make images of them.")


def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the model, passed on to the training script.")],
    version: Annotated[str, typer.Option(help="Version of the package, passed on to the training script.")],
    script: Annotated[Path, typer.Option(help="The training script: any program that writes a package.")] = Path(
        "model/train.py"
    ),
) -> None:
    """Run a training script, which writes a model package into the local store. Options after `--` go to the script."""
    if not script.is_file():
        raise BadInput(f"training script {script}: there is no such file", next_step="Name yours with --script.")
    # The script may import its neighbours from the project's root, as `python -m` would let it.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")])),
    }
    command = [sys.executable, str(script), model, "--version", version, *context.args]
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)


@package_app.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a model package.")], output: OutputOption = Output.TABLE
) -> None:
    """Compare every file with its digest, and say what the package is."""
    from relevo.packaging import load_package

    package = load_package(folder)
    if output is not Output.TABLE:
        emit(
            {"folder": str(folder), "digests": package.digests, "metadata": package.metadata.model_dump(mode="json")},
            output,
        )
        return
    meta = package.metadata
    say(f"{folder}: {meta.name}:{meta.version}, {len(package.digests)} files, every digest is right.")
    say(f"Served by {meta.runtime}: {meta.runtime_reason}")


@package_app.command("list")
def list_() -> None:
    """List the packages of the local store."""
    from relevo.packaging import list_packages
    from relevo.packaging.store import home_folder

    for ref in list_packages(home_folder()):
        say(f"{ref.name}:{ref.version}  {ref.folder}")


@package_app.command("image")
def image(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[str, typer.Argument(help="Version of the package in the local store.")],
    tag: Annotated[str | None, typer.Option(help="The image's name (default: dev.local/NAME:VERSION).")] = None,
    base: Annotated[str | None, typer.Option(help="The image to lay the package on; it must have a shell.")] = None,
    load: Annotated[str | None, typer.Option(help="Also bring it into the nodes of this kind cluster.")] = None,
) -> None:
    """Make a container image of a package, for a storageUri that begins with oci://."""
    from relevo.packaging import load_package, package_folder
    from relevo.packaging.image import build_image, default_tag, load_image
    from relevo.packaging.store import home_folder

    folder = package_folder(home_folder(), name, version)
    if not folder.is_dir():
        raise BadInput(
            f"package {name}:{version}: not in the local store {home_folder() / 'packages'}",
            next_step=f"Make it with `relevo train {name} --version {version}`.",
        )
    tag = tag or default_tag(name, version)
    build_image(load_package(folder), tag, base)
    nodes = load_image(tag, load) if load else []
    say(f"oci://{tag}" + (f", in {', '.join(nodes)}" if nodes else ""))
