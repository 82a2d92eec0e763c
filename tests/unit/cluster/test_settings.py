"""The development cluster's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8s.cluster.settings import Images, cache_folder, read_settings
from relevo.errors import BadInput


def test_what_make_cluster_does_without_any_variable() -> None:
    """Published images, a cluster named relevo, the gateway at 8090: 8080 is the local platform's."""
    settings = read_settings({"RELEVO_CACHE": "/cache"})
    assert (settings.name, settings.images, settings.gateway_port) == ("relevo", Images.REGISTRY, 8090)
    assert (settings.context, settings.node) == ("kind-relevo", "relevo-control-plane")
    assert (settings.repository / "Dockerfile").is_file()


def test_an_empty_variable_is_none() -> None:
    """make exports what is not set as an empty text."""
    assert read_settings({"CLUSTER": "", "IMAGES": "", "GATEWAY_PORT": "", "RELEVO_CACHE": "/c"}).name == "relevo"


def test_the_cache_is_outside_the_repository() -> None:
    """RELEVO_CACHE first, then the user's cache folder."""
    assert cache_folder({"RELEVO_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/relevo")
    assert cache_folder({}) == Path.home() / ".cache/relevo"


@pytest.mark.parametrize(
    "variable", ["CLUSTER=Big", "CLUSTER=a b", "CLUSTER=-a", "IMAGES=both", "GATEWAY_PORT=x", "GATEWAY_PORT=70000"]
)
def test_a_setting_that_cannot_be_is_named(variable: str) -> None:
    """The message holds the variable and its value."""
    name, value = variable.split("=")
    with pytest.raises(BadInput, match=variable):
        read_settings({name: value, "RELEVO_CACHE": "/c"})
