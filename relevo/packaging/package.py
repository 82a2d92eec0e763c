"""A model package that was read: verified first, opened afterwards, and each part only when somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from relevo import errors
from relevo.packaging import manifest
from relevo.packaging.metadata import Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CARD", "HELDOUT", "METADATA", "MODEL_JOBLIB", "MODEL_ONNX", "HeldOut", "Package", "load_package"]

MODEL_JOBLIB = "model.joblib"
MODEL_ONNX = "model.onnx"
METADATA = "metadata.json"
HELDOUT = "heldout.npz"
CARD = "MODEL_CARD.md"
_REQUIRED = (MODEL_JOBLIB, METADATA, HELDOUT, CARD)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows that the model was tested on, never trained on, with their labels.

    `x` is float64 [rows, features], a pandas DataFrame, or texts [rows], as the package's input says; `y` has shape [rows], or
    [rows, outputs].
    """

    x: Any
    y: NDArray[Any]
    feature_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """A verified model package. Make one with `load_package`."""

    folder: Path
    metadata: Metadata
    digests: dict[str, str]

    @property
    def model_digest(self) -> str:
        """SHA-256 of model.joblib: two packages with the same one hold the same model."""
        return self.digests[MODEL_JOBLIB]

    @property
    def onnx_path(self) -> Path | None:
        """Where the ONNX form is; None if the model has none (`metadata.parity.reason` says why)."""
        return self.folder / MODEL_ONNX if MODEL_ONNX in self.digests else None

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return (self.folder / CARD).read_text(encoding="utf-8")

    def estimator(self) -> Any:
        """Load the scikit-learn estimator.

        joblib runs code from the file: `load_package` has compared its digest with the manifest; trust in who made the
        package is the caller's.

        Raises:
            errors.BadInput: it cannot be loaded here, for example under another version of scikit-learn.
        """
        import joblib

        try:
            return joblib.load(self.folder / MODEL_JOBLIB)
        except Exception as error:  # whatever unpickling runs into: the file's fault or the installed libraries'
            made_with = self.metadata.libraries.get("scikit-learn", "an unknown version")
            raise errors.BadInput(
                f"model package {self.folder}: {MODEL_JOBLIB} does not load: {type(error).__name__}: {error}",
                next_step=f"It was made with scikit-learn {made_with}. Train it again with what is installed here.",
            ) from error

    def heldout(self) -> HeldOut:
        """Read the held-out rows and their labels."""
        import numpy as np

        from relevo.packaging.inputs import from_arrays

        with np.load(self.folder / HELDOUT, allow_pickle=False) as arrays:
            x = from_arrays(arrays, self.metadata.input)
            return HeldOut(x, arrays["y"], tuple(str(name) for name in arrays["feature_names"]))


def load_package(folder: Path | str) -> Package:
    """Verify a package's every digest, then read its metadata. Neither joblib nor ONNX Runtime opens anything here.

    Raises:
        errors.BadInput: the folder is no package, a file is changed, missing or extra, or the metadata cannot be read.
    """
    folder = Path(folder)
    digests = manifest.verify(folder).files
    for name in _REQUIRED:
        if name not in digests:
            raise errors.BadInput(
                f"model package {folder}: {name} is neither there nor in its manifest",
                next_step="Rebuild it with `relevo train`.",
            )
    try:
        metadata = Metadata.model_validate_json((folder / METADATA).read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise errors.BadInput(
            f"model package {folder}: {METADATA}: {where}: {first['msg']}",
            next_step="It was made by another version of relevo, or by hand. Rebuild it with `relevo train`.",
        ) from None
    if metadata.runtime == "onnx" and MODEL_ONNX not in digests:
        raise errors.BadInput(
            f"model package {folder}: {METADATA} says runtime onnx but there is no {MODEL_ONNX}",
            next_step="Rebuild it with `relevo train`.",
        )
    return Package(folder, metadata, dict(digests))
