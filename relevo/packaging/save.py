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
from relevo.packaging import export, inputs, manifest, outputs, parity, provenance, speed
from relevo.packaging.card import render_card
from relevo.packaging.metadata import DataInfo, Input, Metadata, Metrics, Parity, Runtime
from relevo.packaging.outputs import Outputs
from relevo.packaging.package import CARD, HELDOUT, METADATA, MODEL_JOBLIB, MODEL_ONNX, Package, load_package

__all__ = ["TrainingResult", "save_package"]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training run hands over to be packaged.

    `x_*` are numbers [rows, features] (NaN where a value is missing), a pandas DataFrame whose columns are `feature_names`, or texts
    [rows] under one name. `y_test` has shape [rows], or [rows, outputs] for a model of several. `metrics` has the sets "validation", "test"
    and "baseline".
    """

    estimator: Any
    feature_names: tuple[str, ...]
    data: DataInfo
    x_train: Any
    x_test: Any
    y_test: Any
    metrics: Mapping[str, Metrics]
    parameters: Mapping[str, JsonValue]
    runtime: Literal["auto", "onnx", "sklearn"] = "auto"
    """auto: ONNX Runtime where it was shown to answer as scikit-learn does, but scikit-learn from as many rows as it is faster; else
    scikit-learn."""
    target_names: tuple[str, ...] = ()
    """Of several outputs; output_0 and so on if there are none."""
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
    takes = inputs.input_of(result.x_train, result.feature_names)
    answers = outputs.outputs_of(result.estimator, result.x_test, result.y_test, result.target_names, name)
    onnx_model, checked = _export(result, takes, answers)
    runtime, why = _choose_runtime(result.runtime, checked)
    metadata = _describe(result, takes, answers, checked, name=name, version=version, now=now or datetime.now(UTC))
    metadata = metadata.model_copy(update={"runtime": runtime, "runtime_reason": why})
    if runtime == "onnx" and result.runtime == "auto" and onnx_model is not None:
        rows = np.asarray(result.x_test, np.float64)
        metadata = metadata.model_copy(
            update={"sklearn_from_rows": speed.sklearn_from_rows(result.estimator, onnx_model, rows)}
        )
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


def _export(result: TrainingResult, takes: Input, answers: Outputs) -> tuple[bytes | None, Parity]:
    if takes.kind != "tensor":
        kind = "texts" if takes.kind == "text" else "a frame of columns"
        return None, Parity(checked=False, reason=f"a model that takes {kind} is served by scikit-learn")
    if answers.target_classes:
        return None, Parity(checked=False, reason="a classifier of several outputs is served by scikit-learn")
    try:
        model = export.to_onnx_bytes(result.estimator, n_features=len(result.feature_names), input_name=takes.name)
    except export.ExportImpossible as error:
        return None, Parity(checked=False, reason=f"no ONNX form: {error}")
    x_train, x_test = (np.asarray(x, np.float64) for x in (result.x_train, result.x_test))
    rows = parity.probe_rows(result.estimator, x_train, x_test)
    return model, parity.check_parity(parity.sklearn_prober(result.estimator), parity.onnx_prober(model), rows)


def _choose_runtime(wanted: str, checked: Parity) -> tuple[Runtime, str]:
    if wanted == "sklearn":
        return "sklearn", "asked for"
    if checked.holds:
        return "onnx", f"same answers as scikit-learn on {checked.rows} rows"
    differs = f"the ONNX form differs on {checked.differing_classes} of {checked.rows} rows ({checked.reason})"
    why = differs if checked.checked else checked.reason
    if wanted == "onnx":
        raise errors.BadInput(f"runtime onnx: {why}", next_step="Use --runtime auto or --runtime sklearn.")
    return "sklearn", why


def _describe(
    result: TrainingResult,
    takes: Input,
    answers: Outputs,
    checked: Parity,
    *,
    name: str,
    version: str,
    now: datetime,
) -> Metadata:
    try:
        return Metadata(
            name=name,
            version=version,
            created_at=now,
            git_commit=provenance.git_commit(result.source_folder),
            libraries=provenance.library_versions(),
            parameters=dict(result.parameters),
            data=result.data,
            input=takes,
            task=answers.task,
            classes=answers.classes,
            targets=answers.targets,
            target_classes=answers.target_classes,
            value_edges=answers.value_edges,
            probabilities=answers.probabilities,
            metrics={key: dict(values) for key, values in result.metrics.items()},
            parity=checked,
            runtime="sklearn",
            runtime_reason="",
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise errors.BadInput(f"model {name}, version {version}: {field}: {first['msg']}") from None


def _fill(folder: Path, result: TrainingResult, metadata: Metadata, onnx_model: bytes | None) -> None:
    joblib.dump(result.estimator, folder / MODEL_JOBLIB, compress=3)
    if onnx_model is not None:
        (folder / MODEL_ONNX).write_bytes(onnx_model)
    (folder / METADATA).write_text(metadata.model_dump_json(indent=2) + "\n", encoding="utf-8")
    np.savez(
        folder / HELDOUT,
        **inputs.to_arrays(result.x_test, metadata.input),  # type: ignore[arg-type]  # NumPy's stub takes them for allow_pickle
        y=_labels(result.y_test),
        feature_names=np.asarray(result.feature_names),
    )
    (folder / CARD).write_text(render_card(metadata), encoding="utf-8")
    manifest.write_manifest(folder)


def _labels(y: Any) -> NDArray[Any]:
    labels = np.asarray(y)
    return labels.astype(np.str_) if labels.dtype.kind == "O" else labels


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
