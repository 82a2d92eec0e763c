"""A chart as Helm renders it: its documents, found by kind and name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.unit.charts.tools import CHARTS, run

KUBERNETES = "1.34.5"
Document = dict[str, Any]


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that comes twice: the API server would take the last one and say nothing."""


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"keys come twice: {sorted(twice)}", node.start_mark)
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True)
class Chart:
    """The documents of one rendering."""

    documents: tuple[Document, ...]

    def all(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Document:
        found = [document for document in self.all(kind) if name in (None, document["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} documents of kind {kind}, name {name}"
        return found[0]

    def pods(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Name and spec of all pods that the chart makes."""
        for document in self.all("Deployment"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]
        for document in self.all("Pod"):
            yield document["metadata"]["name"], document["spec"]


def render(
    chart: str,
    *settings: str,
    values: Path | None = None,
    release: str = "relevo",
    namespace: str = "relevo-system",
) -> Chart:
    """What `helm template` makes of the chart with `--set` settings and a file of values; fails with Helm's message."""
    result = template(chart, *settings, values=values, release=release, namespace=namespace)
    assert result.returncode == 0, result.stderr
    documents = yaml.load_all(result.stdout, Loader=StrictLoader)
    return Chart(tuple(document for document in documents if document))


def refusal(chart: str, *settings: str, values: Path | None = None) -> str:
    """What Helm says to values that it must refuse."""
    result = template(chart, *settings, values=values)
    assert result.returncode != 0, f"{settings} was accepted"
    return result.stderr


def template(
    chart: str,
    *settings: str,
    values: Path | None = None,
    release: str = "relevo",
    namespace: str = "relevo-system",
) -> Any:
    """Run `helm template`."""
    options = [option for setting in settings for option in ("--set", setting)]
    if values is not None:
        options += ["--values", str(values)]
    return run("helm", "template", release, CHARTS / chart, "-n", namespace, "--kube-version", KUBERNETES, *options)
