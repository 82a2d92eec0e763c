"""Train a model and write its package: `python -m model.train iris --version 1`. `relevo train` runs this script.

Exit codes: 0 packaged; 1 the quality gate refused the model; 2 a wrong argument, or the package cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.data import DATASETS, Split, load_split
from model.evaluate import baseline, evaluate, gate
from model.pipeline import Choices, build_pipeline, exam_rows, training_rows
from relevo import errors
from relevo.packaging import Package, TrainingResult, package_folder, save_package
from relevo.packaging.metadata import DataInfo
from relevo.packaging.store import home_folder

__all__ = ["GateRefused", "main", "train"]


class GateRefused(errors.Permanent):
    """The model is not better than a trivial one."""


def train(split: Split, choices: Choices, *, runtime: Any = "auto") -> TrainingResult:
    """Fit a pipeline and evaluate it beside the baseline.

    Raises:
        GateRefused: it does not beat the baseline on the validation set.
        errors.BadInput: the choices leave nothing to learn from.
    """
    x, y = training_rows(choices, split.x_train, split.y_train)
    if len(set(y.tolist())) < len(set(split.y_train.tolist())):
        raise errors.BadInput(
            f"--train-share {choices.train_share}: {len(y)} rows do not have every class", next_step="Use more."
        )
    exam = exam_rows(choices, x, split.x_test)
    if not exam.any():
        raise errors.BadInput("--exam seen: no held-out row has been seen", next_step="Use --exam all.")
    x_test, y_test = split.x_test[exam], split.y_test[exam]
    estimator = build_pipeline(choices, DATASETS[split.name], x.shape[1]).fit(x, y)
    trivial = baseline(x, y)
    validation = evaluate(estimator, split.x_validation, split.y_validation)
    if refusal := gate(validation, evaluate(trivial, split.x_validation, split.y_validation)):
        raise GateRefused(refusal)
    return TrainingResult(
        estimator=estimator,
        feature_names=split.feature_names,
        data=DataInfo(
            name=split.name,
            digest=split.digest,
            train_rows=len(x),
            validation_rows=len(split.x_validation),
            test_rows=len(x_test),
        ),
        x_train=x,
        x_test=x_test,
        y_test=y_test,
        metrics={
            "validation": validation,
            "test": evaluate(estimator, x_test, y_test),
            "baseline": evaluate(trivial, x_test, y_test),
        },
        parameters={
            "trees": choices.trees,
            "seed": choices.seed,
            "label_noise": choices.label_noise,
            "train_share": choices.train_share,
            "categories": choices.categories,
            "exam": choices.exam,
        },
        runtime=runtime,
        source_folder=Path(__file__).parent,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; prints the package's folder on stdout and all else on stderr."""
    options = _parser().parse_args(arguments)
    choices = Choices(
        trees=options.trees,
        seed=options.seed,
        label_noise=options.label_noise,
        train_share=options.train_share,
        categories=options.categories,
        exam=options.exam,
    )
    name = options.name or options.dataset
    try:
        folder = options.output or package_folder(home_folder(), name, options.version)
        if folder.exists() and not options.replace:
            raise errors.BadInput(
                f"model package {folder}: it exists already",
                next_step="Choose another --version, or say --replace to overwrite this one.",
            )
        result = train(load_split(options.dataset), choices, runtime=options.runtime)
        package = save_package(folder, result, name=name, version=options.version, replace=options.replace)
    except errors.RelevoError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.next_step:
            print(f"       {error.next_step}", file=sys.stderr)
        return 1 if isinstance(error, GateRefused) else 2
    print(_summary(package), file=sys.stderr)
    print(package.folder)
    return 0


def _summary(package: Package) -> str:
    about = package.metadata
    test, trivial = about.metrics["test"], about.metrics["baseline"]
    failed = f", raises on {test['failed_rows']:.0f} rows" if test["failed_rows"] else ""
    return (
        f"{about.name}:{about.version}: accuracy {test['accuracy']:.1%} on {about.data.test_rows} held-out rows "
        f"(a trivial model {trivial['accuracy']:.1%}){failed}; served by {about.runtime} ({about.runtime_reason})"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relevo train", description="Train a model and write its package.")
    parser.add_argument("dataset", choices=sorted(DATASETS), help="the data set to learn")
    parser.add_argument("--version", required=True, help="the version of the package, for example 1")
    parser.add_argument("--name", help="the name of the model (default: the data set's)")
    parser.add_argument("--output", type=Path, help="where to write it (default: the local package store)")
    parser.add_argument("--replace", action="store_true", help="overwrite a package that exists")
    parser.add_argument("--runtime", choices=["auto", "onnx", "sklearn"], default="auto", help="what serves it")
    defaults = Choices()
    parser.add_argument("--seed", type=_whole(0, 2**32 - 1), default=defaults.seed, help="seed of all randomness")
    parser.add_argument("--trees", type=_whole(1, 5000), default=defaults.trees, help="trees in the forest")
    parser.add_argument(
        "--label-noise", type=_share, default=defaults.label_noise, help="share of labels to shuffle, 0 to 1"
    )
    parser.add_argument(
        "--train-share", type=_positive_share, default=defaults.train_share, help="share of the training rows to use"
    )
    parser.add_argument(
        "--categories",
        choices=["none", "lenient", "strict"],
        default=defaults.categories,
        help="bin and one-hot encode some columns; a bin that training never saw is ignored (lenient) or an error (strict)",
    )
    parser.add_argument(
        "--exam",
        choices=["all", "seen"],
        default=defaults.exam,
        help="keep all held-out rows, or only those of which training has seen each value: load tests replay them",
    )
    return parser


def _whole(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return parse


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _positive_share(text: str) -> float:
    value = _share(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 leaves nothing to learn from")
    return value


if __name__ == "__main__":
    sys.exit(main())
