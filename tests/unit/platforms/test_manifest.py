"""Which InferenceServices the local platform takes, and how it refuses the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from relevo import errors
from relevo.platforms.manifest import parse_manifests, read_manifests

SAMPLES = Path(__file__).parents[3] / "k8s" / "samples"


def document(**changes):
    """A good document with fields set by dotted path; None removes a field."""
    good = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "oci://dev.local/iris:1"}}},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = good
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if value is None:
            inner.pop(last, None)
        else:
            inner[last] = value
    return yaml.safe_dump(good)


@pytest.mark.parametrize("name", ["iris", "digits"])
def test_the_samples_are_taken(name):
    """Each sample names its own model in the local store."""
    (service,) = read_manifests(SAMPLES / f"{name}.yaml")
    assert (service.name, service.namespace, service.storage_uri) == (name, "default", f"oci://dev.local/{name}:1")


def test_everything_that_can_be_honoured_is_read():
    """Name, namespace, labels, annotations, runtime, environment and timeout."""
    (service,) = parse_manifests(
        document(
            metadata__namespace="team-a",
            metadata__labels={"a": "b"},
            metadata__annotations={"c": "d"},
            spec__predictor__minReplicas=1,
            spec__predictor__maxReplicas=1,
            spec__predictor__timeout=5,
            spec__predictor__model__runtime="relevo",
            spec__predictor__model__protocolVersion="v2",
            spec__predictor__model__env=[{"name": "LEVEL", "value": "3"}],
        )
    )
    assert service.namespace == "team-a"
    assert (service.labels, service.annotations) == ({"a": "b"}, {"c": "d"})
    assert (service.env, service.timeout_seconds) == ({"LEVEL": "3"}, 5.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"spec__predictor__model__resources": {"limits": {}}},
            "spec.predictor.model.resources: the local platform cannot",
        ),
        (
            {"spec__transformer": {}},
            "spec.transformer: the local platform cannot honour this; remove it or use a cluster",
        ),
        ({"spec__predictor__canaryTrafficPercent": 10}, "spec.predictor.canaryTrafficPercent: relevo sets the weights"),
        ({"spec__predictor__minReplicas": 2}, "spec.predictor.minReplicas: is 2; the local platform takes 1 only"),
        ({"spec__predictor__maxReplicas": 0}, "spec.predictor.maxReplicas: is 0"),
        ({"spec__predictor__timeout": 0}, "spec.predictor.timeout: "),
        ({"spec__predictor__model__storageUri": None}, "spec.predictor.model.storageUri: is missing"),
        ({"spec__predictor__model__storageUri": ""}, "spec.predictor.model.storageUri: "),
        ({"spec__predictor__model__storageUri": 5}, "storageUri: must be a string, not 5"),
        ({"spec__predictor__model__modelFormat": {"name": "xgboost"}}, "modelFormat.name: is 'xgboost'"),
        ({"spec__predictor__model__protocolVersion": "v1"}, "protocolVersion: is 'v1'"),
        (
            {"spec__predictor__model__runtime": "mlserver"},
            "runtime: is 'mlserver'; the local platform takes 'relevo' only",
        ),
        (
            {"spec__predictor__model__env": [{"name": "A", "value": 1}]},
            "env[0].value: must be a string, not 1 (quote it)",
        ),
        ({"spec__predictor__model__env": [{"name": "RELEVO_HOME"}]}, "env[0].name: RELEVO_HOME is set by the platform"),
        (
            {"spec__predictor__model__env": [{"name": "A", "valueFrom": {}}]},
            "env[0].valueFrom: the local platform cannot",
        ),
        ({"metadata__name": "Iris_1"}, "metadata.name: 'Iris_1' is not a name Kubernetes takes"),
        ({"metadata__name": "i" * 48}, "1 to 47 of a-z"),
        ({"metadata__name": None}, "metadata.name: is missing"),
        ({"apiVersion": "serving.kserve.io/v1alpha1"}, "apiVersion: is 'serving.kserve.io/v1alpha1'"),
        ({"kind": "Deployment"}, "kind: is 'Deployment', not InferenceService"),
        ({"status": {}}, "status: the local platform cannot honour this"),
        ({"spec": None}, "spec: is missing"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_path(changes, message):
    """The message names source, document and field, and says what is wrong with it."""
    with pytest.raises(errors.BadInput) as told:
        parse_manifests(document(**changes), source="iris.yaml")
    assert str(told.value).startswith("iris.yaml, document 1: ")
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m: contains no document"),
        ("# nothing\n---\n", "m: contains no document"),
        ("a: [", "m, document 1, line 1, column 5: is not YAML"),
        ("just words", "m, document 1: is a str, not an InferenceService"),
        ("a: 1\na: 2", "m, document 1, line 2, column 1: is not YAML: key 'a' is given twice"),
        ("[" * 5000, "m, document 1"),
        (document() + "---\n" + document(), "m, document 2: metadata.name: a second InferenceService named iris"),
        (document() + "---\nkind: Rollout\n", "m, document 2: kind: is 'Rollout'"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
    ],
)
def test_what_is_no_manifest_is_refused_by_document_and_line(text, message):
    """Broken YAML, other kinds, doubles: the place is named."""
    with pytest.raises(errors.BadInput) as told:
        parse_manifests(text, source="m")
    assert message in str(told.value)


def test_all_complaints_come_at_once():
    """A manifest with two mistakes is told both."""
    with pytest.raises(errors.BadInput) as told:
        parse_manifests(document(spec__predictor__tolerations=[], spec__explainer={}))
    assert "spec.predictor.tolerations" in str(told.value)
    assert "spec.explainer" in str(told.value)


def test_several_documents_are_read_in_their_order():
    """One file may hold several services; empty documents do not count as such."""
    text = document() + "---\n---\n" + document(metadata__name="digits")
    assert [one.name for one in parse_manifests(text)] == ["iris", "digits"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """No such file, a folder, or not text."""
    with pytest.raises(errors.BadInput, match="No such file"):
        read_manifests(tmp_path / "absent.yaml")
    with pytest.raises(errors.BadInput, match="directory"):
        read_manifests(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(errors.BadInput, match="is not UTF-8"):
        read_manifests(tmp_path / "binary.yaml")
