"""The CustomResourceDefinition of the Rollout, made from the pydantic model: `python -m relevo.rollout.crd` prints it as YAML.

The schema is structural, as Kubernetes demands: no references, no alternatives, null only where it means something. Fields, bounds,
defaults and descriptions are those of `relevo.rollout.spec`; rules across fields come from `crd_rules`. The status is written by
`relevo.operator` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from relevo.rollout.crd_rules import NAME_RULE, RULES, TARGET_RULE, Rule
from relevo.rollout.spec import RolloutSpec
from relevo.rollout.state import Phase

__all__ = ["GROUP", "KIND", "PLURAL", "VERSION", "crd", "crd_text", "spec_schema"]

GROUP = "relevo.dev"
VERSION = "v1alpha1"
KIND = "Rollout"
PLURAL = "rollouts"

_HEADER = "# Made by `python -m relevo.rollout.crd` from the model that validates it. Do not edit.\n"
_MOST_STEPS = 100
"""As weights rise from 1 to 100 there cannot be more. The API server wants a bound to know what a rule may cost."""
_MOST_ITEMS = 16
_PHASES = ", ".join([*(phase.value for phase in Phase), "Held"])
_KEPT = ("type", "description", "enum", "pattern", "minLength", "maxLength", "minItems", "minimum", "maximum", "format")


def crd() -> dict[str, Any]:
    """The resource, as nested mappings."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            # Helm upgrades it, but leaves it when the chart goes: with it would go every Rollout.
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": {"app.kubernetes.io/name": "relevo", "app.kubernetes.io/component": "crd"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ro"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(_columns()),
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def crd_text() -> str:
    """The resource as YAML."""
    return _HEADER + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=140)


class _Dumper(yaml.SafeDumper):
    """Writes a part that occurs twice two times; Helm and kubectl know no anchors worth reading."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _root() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Brings a new version of a model to all users of an InferenceService, on evidence.",
        "required": ["spec"],
        "x-kubernetes-validations": [NAME_RULE.as_json()],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec_schema(),
            "status": _status(),
        },
    }


def spec_schema() -> dict[str, Any]:
    """The structural schema of `spec`."""
    schema = RolloutSpec.model_json_schema(by_alias=True)
    structural = _object(RolloutSpec, schema, schema["$defs"])
    structural["properties"]["target"]["x-kubernetes-validations"] = [TARGET_RULE.as_json()]
    return structural


def _object(model: type[BaseModel], schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """One model as a structural object: its properties, what is required, and the rules across them."""
    structural: dict[str, Any] = {"type": "object", "description": " ".join(schema["description"].split())}
    if required := schema.get("required"):
        structural["required"] = list(required)
    structural["properties"] = {
        field.alias or name: _property(field, schema["properties"][field.alias or name], definitions)
        for name, field in model.model_fields.items()
    }
    if rules := RULES.get(model):
        structural["x-kubernetes-validations"] = [rule.as_json() for rule in rules]
    return structural


def _property(field: FieldInfo, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    inner = _without_null(schema)
    model = _model_of(field)
    if model is None:
        structural = _plain({**inner, "description": schema.get("description", "")})
        if schema.get("default") is not None:
            structural["default"] = schema["default"]
        return structural
    structural = _object(model, definitions[inner["$ref"].rpartition("/")[2]], definitions)
    if description := schema.get("description"):
        structural["description"] = description
    if field.default_factory is not None:
        structural["default"] = _defaults(structural)
        if inner is not schema:
            # Null then says something else than absence: this part shall not be there at all.
            structural["nullable"] = True
    return structural


def _defaults(structural: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of all parts of a part, written out: the API server asks its rules of a default before it fills in the rest."""
    return {key: node["default"] for key, node in structural["properties"].items() if "default" in node}


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a field may be apart from null. The API server takes null for absence wherever that is all it means."""
    options = [o for o in schema.get("anyOf", ()) if o.get("type") != "null"]
    if not options:
        return schema
    if len(options) > 1:
        raise TypeError(f"a structural schema knows no alternatives: {schema}")
    only: Mapping[str, Any] = options[0]
    return only


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model behind a field, if it is one."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A value or a list, with bounds in OpenAPI 3.0's words."""
    structural = {key: schema[key] for key in _KEPT if schema.get(key) not in (None, "")}
    if "const" in schema:
        structural["enum"] = [schema["const"]]
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            structural[bound] = schema[exclusive]
            structural[exclusive] = True
    lowest = structural.get("minimum", 0)
    if lowest % 1:
        # The API server cuts the bound off to a whole number where the value is one: 0 would be at least 0.05.
        structural["x-kubernetes-validations"] = [Rule(f"self >= {lowest}", f"at least {lowest}").as_json()]
    if schema.get("type") == "array":
        structural["items"] = _plain(schema["items"])
        structural["maxItems"] = schema.get("maxItems", _most_items(schema["items"]))
        # An empty list is never meant: where one is allowed, the field is left out.
        structural.setdefault("minItems", 1)
    return structural


def _most_items(items: Mapping[str, Any]) -> int:
    return _MOST_STEPS if items.get("type") == "integer" else _MOST_ITEMS


def _status() -> dict[str, Any]:
    text, number = {"type": "string"}, {"type": "integer"}
    return {
        "type": "object",
        "description": "Where the rollout is. Written by relevo's operator.",
        "properties": {
            "observedGeneration": {**number, "format": "int64", "description": "The generation that was acted on."},
            "uid": {**text, "description": "The present run: the prefix of its route labels."},
            "runs": {**number, "description": "How many rollouts this resource has begun."},
            "phase": {**text, "description": f"One of {_PHASES}."},
            "step": {**number, "description": "The present step, from 1; 0 before the first."},
            "steps": {**number, "description": "How many steps there are."},
            "progress": {**text, "description": "STEP/STEPS, for people."},
            "weight": {**number, "description": "The candidate's share of the traffic as it is, in percent."},
            "verdict": {**text, "description": "pass, fail, inconclusive; unmeasurable while evidence is missing."},
            "reason": {**text, "description": "Why it is where it is, in a sentence with the numbers."},
            "cause": {
                **text,
                "description": "What decided: evidence, ordered, not-ready, smoke, limit, no-comparison.",
            },
            "stable": {**text, "description": "The stable revision."},
            "candidate": {**text, "description": "The candidate's revision."},
            "storageUri": {**text, "description": "The model that this run rolls out."},
            "weights": {
                "type": "array",
                "items": number,
                "x-kubernetes-list-type": "atomic",
                "description": "The steps of this run, in percent; an edit of them is for the next.",
            },
            "sources": {
                "type": "array",
                "items": text,
                "x-kubernetes-list-type": "atomic",
                "description": "Where the evidence of this run comes from.",
            },
            "writes": {**number, "format": "int64", "description": "How often this status was written."},
            "commandSeq": {**number, "format": "int64", "description": "The last order that was heard."},
            "startedAt": {**text, "format": "date-time", "description": "When this run began."},
            "decidedAt": {**text, "format": "date-time", "description": "When the verdict was given."},
            "conditions": _conditions(),
            "checks": _checks(),
            "history": _history(),
            "state": {
                "type": "object",
                "description": "What the operator remembers between two looks.",
                "x-kubernetes-preserve-unknown-fields": True,
                "x-kubernetes-map-type": "atomic",
            },
        },
    }


def _conditions() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "array",
        "description": "Ready, Progressing, Held, Promoted, RolledBack: for `kubectl wait`.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": text,
                "status": {**text, "enum": ["True", "False", "Unknown"]},
                "reason": text,
                "message": text,
                "lastTransitionTime": {**text, "format": "date-time"},
                "observedGeneration": {"type": "integer", "format": "int64"},
            },
        },
    }


def _checks() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "array",
        "description": "Each check's numbers, refreshed every few seconds.",
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "properties": {
                "name": text,
                "gate": {"type": "boolean"},
                "verdict": text,
                "against": {**text, "description": "E-value that the candidate is worse."},
                "for": {**text, "description": "E-value that it is not worse by the margin."},
                "numbers": {**text, "description": "The counts of both revisions."},
            },
        },
    }


def _history() -> dict[str, Any]:
    text = {"type": "string"}
    names = ("who", "from", "to", "rule", "message")
    return {
        "type": "array",
        "description": "The last transitions, oldest first.",
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "properties": {"at": {**text, "format": "date-time"}, **dict.fromkeys(names, text)},
        },
    }


def _columns() -> Iterator[dict[str, Any]]:
    for name, kind, path, wide in (
        ("Phase", "string", ".status.phase", False),
        ("Step", "string", ".status.progress", False),
        ("Weight", "integer", ".status.weight", False),
        ("Verdict", "string", ".status.verdict", False),
        ("Age", "date", ".metadata.creationTimestamp", False),
        ("Stable", "string", ".status.stable", True),
        ("Candidate", "string", ".status.candidate", True),
        ("Reason", "string", ".status.reason", True),
    ):
        yield {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if wide else {})}


if __name__ == "__main__":
    sys.stdout.write(crd_text())
