"""A world of Kubernetes objects in memory, for whoever speaks `relevo.platforms.cluster_api.Objects`."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from relevo.errors import Conflict
from relevo.platforms.cluster_api import ApiError, Kind

__all__ = ["World"]


class World:
    """Objects by (plural, namespace, name). `fail` is raised by the next calls, while it is set."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.fail: Exception | None = None
        self._versions = itertools.count(1)

    def put(self, kind: Kind, namespace: str, manifest: dict[str, Any]) -> None:
        """Have an object, as if somebody had made it."""
        self._store(kind, namespace, manifest["metadata"]["name"], copy.deepcopy(manifest))

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        self._note("get", kind, name)
        return copy.deepcopy(self.objects.get((kind.plural, namespace, name)))

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        self._note("list", kind, "")
        wanted = (labels or {}).items()
        return [
            copy.deepcopy(found)
            for (plural, where, _), found in self.objects.items()
            if (plural, where) == (kind.plural, namespace) and wanted <= found["metadata"].get("labels", {}).items()
        ]

    def apply(self, kind: Kind, namespace: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        name = manifest["metadata"]["name"]
        self._note("apply", kind, name)
        old = self.objects.get((kind.plural, namespace, name), {})
        return self._store(kind, namespace, name, _merged(old, copy.deepcopy(dict(manifest))))

    def patch(self, kind: Kind, namespace: str, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        self._note("patch", kind, name)
        if (old := self.objects.get((kind.plural, namespace, name))) is None:
            raise ApiError(f"{name}: not found", status=404)
        expected = changes.get("metadata", {}).get("resourceVersion")
        if expected not in (None, old["metadata"]["resourceVersion"]):
            raise Conflict(f"{name}: the object has been modified")
        return self._store(kind, namespace, name, _merged(old, changes))

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self._note("delete", kind, name)
        self.objects.pop((kind.plural, namespace, name), None)

    def _store(self, kind: Kind, namespace: str, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
        manifest["metadata"] = {**manifest["metadata"], "namespace": namespace}
        manifest["metadata"]["resourceVersion"] = str(next(self._versions))
        manifest["metadata"].setdefault("uid", f"uid-of-{name}")
        manifest["metadata"].setdefault("creationTimestamp", "2026-01-01T12:00:00Z")
        self.objects[kind.plural, namespace, name] = manifest
        return copy.deepcopy(manifest)

    def _note(self, verb: str, kind: Kind, name: str) -> None:
        self.calls.append((verb, kind.plural, name))
        if self.fail is not None:
            raise self.fail


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(inner, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(inner, value)
        else:
            merged[key] = value
    return merged
