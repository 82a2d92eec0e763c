"""Write a model package: never half of one. A temporary folder beside the target is filled, digested, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from relevo import errors
from relevo.packaging import export, manifest, parity, provenance
from relevo.packaging.card import render_card
from relevo.packaging.metadata import DataInfo, Feature, Histogram, Input, Metadata, Metrics, Parity, Runtime
from relevo.packaging.package import CARD, HELDOUT, METADATA, MODEL_JOBLIB, MODEL_ONNX, Package, load_package

__all__ = ["TrainingResult", "save_package"]

_HISTOGRAM_BINS = 10


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training run hands over to be packaged.

    `x_*` have shape [rows, features] and hold finite floats, `y_test` has shape [rows]. `metrics` has the sets "validation",
    "test" and "baseline".
    """

    estimator: Any
    feature_names: tuple[str, ...]
    data: DataInfo
    x_train: NDArray[np.float64]
    x_test: NDArray[np.float64]
    y_test: NDArray[Any]
    metrics: Mapping[str, Metrics]
    parameters: Mapping[str, JsonValue]
    runtime: Literal["auto", "onnx", "sklearn"] = "auto"
    """auto: ONNX Runtime where it was shown to answer as scikit-learn does, else scikit-learn."""
    source_folder: Path = Path()
    """Where the training code lies: its git commit is recorded."""


def save_package(
    folder: Path, result: TrainingResult, *, name: str, version: str, now: datetime | None = None, replace: bool = False
) -> Package:
    """Write the package of a trained model to `folder` and return it as `load_package` reads it.

    Raises:
        errors.BadInput: the folder exists (and not `replace`), the name or version cannot be one, the model cannot be packaged,
            or runtime "onnx" was asked for and the ONNX form does not answer as scikit-learn does.
        errors.Transient: the disk is full or the folder cannot be written.
    """
    if folder.exists() and not replace:
        raise errors.BadInput(
            f"model package {folder}: it exists already",
            next_step="Choose another version, or say --replace to overwrite this one.",
        )
    onnx_model, checked = _export(result)
    runtime, why = _choose_runtime(result.runtime, checked)
    metadata = _describe(result, checked, (runtime, why), name=name, version=version, now=now or datetime.now(UTC))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _fill(temporary, result, metadata, onnx_model)
            temporary.chmod(0o755)  # mkdtemp's 0o700 would keep a server under another user from reading it
            _put_in_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise errors.Transient(
            f"model package {folder}: cannot be written: {error.strerror or error}",
            next_step="Free some disk space or choose another folder, then train again. Nothing half-written was left.",
        ) from error
    return load_package(folder)


def _export(result: TrainingResult) -> tuple[bytes | None, Parity]:
    try:
        model = export.to_onnx_bytes(
            result.estimator, n_features=len(result.feature_names), input_name=Input.model_fields["name"].default
        )
    except export.ExportImpossible as error:
        return None, Parity(checked=False, reason=f"no ONNX form: {error}")
    rows = parity.probe_rows(result.estimator, result.x_train, result.x_test)
    return model, parity.check_parity(parity.sklearn_prober(result.estimator), parity.onnx_prober(model), rows)


def _choose_runtime(wanted: str, checked: Parity) -> tuple[Runtime, str]:
    if wanted == "sklearn":
        return "sklearn", "asked for"
    if checked.holds:
        return "onnx", f"same classes as scikit-learn on {checked.rows} rows"
    differs = f"the ONNX form differs on {checked.differing_classes} of {checked.rows} rows ({checked.reason})"
    why = differs if checked.checked else checked.reason
    if wanted == "onnx":
        raise errors.BadInput(f"runtime onnx: {why}", next_step="Use --runtime auto or --runtime sklearn.")
    return "sklearn", why


def _describe(
    result: TrainingResult, checked: Parity, runtime: tuple[Runtime, str], *, name: str, version: str, now: datetime
) -> Metadata:
    classes = getattr(result.estimator, "classes_", None)
    if classes is None:
        raise errors.BadInput(f"model {name}: the estimator is not a fitted classifier (it has no classes_)")
    try:
        return Metadata(
            name=name,
            version=version,
            created_at=now,
            git_commit=provenance.git_commit(result.source_folder),
            libraries=provenance.library_versions(),
            parameters=dict(result.parameters),
            data=result.data,
            input=Input(features=_features(result)),
            classes=tuple(np.asarray(classes).tolist()),
            metrics={key: dict(values) for key, values in result.metrics.items()},
            parity=checked,
            runtime=runtime[0],
            runtime_reason=runtime[1],
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise errors.BadInput(f"model {name}, version {version}: {field}: {first['msg']}") from None


def _features(result: TrainingResult) -> tuple[Feature, ...]:
    features = []
    for name, column in zip(result.feature_names, result.x_train.T, strict=True):
        counts, edges = np.histogram(column, bins=_HISTOGRAM_BINS)
        reference = Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))
        features.append(
            Feature(name=name, minimum=float(column.min()), maximum=float(column.max()), reference=reference)
        )
    return tuple(features)


def _fill(folder: Path, result: TrainingResult, metadata: Metadata, onnx_model: bytes | None) -> None:
    joblib.dump(result.estimator, folder / MODEL_JOBLIB, compress=3)
    if onnx_model is not None:
        (folder / MODEL_ONNX).write_bytes(onnx_model)
    (folder / METADATA).write_text(metadata.model_dump_json(indent=2) + "\n", encoding="utf-8")
    np.savez(
        folder / HELDOUT,
        x=np.asarray(result.x_test, dtype=np.float64),
        y=result.y_test,
        feature_names=np.asarray(result.feature_names),
    )
    (folder / CARD).write_text(render_card(metadata), encoding="utf-8")
    manifest.write_manifest(folder)


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename, with whatever stood there moved aside first: a reader sees the old package, for an instant none, then the new one."""
    aside = folder.with_name(f"{temporary.name}-old")
    if folder.exists():
        folder.rename(aside)
    try:
        temporary.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
