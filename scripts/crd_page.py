"""The reference page of the CRD, docs/crd.md: what there is to say of the resource beyond the fields that docs/rollout.md lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from relevo.operator.resource import COMMAND, FINALIZER, Order
from relevo.rollout.crd import crd

__all__ = ["crd_page"]

_HEAD = """# The Rollout as a resource

Made by `make docs` from the code. The fields of `spec` are those of [the Rollout](rollout.md); `kubectl explain rollout.spec` lists
them with their defaults. [Operating](operating.md) says what to do with it.

`{name}`, version `{version}`, namespaced, short name `{short}`: `kubectl get {short}`. Finalizer `{finalizer}`: on a Rollout whose
traffic is not settled. Orders: annotation `{command}`, JSON with `verb` ({verbs}), `by`, `at` and `seq`, a number above
`status.commandSeq`; the command line writes it.
"""


def crd_page() -> str:
    """The page, Markdown."""
    resource = crd()
    names, version = resource["spec"]["names"], resource["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    verbs = Order.model_json_schema()["properties"]["verb"]["enum"]
    lines = [
        _HEAD.format(
            name=resource["metadata"]["name"],
            version=version["name"],
            short=names["shortNames"][0],
            finalizer=FINALIZER,
            command=COMMAND,
            verbs=", ".join(f"`{verb}`" for verb in verbs if verb != "promoteFull"),
        ),
        "## Columns",
        "",
        "| column | field | shown |",
        "| --- | --- | --- |",
        *(
            f"| {c['name']} | `{c['jsonPath'].removeprefix('.')}` | {'with `-o wide`' if c.get('priority') else 'always'} |"
            for c in version["additionalPrinterColumns"]
        ),
        "",
        "## What is refused, beyond each field's own bounds",
        "",
        "| where | what is said |",
        "| --- | --- |",
        *(f"| `{path or '(whole)'}` | {message} |" for path, message in _rules(schema, "")),
        "",
        "## Status",
        "",
        "| field | type | meaning |",
        "| --- | --- | --- |",
        *(f"| `{path}` | {kind} | {text} |" for path, kind, text in _fields(schema["properties"]["status"], "")),
        "",
    ]
    return "\n".join(lines)


def _rules(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule["message"]
    for name, inner in schema.get("properties", {}).items():
        yield from _rules(inner, f"{path}.{name}" if path else name)


def _fields(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    for name, field in schema["properties"].items():
        inner = f"{path}{name}"
        kind = f"list of {field['items']['type']}s" if field["type"] == "array" else field["type"]
        yield inner, kind, field.get("description", "")
        if field["type"] == "array" and "properties" in field["items"]:
            yield from _fields(field["items"], f"{inner}[].")
