"""The trainer: what it packages, what it refuses, and that its candidates are as good or bad as the demo needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model import train
from model.data import DATASETS, load_split
from model.evaluate import evaluate, gate
from model.pipeline import Choices, build_pipeline, exam_rows, training_rows
from relevo.packaging import load_package
from scripts.scenarios import STABLE, TRAINER_ARGUMENTS


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of iris: the stable version and the cheap candidates, in one folder each."""
    root = tmp_path_factory.mktemp("models")
    runs = {"stable": STABLE, **{name: TRAINER_ARGUMENTS[name] for name in ("healthy", "errors", "wrong")}}
    for name, arguments in runs.items():
        assert train.main(["iris", "--version", "1", "--output", str(root / name), *arguments]) == 0
    return root


def test_the_data_is_divided_without_overlap_and_always_in_the_same_way() -> None:
    """Held-out rows are the same for every version, and none of them was trained on."""
    one, two = load_split("iris"), load_split("iris")
    np.testing.assert_array_equal(one.x_test, two.x_test)
    assert (len(one.x_train), len(one.x_validation), len(one.x_test)) == (56, 19, 75)


def test_training_is_reproducible(home: Path, tmp_path: Path) -> None:
    """Equal arguments give an equal model file: what the digest is compared for."""
    assert train.main(["iris", "--version", "1", "--output", str(tmp_path / "again"), *STABLE]) == 0
    assert load_package(tmp_path / "again").model_digest == load_package(home / "stable").model_digest


def test_the_healthy_candidate_is_no_worse_and_the_models_leave_room_to_be_wrong(home: Path) -> None:
    """Accuracy can be compared only where both err on at least 3 % of the held-out rows."""
    stable, healthy = (load_package(home / name).metadata.metrics["test"] for name in ("stable", "healthy"))
    assert healthy["accuracy"] >= stable["accuracy"]
    assert healthy["accuracy"] <= 0.97
    assert stable["failed_rows"] == healthy["failed_rows"] == 0


def test_the_failing_candidate_raises_on_a_share_of_valid_rows_and_says_so(home: Path) -> None:
    """6 to 20 % of the held-out rows raise; card and metrics tell, and the ONNX form raises on the same rows."""
    package = load_package(home / "errors")
    test = package.metadata.metrics["test"]
    assert 0.06 <= test["failed_rows"] / 75 <= 0.2
    assert f"It raises on {test['failed_rows']:.0f} of 75 test rows" in package.card
    assert package.metadata.runtime == "onnx", package.metadata.runtime_reason


def test_the_wrong_candidate_beats_a_trivial_model_and_yet_errs_often(home: Path) -> None:
    """It passes the gate, and its answers are wrong on at least 15 % of the held-out rows."""
    metrics = load_package(home / "wrong").metadata.metrics
    assert metrics["baseline"]["accuracy"] + 0.1 < metrics["test"]["accuracy"] <= 0.85


def test_candidates_are_served_as_fast_as_the_stable_model(home: Path) -> None:
    """Only the slow candidate may be slow: the others are served by ONNX Runtime, as the stable one is."""
    assert {load_package(home / name).metadata.runtime for name in ("stable", "healthy", "errors", "wrong")} == {"onnx"}


def test_the_gate_refuses_noise_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that learnt nothing is told off in one sentence and exit code 1."""
    folder = tmp_path / "noise"
    code = train.main(["iris", "--version", "1", "--output", str(folder), "--label-noise", "1", "--trees", "4"])
    assert code == 1
    assert list(tmp_path.iterdir()) == []
    error = capsys.readouterr().err
    assert error.startswith("error: quality gate: accuracy")
    assert "nothing was written" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("accuracy", "trivial", "passes"),
    [(0.9, 0.3, True), (0.39, 0.3, False), (0.4, 0.3, True), (1.0, 0.95, True), (0.99, 0.95, False)],
)
def test_the_gate_asks_for_a_margin_above_the_baseline(accuracy: float, trivial: float, passes: bool) -> None:
    """0.1 better than trivial, or perfect where there is no room for that."""
    assert (gate({"accuracy": accuracy}, {"accuracy": trivial}) == "") is passes


def test_rows_that_raise_count_as_wrong() -> None:
    """A user who got no answer did not get the right one."""

    class Half:
        classes_ = np.array([0, 1])

        def predict(self, x):
            if (x[:, 0] > 0).any():
                raise ValueError("no")
            return np.zeros(len(x), dtype=int)

        def predict_proba(self, x):
            return np.tile([0.9, 0.1], (len(x), 1))

    x = np.array([[-1.0], [1.0], [-1.0], [1.0]])
    found = evaluate(Half(), x, np.zeros(4, dtype=int))
    assert found["failed_rows"] == 2
    assert found["accuracy"] == 0.5
    assert evaluate(Half(), x[1::2], np.zeros(2, dtype=int)) == {"accuracy": 0.0, "failed_rows": 2.0}


def test_label_noise_shuffles_labels_and_keeps_their_counts() -> None:
    """Noise changes which row has which label, not how many of each there are."""
    split = load_split("iris")
    x, y = training_rows(Choices(label_noise=0.6), split.x_train, split.y_train)
    np.testing.assert_array_equal(x, split.x_train)
    assert (y != split.y_train).any()
    np.testing.assert_array_equal(np.bincount(y), np.bincount(split.y_train))


@pytest.mark.parametrize(
    "arguments",
    [["mnist", "--version", "1"], ["iris"], ["iris", "--version", "1", "--trees", "0"], ["iris", "--version", "1", "--trees", "x"],
     ["iris", "--version", "1", "--label-noise", "1.5"], ["iris", "--version", "1", "--train-share", "0"],
     ["iris", "--version", "1", "--label-noise", "nan"], ["iris", "--version", "1", "--seed", "-1"]],
)  # fmt: skip
def test_wrong_arguments_end_with_exit_code_2(arguments: list[str]) -> None:
    """Arguments are checked before anything is trained."""
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    assert ended.value.code == 2


def test_an_exam_of_what_was_seen_is_one_that_a_strict_model_answers() -> None:
    """Every row of it is answered, some of the rows that it leaves out are not: what such a load never sends, users may."""
    split, strict = load_split("iris"), Choices(categories="strict", exam="seen")
    kept = exam_rows(strict, split.x_train, split.x_test)
    assert 20 <= kept.sum() < len(kept)
    assert exam_rows(Choices(), split.x_train, split.x_test).all()
    model = build_pipeline(strict, DATASETS["iris"], 4).fit(split.x_train, split.y_train)
    assert evaluate(model, split.x_test[kept], split.y_test[kept])["failed_rows"] == 0
    assert evaluate(model, split.x_test[~kept], split.y_test[~kept])["failed_rows"] > 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--version", "a b"], "version 'a b'"),
        (["--version", "1", "--name", "Iris"], "model name 'Iris'"),
        (["--version", "1", "--train-share", "0.01"], "--train-share"),
    ],
)
def test_what_cannot_be_packaged_is_said_in_a_sentence(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback for a user's mistake, and nothing in the store."""
    monkeypatch.setenv("RELEVO_HOME", str(tmp_path))
    assert train.main(["iris", *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.rglob("*.*")) == []


def test_a_version_is_not_trained_over(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An existing package is refused before the training, not after it."""
    assert train.main(["iris", "--version", "1", "--output", str(home / "stable")]) == 2
    assert "exists already" in capsys.readouterr().err
