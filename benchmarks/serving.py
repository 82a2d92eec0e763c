"""How does the model server compare with stock KServe and stock MLServer, on one core?

`python -m benchmarks.serving [--models rf100 rf500 boosting logistic] [--rows 1 1000] [--rounds 5] [--seconds 3]`

The same scikit-learn model behind three servers, each on the first core, asked over 16 kept-alive connections from the second. In each
round all three are asked, one after the other, so that what else the machine does meets all of them; a ratio is of one round, and its
spread over the rounds is printed. Requests per second of CPU time (user and system, as the operating system accounts for the server's
processes) are printed beside those per second of time: on a machine that others use, they are the fairer number.

KServe and MLServer come from PyPI, in environments of their own below --cache, made on first use.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.measure import table
from benchmarks.serving_load import Load, Measured, send_load
from relevo.packaging import Package, load_package

__all__ = ["Asked", "main"]

GOALS = {"kserve": 75.0, "mlserver": 60.0}
GOAL_MANY_ROWS = 5.0
STOCK = {
    "kserve": ("kserve==0.21.0", "scikit-learn==1.9.1", "setuptools<81"),
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "scikit-learn==1.9.1", "setuptools<81"),
}
START_SECONDS = 180.0
ROW = (5.1, 3.5, 1.4, 0.2)


@dataclass(frozen=True, slots=True)
class Asked:
    """One server, asked once."""

    measured: Measured
    per_cpu_second: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. 1 if a goal was missed."""
    options = _parser().parse_args(arguments)
    pythons = {name: _environment(options.cache, name) for name in STOCK}
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("needs two cores: one for the server, one for the load", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {cores[1]})
    print(f"load average {os.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.seconds:g} s; 16 connections")
    lines, bad = [], []
    with tempfile.TemporaryDirectory(prefix="relevo-serving-") as folder:
        for model in options.models:
            package = _package(Path(folder), model)
            with _servers(package, Path(folder), pythons, cores[0]) as servers:
                for rows in options.rows:
                    found = _rounds(servers, rows, options.rounds, options.seconds)
                    lines += _lines(model, rows, found)
                    bad += _missed(model, rows, found)
    columns = (
        "model",
        "rows",
        "server",
        "requests/s",
        "requests/CPU-s",
        "p50 ms",
        "p99 ms",
        "relevo is faster by",
        "by CPU time",
    )
    print(table(columns, lines))
    for line in bad:
        print(f"goal missed: {line}")
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="Compare model servers.")
    parser.add_argument("--models", nargs="+", choices=_MODELS, default=_MODELS)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relevo-bench"
    parser.add_argument("--cache", type=Path, default=cache, help="where the stock servers are installed")
    return parser


def _environment(cache: Path, name: str) -> Path:
    """The interpreter of a stock server's environment."""
    python = cache / name / "bin" / "python"
    if not python.exists():
        uv = [sys.executable, "-m", "uv"]
        print(f"installing {', '.join(STOCK[name])} into {python.parent.parent}", flush=True)
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(cache / name)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *STOCK[name]], check=True)
    return python


def _boosting() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(random_state=0)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)


_TREES = {"rf100": 100, "rf500": 500}
_MODELS = ("rf100", "rf500", "boosting", "logistic")
_ESTIMATORS = {"boosting": _boosting, "logistic": _logistic}


def _package(folder: Path, model: str) -> Path:
    """A package of that model of iris, scaled first. Forests are trained as `relevo train` trains them."""
    if model in _TREES:
        options = ("--version", "1", "--name", "model", "--trees", str(_TREES[model]), "--output", str(folder / model))
        command = [sys.executable, "-m", "model.train", "iris", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return _told(load_package(folder / model), model)
    from sklearn.datasets import load_iris
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from relevo.packaging import TrainingResult, save_package
    from relevo.packaging.metadata import DataInfo

    x, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:100], order[100:]
    estimator = make_pipeline(StandardScaler(), _ESTIMATORS[model]()).fit(x[train], y[train])
    accuracy = {"accuracy": float(estimator.score(x[test], y[test]))}
    result = TrainingResult(
        estimator=estimator,
        feature_names=("sepal_length", "sepal_width", "petal_length", "petal_width"),
        data=DataInfo(name="iris", digest="sha256:" + "0" * 64, train_rows=100, validation_rows=0, test_rows=50),
        x_train=x[train],
        x_test=x[test],
        y_test=y[test],
        metrics={"validation": accuracy, "test": accuracy, "baseline": accuracy},
        parameters={},
    )
    return _told(save_package(folder / model, result, name="model", version="1"), model)


def _told(package: Package, model: str) -> Path:
    """Say what serves it: where the ONNX form differs from scikit-learn, that is scikit-learn, and little is won."""
    print(f"{model}: served by {package.metadata.runtime} ({package.metadata.runtime_reason})", flush=True)
    return package.folder


@dataclass(frozen=True, slots=True)
class _Server:
    process: psutil.Popen
    port: int

    def cpu_seconds(self) -> float:
        """Of the server and its children, so far."""
        total = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            times = process.cpu_times()
            total += times.user + times.system
        return total


@contextmanager
def _servers(package: Path, folder: Path, pythons: dict[str, Path], core: int) -> Iterator[dict[str, _Server]]:
    """All three, ready."""
    ports = {name: _free_port() for name in ("relevo", "kserve", "mlserver")}
    settings = folder / f"mlserver-{package.name}"
    settings.mkdir()
    (settings / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "http_port": ports["mlserver"], "grpc_port": _free_port(), "metrics_port": _free_port(),
                    "parallel_workers": 0, "debug": False})
    )  # fmt: skip
    implementation = {"name": "model", "implementation": "mlserver_sklearn.SKLearnModel"}
    (settings / "model-settings.json").write_text(
        json.dumps({**implementation, "parameters": {"uri": str(package / "model.joblib")}})
    )
    stock = str(Path(__file__).with_name("serving_stock_kserve.py"))
    commands = {
        "relevo": [
            sys.executable,
            "-m",
            "relevo.serving",
            "--package",
            str(package),
            "--http-port",
            str(ports["relevo"]),
        ],
        "kserve": [str(pythons["kserve"]), stock, str(package / "model.joblib"), str(ports["kserve"])],
        "mlserver": [str(pythons["mlserver"].parent / "mlserver"), "start", str(settings)],
    }
    running: dict[str, _Server] = {}
    try:
        for name, command in commands.items():
            log = (folder / f"{name}.log").open("w")
            process = psutil.Popen(command, stdout=log, stderr=log)
            process.cpu_affinity([core])
            running[name] = _Server(process, ports[name])
            _wait_until_ready(name, running[name], folder)
        yield running
    finally:
        for server in running.values():
            for child in [*server.process.children(recursive=True), server.process]:
                child.terminate()
            try:
                server.process.wait(20)
            except psutil.TimeoutExpired:
                server.process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(name: str, server: _Server, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    # A request that is refused or not ordinary makes relevo import KServe to the end before anything is measured.
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{server.port}/v2/models/model/ready", timeout=5).status_code == 200:
                httpx.get(f"http://127.0.0.1:{server.port}/v2", timeout=START_SECONDS)
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"{name} did not become ready: {(folder / f'{name}.log').read_text()[-2000:]}")


def _rounds(servers: dict[str, _Server], rows: int, rounds: int, seconds: float) -> dict[str, list[Asked]]:
    item = {"name": "x", "shape": [rows, len(ROW)], "datatype": "FP64", "data": [*ROW] * rows}
    body = json.dumps({"inputs": [item]}).encode()
    found: dict[str, list[Asked]] = {name: [] for name in servers}
    answers = {}
    for name, server in servers.items():
        url = f"http://127.0.0.1:{server.port}/v2/models/model/infer"
        answer = httpx.post(url, content=body, headers={"content-type": "application/json"}, timeout=60)
        answers[name] = list(np.ravel(answer.json()["outputs"][0]["data"]))
        send_load(Load(server.port, "/v2/models/model/infer", body, seconds=0.3))
    if len({tuple(answer) for answer in answers.values()}) != 1:
        raise RuntimeError(f"the servers do not answer the same: { ({n: a[:5] for n, a in answers.items()}) }")
    for _ in range(rounds):
        for name, server in servers.items():
            before = server.cpu_seconds()
            measured = send_load(Load(server.port, "/v2/models/model/infer", body, seconds=seconds))
            used = server.cpu_seconds() - before
            found[name].append(Asked(measured, measured.requests / used if used else float("nan")))
    return found


def _ratios(found: dict[str, list[Asked]], name: str, *, cpu: bool) -> list[float]:
    def speed(asked: Asked) -> float:
        return asked.per_cpu_second if cpu else asked.measured.per_second

    return [speed(ours) / speed(theirs) for ours, theirs in zip(found["relevo"], found[name], strict=True)]


def _lines(model: str, rows: int, found: dict[str, list[Asked]]) -> list[tuple[object, ...]]:
    lines: list[tuple[object, ...]] = []
    for name, all_asked in found.items():
        ratios = ["", ""] if name == "relevo" else [_spread(_ratios(found, name, cpu=cpu)) for cpu in (False, True)]
        values = (
            median(asked.measured.per_second for asked in all_asked),
            median(asked.per_cpu_second for asked in all_asked),
        )
        p50 = median(asked.measured.p50_ms for asked in all_asked)
        p99 = median(asked.measured.p99_ms for asked in all_asked)
        lines.append((model, rows, name, *(f"{v:,.0f}" for v in values), f"{p50:.2f}", f"{p99:.2f}", *ratios))
    return lines


def _spread(ratios: list[float]) -> str:
    return f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


def _missed(model: str, rows: int, found: dict[str, list[Asked]]) -> list[str]:
    """The goals are for rf100."""
    if model != "rf100":
        return []
    missed = []
    for name, goal in GOALS.items():
        wanted = goal if rows == 1 else GOAL_MANY_ROWS
        ratio = median(_ratios(found, name, cpu=True))
        if ratio < wanted:
            missed.append(f"{model}, {rows} rows: {ratio:.1f} times {name} by CPU time, not {wanted:g}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
