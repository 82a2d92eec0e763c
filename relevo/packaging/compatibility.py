"""May this candidate take over the stable model's requests? Asked before a rollout begins; `compare` says what else changed."""

from __future__ import annotations

from relevo import errors
from relevo.packaging.package import Package

__all__ = ["check_candidate"]


def check_candidate(stable: Package, candidate: Package) -> None:
    """Refuse a candidate that answers other questions than the stable model, or that is the stable model.

    Raises:
        errors.BadInput: another task, other inputs, other classes, or the same model. The message names the difference.
    """
    old, new = stable.metadata, candidate.metadata
    pair = f"candidate {new.name}:{new.version} cannot replace {old.name}:{old.version}"
    same_requests = "The same requests must mean the same to both. Deploy it as a model of its own name instead."
    if new.task != old.task:
        raise errors.BadInput(f"{pair}: its task is {new.task}, not {old.task}", next_step=same_requests)
    if new.task != "classification" or new.input.kind != "tensor" or new.targets:
        raise errors.BadInput(
            f"{pair}: a rollout compares classifiers of one output that take numbers",
            next_step="Serve other models with `relevo up`; they cannot be rolled out yet.",
        )
    if new.input.name != old.input.name:
        raise errors.BadInput(
            f"{pair}: its input is called {new.input.name!r}, not {old.input.name!r}", next_step=same_requests
        )
    if len(new.feature_names) != len(old.feature_names):
        raise errors.BadInput(
            f"{pair}: it takes {len(new.feature_names)} features, not {len(old.feature_names)}", next_step=same_requests
        )
    for position, (theirs, ours) in enumerate(zip(new.feature_names, old.feature_names, strict=True), start=1):
        if theirs != ours:
            raise errors.BadInput(f"{pair}: feature {position} is {theirs!r}, not {ours!r}", next_step=same_requests)
    if new.input.datatype != old.input.datatype:
        raise errors.BadInput(
            f"{pair}: its input has type {new.input.datatype}, not {old.input.datatype}", next_step=same_requests
        )
    if new.classes != old.classes:
        raise errors.BadInput(
            f"{pair}: its classes are {_listed(new.classes)}, not {_listed(old.classes)}", next_step=same_requests
        )
    if candidate.model_digest == stable.model_digest and new.runtime == old.runtime:
        raise errors.BadInput(
            f"{pair}: it is the same model (model.joblib has the same digest, {candidate.model_digest[:12]}...)",
            next_step="There is nothing to roll out. Train a different version with `relevo train`.",
        )


def _listed(classes: tuple[int, ...] | tuple[str, ...]) -> str:
    shown = ", ".join(str(c) for c in classes[:12])
    return shown + (f" and {len(classes) - 12} more" if len(classes) > 12 else "")
