"""What a package says about its model: the schema of `metadata.json`.

Written by `relevo.packaging.save`, read by `relevo.packaging.package`, the server's validation, and the report.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = [
    "LARGEST_PROBABILITY_DIFFERENCE",
    "NAME_PATTERN",
    "VERSION_PATTERN",
    "Classes",
    "DataInfo",
    "Datatype",
    "Feature",
    "Histogram",
    "Input",
    "Metadata",
    "Metrics",
    "Parity",
    "Runtime",
]

NAME_PATTERN = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""DNS-1123 label: a model's name becomes the name of its InferenceService."""
VERSION_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
"""What an OCI tag may be: a version becomes the tag of the package's image."""

LARGEST_PROBABILITY_DIFFERENCE = 1e-5
"""Between two forms of a model that are taken to be the same: float32's rounding, no more."""

Runtime = Literal["onnx", "sklearn"]
Datatype = Literal["FP64", "INT64", "BOOL", "BYTES"]
Classes = tuple[int, ...] | tuple[str, ...]
Metrics = dict[str, float]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Histogram(_Part):
    """Counts of a feature's training values: `counts[i]` of them lie in `[edges[i], edges[i + 1])`, the last bin closed."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Feature(_Part):
    """One input column and the range and distribution that it had in training; texts and truth values have neither."""

    name: str
    datatype: Datatype = "FP64"
    missing: Literal["no", "nan", "none"] = "no"
    """Whether a value may be missing, as it was in training: then requests leave it out by `null`, and the model sees NaN or None."""
    minimum: float | None = None
    maximum: float | None = None
    reference: Histogram | None = None


class Input(_Part):
    """What the model takes: one tensor of numbers [rows, features], a frame with one input per column, or one input of texts [rows]."""

    kind: Literal["tensor", "frame", "text"] = "tensor"
    name: str = "x"
    """Of the one input of a tensor or of texts; a frame's inputs have the names of its columns."""
    datatype: Literal["FP64", "BYTES"] = "FP64"
    features: tuple[Feature, ...] = Field(min_length=1)


class DataInfo(_Part):
    """The data set and how it was divided; `digest` is the SHA-256 of all its rows and labels."""

    name: str
    digest: str
    train_rows: int
    validation_rows: int
    test_rows: int


class Parity(_Part):
    """How the ONNX form compares with scikit-learn on rows from the test set, random rows, and rows next to thresholds."""

    checked: bool
    """False when there is no ONNX form; `reason` says why."""
    rows: int = 0
    differing_classes: int = 0
    """Rows on which the two name different classes (or give different values), or one of them raises and the other does not."""
    largest_probability_difference: float = 0.0
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether the ONNX form may stand in for scikit-learn."""
        return (
            self.checked
            and self.differing_classes == 0
            and self.largest_probability_difference <= LARGEST_PROBABILITY_DIFFERENCE
        )


class Metadata(_Part):
    """All that is known about a packaged model."""

    format: Literal[1] = 1
    """The version of the package's layout: a reader refuses what it does not know."""
    name: str = Field(pattern=f"^{NAME_PATTERN}$")
    version: str = Field(pattern=f"^{VERSION_PATTERN}$")
    task: Literal["classification", "regression"] = "classification"
    created_at: datetime
    git_commit: str | None
    """None when it was trained outside a git repository; ends in "-dirty" where tracked files had been changed."""
    libraries: dict[str, str]
    parameters: dict[str, JsonValue]
    data: DataInfo
    input: Input
    classes: Classes
    """Empty for a regressor, and where there are several outputs."""
    targets: tuple[str, ...] = ()
    """The names of several outputs; none for a model with one."""
    target_classes: tuple[Classes, ...] = ()
    """The classes of each of several outputs of a classifier."""
    value_edges: tuple[float, ...] = ()
    """A regressor's predictions are counted between these, in increasing order: the deciles of its predictions of the test set."""
    probabilities: bool = True
    """Whether the model has them."""
    metrics: dict[str, Metrics]
    """By set: "validation", "test", and "baseline" (a trivial model on the test set)."""
    parity: Parity
    runtime: Runtime
    runtime_reason: str
    sklearn_from_rows: int | None = None
    """From this many rows in a request scikit-learn, which answers the same, was measured to be faster than the ONNX form."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The input columns, in order."""
        return tuple(feature.name for feature in self.input.features)
