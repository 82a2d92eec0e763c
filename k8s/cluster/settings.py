"""What the user may choose: the cluster's name, where images come from, the gateway's port, the cache. By environment, as make does."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from relevo.errors import BadInput

__all__ = ["Images", "Settings", "cache_folder", "read_settings"]


class Images(StrEnum):
    """Where images and manifests come from."""

    REGISTRY = "registry"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Settings:
    """One cluster's settings.

    Attributes:
        name: kind's name for the cluster; the context is kind-NAME.
        images: where images and manifests come from.
        gateway_port: the port of 127.0.0.1 at which the host reaches the gateway.
        cache: where what was built is kept, outside the repository.
        repository: the checkout, whose Dockerfile and chart are used.
    """

    name: str
    images: Images
    gateway_port: int
    cache: Path
    repository: Path

    @property
    def context(self) -> str:
        """The kubeconfig context that kind makes."""
        return f"kind-{self.name}"

    @property
    def node(self) -> str:
        """The container that is the cluster's only node."""
        return f"{self.name}-control-plane"

    @property
    def bin(self) -> Path:
        """Where kubectl, helm and kind are."""
        return self.cache / "bin"


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`RELEVO_CACHE`, or `relevo` in the user's cache folder."""
    if own := environment.get("RELEVO_CACHE"):
        return Path(own).absolute()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "relevo"


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings by CLUSTER, IMAGES, GATEWAY_PORT and RELEVO_CACHE.

    Raises:
        BadInput: one of them cannot be what it says.
    """
    name = environment.get("CLUSTER") or "relevo"
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise BadInput(f"CLUSTER={name}: must be lower-case letters, digits and '-', at most 32")
    images = environment.get("IMAGES") or Images.REGISTRY
    if images not in list(Images):
        raise BadInput(f"IMAGES={images}: must be registry or source")
    port = environment.get("GATEWAY_PORT") or "8090"
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise BadInput(f"GATEWAY_PORT={port}: must be a port, 1 to 65535")
    return Settings(name, Images(images), int(port), cache_folder(environment), Path(__file__).parents[2])
