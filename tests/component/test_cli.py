"""Wrong input on the real command line, each with a platform that serves: the message names the thing, and nothing is lost."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
import yaml
from cli_platform import Cli, copy_package, platform, rollout_file, seal, train, until

pytestmark = pytest.mark.component

SAMPLE = "k8s/samples/iris.yaml"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Iris 1 is served, 2 is packaged, 3 takes other inputs."""
    home = tmp_path_factory.mktemp("cli") / "home"
    train(
        home,
        ("iris", "--version", "1", "--", "--trees", "4"),
        ("iris", "--version", "2", "--", "--trees", "6"),
        ("digits", "--version", "3", "--", "--trees", "4", "--name", "iris"),
    )
    with platform(home) as cli:
        yield cli


@pytest.fixture
def untouched(cli: Cli) -> Iterator[Cli]:
    """The platform, of which the test must change nothing: the same revision serves, no rollout was begun, nothing else runs."""
    before = cli.programs()
    yield cli
    assert cli.served_by() == "iris-predictor-00001"
    assert cli.uid() is None
    assert cli.programs() == before


# -- candidates that cannot be ---------------------------------------------------------------------------------------------------------


def test_a_version_that_is_not_in_the_store_is_refused_with_those_that_are(untouched: Cli) -> None:
    """No such package: the message names it, what there is, and how to make it."""
    untouched.refused("deploy-canary", "--version", "77", says=("no package iris:77", "1, 2", "relevo train"))


def test_a_candidate_must_be_named(untouched: Cli) -> None:
    """Without a version the message lists those of the store; two names are one too many."""
    untouched.refused("deploy-canary", says=("which version?", "1, 2", "--version"))
    both = ("--version", "2", "--storage-uri", "oci://dev.local/iris:2")
    untouched.refused("deploy-canary", *both, says=("--version and --storage-uri", "one of them"))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://bucket/iris", ("s3://bucket/iris", "file:// or oci://")),
        ("oci://dev.local/iris", ("a version after the colon", "oci://dev.local/iris:1")),
        ("file:///no/such/folder", ("there is no folder /no/such/folder", "relevo train")),
        ("oci://dev.local/nosuch:1", ("no version of nosuch", "relevo train nosuch")),
    ],
)
def test_a_storage_uri_that_names_nothing_is_refused(untouched: Cli, uri: str, says: tuple[str, ...]) -> None:
    """No such model: whatever is wrong with the address is said."""
    untouched.refused("deploy-canary", "--storage-uri", uri, says=says)


def test_a_tampered_or_truncated_candidate_is_refused_by_file_name(untouched: Cli) -> None:
    """One flipped byte, a cut file, a missing file: each is named before anything opens it or is started."""
    flipped = copy_package(untouched.home, "flipped", of="2")
    content = bytearray((flipped / "model.joblib").read_bytes())
    content[len(content) // 2] ^= 1
    (flipped / "model.joblib").write_bytes(content)
    cut = copy_package(untouched.home, "cut", of="2")
    (cut / "model.onnx").write_bytes((cut / "model.onnx").read_bytes()[:-100])
    gone = copy_package(untouched.home, "gone", of="2")
    (gone / "heldout.npz").unlink()
    for version, says in (
        ("flipped", ("model.joblib has digest", "Rebuild it")),
        ("cut", ("model.onnx has digest", "Rebuild it")),
        ("gone", ("heldout.npz is missing", "Rebuild it")),
    ):
        untouched.refused("deploy-canary", "--version", version, says=says)
        untouched.refused("package", "verify", untouched.home / "packages/iris" / version, says=says)


def test_a_package_that_is_whole_is_said_to_be(untouched: Cli) -> None:
    """`relevo package verify` says what a good package is, in a sentence or as JSON."""
    folder = untouched.home / "packages/iris/2"
    assert "iris:2, 5 files, every digest is right." in untouched.ok("package", "verify", folder).out
    assert json.loads(untouched.ok("package", "verify", folder, "-o", "json").out)["metadata"]["version"] == "2"
    assert "iris:2  " in untouched.ok("package", "list").out
    untouched.refused("package", "verify", untouched.home, says=("manifest.json is missing", "model package?"))


def test_a_candidate_that_answers_other_questions_is_refused(untouched: Cli) -> None:
    """Other inputs, other classes: the difference is named."""
    untouched.refused("deploy-canary", "--version", "3", says=("64 features, not 4", "model of its own name"))
    other = copy_package(untouched.home, "classes", of="2")
    metadata = json.loads((other / "metadata.json").read_text())
    metadata["classes"] = [7, 8, 9]
    (other / "metadata.json").write_text(json.dumps(metadata))
    seal(other)
    untouched.refused("deploy-canary", "--version", "classes", says=("classes are 7, 8, 9, not 0, 1, 2",))


def test_the_model_that_is_served_already_is_no_candidate(untouched: Cli) -> None:
    """An identical candidate is refused, also under another version."""
    copy_package(untouched.home, "again")
    for version in ("1", "again"):
        untouched.refused("deploy-canary", "--version", version, says=("it is the same model", "nothing to roll out"))


# -- Rollout files ---------------------------------------------------------------------------------------------------------------------


def canary(**fields: object) -> dict[str, object]:
    """A strategy of the spec."""
    return {"strategy": {"canary": fields}}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (canary(weights=[20, 10]), ("weights must rise", "10 follows 20")),
        (canary(weights=[20, 101]), ("weights.1", "100", "101")),
        (canary(weights=[]), ("at least one step",)),
        ({"decision": {"alpha": 0}}, ("spec.decision.alpha", "greater than 0")),
        ({"decision": {"alpha": 1}}, ("spec.decision.alpha", "less than 1")),
        ({"decision": {"alpha": float("nan")}}, ("spec.decision.alpha",)),
        ({"limits": {"maxSeconds": -1}}, ("spec.limits.maxSeconds", "greater than 0", "-1")),
        ({"limit": {}}, ("spec.limit: no such field",)),
        ({"target": "Not A Name"}, ("spec.target", "Not A Name")),
    ],
)
def test_a_malformed_rollout_is_refused_by_field(
    untouched: Cli, tmp_path: Path, spec: dict[str, object], says: tuple[str, ...]
) -> None:
    """Every wrong field is named by its path, with what it may be and what it is."""
    path = rollout_file(tmp_path, **spec)
    untouched.refused("deploy-canary", "-f", path, says=(str(path), *says, "docs/rollout.md"))


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "holds no Rollout"), ("a: [", "is not YAML"), ("\x00", "is not YAML"), ("- 1", "holds no Rollout")],
)
def test_a_file_that_is_no_rollout_is_refused(untouched: Cli, tmp_path: Path, content: str, says: str) -> None:
    """Empty, broken, or something else: the file is named."""
    path = tmp_path / "rollout.yaml"
    path.write_text(content)
    untouched.refused("deploy-canary", "-f", path, says=(str(path), says))


def test_a_rollout_that_cannot_be_read_is_refused(untouched: Cli, tmp_path: Path) -> None:
    """A folder, a missing file, a file for another target."""
    untouched.refused("deploy-canary", "-f", tmp_path, says=(str(tmp_path), "cannot be read"))
    untouched.refused("deploy-canary", "-f", tmp_path / "none", says=("none: cannot be read", "Check the path"))
    other = rollout_file(tmp_path, target="other")
    untouched.refused("deploy-canary", "iris", "-f", other, says=("its target is other, not iris",))
    untouched.refused("deploy-canary", "-f", other, says=("no InferenceService other is up; there is iris",))


# -- commands that fit nothing ---------------------------------------------------------------------------------------------------------


def test_before_the_first_rollout_there_is_nothing_to_steer(untouched: Cli) -> None:
    """Each command says so, and what would begin a rollout; status says what is served."""
    for verb, word in (("rollback", "roll back"), ("promote", "promote"), ("pause", "pause"), ("resume", "resume")):
        untouched.refused(verb, says=(f"nothing to {word}, there has been no rollout", "relevo deploy-canary iris"))
    untouched.refused("promote", "--full", says=("nothing to promote",))
    untouched.refused("undo", says=("is the first version",))
    untouched.refused("undo", "--to", "9", says=("revision 9 has never served it",))
    untouched.refused("retry", says=("there has been none",))
    untouched.refused("report", says=("no rollout to report on",))
    assert untouched.ok("history").out == "No rollout yet.\n"
    assert "iris-predictor-00001 serves oci://dev.local/iris:1 (ready)" in untouched.ok("status").out
    shown = yaml.safe_load(untouched.ok("status", "-o", "yaml").out)
    assert shown["stable"] == {
        "revision": "iris-predictor-00001",
        "storageUri": "oci://dev.local/iris:1",
        "ready": True,
    }


def test_a_target_that_is_not_up_is_named(untouched: Cli) -> None:
    """Every command says which services there are."""
    for command in ("status", "history", "rollback", "undo", "retry", "loadtest", "report"):
        untouched.refused(command, "nosuch", says=("no InferenceService nosuch is up; there is iris",))
    untouched.refused("deploy-canary", "nosuch", "--version", "2", says=("there is iris",))
    untouched.refused("history", "--uid", "nosuch", says=("rollout nosuch", "relevo history"), code=1)


def test_a_port_that_somebody_else_has_is_refused_with_who_has_it(untouched: Cli) -> None:
    """Locust's port in use or out of range: nothing is begun that could not go on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        says = (f"port {port}", "in use", "--locust-port PORT")
        untouched.refused("deploy-canary", "--version", "2", "--locust-port", port, says=says)
        untouched.refused("loadtest", "--locust-port", port, says=says)
    for port in ("0", "65536", "x"):
        untouched.refused("deploy-canary", "--version", "2", "--locust-port", port, says=("--locust-port",))


# -- manifests -------------------------------------------------------------------------------------------------------------------------


def manifest(folder: Path, **model: object) -> Path:
    """An InferenceService of the name `more`, as `model` says."""
    fields = {"modelFormat": {"name": "sklearn"}, "storageUri": "oci://dev.local/iris:2", **model}
    path = folder / "more.yaml"
    document = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "more"}}
    path.write_text(yaml.safe_dump({**document, "spec": {"predictor": {"model": fields}}}))
    return path


def test_a_manifest_that_cannot_be_honoured_is_refused(untouched: Cli, tmp_path: Path) -> None:
    """Unsupported fields by name; broken YAML, a missing file, a package that is not there or not whole."""
    up = ("up", "--port", untouched.port, "-f")
    gpu = manifest(tmp_path, resources={"limits": {"nvidia.com/gpu": 1}})
    untouched.refused(*up, gpu, says=(str(gpu), "resources"))
    untouched.refused(*up, manifest(tmp_path, storageUri="oci://dev.local/iris:77"), says=("no package iris:77",))
    copy_package(untouched.home, "spoilt")
    (untouched.home / "packages/iris/spoilt/model.joblib").write_bytes(b"")
    spoilt = manifest(tmp_path, storageUri="oci://dev.local/iris:spoilt")
    untouched.refused(*up, spoilt, says=("spoilt: model.joblib has digest",))
    broken = tmp_path / "broken.yaml"
    broken.write_text("kind: [")
    untouched.refused(*up, broken, says=(str(broken), "YAML"))
    untouched.refused(*up, tmp_path / "none.yaml", says=("none.yaml",))
    other = "1" if untouched.port != 1 else "2"
    untouched.refused("up", "--port", other, "-f", SAMPLE, says=(f"is up on port {untouched.port}", "relevo down"))
    untouched.refused("up", "--port", "65536", "-f", SAMPLE, says=("--port",))
    untouched.ok(*up, SAMPLE)  # what is up already is left alone


# -- a home that cannot be used --------------------------------------------------------------------------------------------------------


def test_where_nothing_is_up_every_command_says_how_to_begin(tmp_path: Path) -> None:
    """A fresh home: clear messages, and `relevo down` may be called as often as one likes."""
    cli = Cli(tmp_path / "fresh")
    for command in ("status", "rollback", "undo", "pause", "loadtest"):
        cli.refused(command, says=("nothing is up", "relevo up -f"))
    cli.refused("deploy-canary", "--version", "2", says=("nothing is up", "relevo up -f"))
    cli.refused("up", "-f", SAMPLE, says=("no package iris:1", "relevo train iris --version 1"))
    for _ in range(2):
        assert "Nothing runs any more." in cli.ok("down").err


def test_the_proxys_port_in_use_is_refused(cli: Cli, tmp_path: Path) -> None:
    """`relevo up` names the port and who has it, and leaves nothing running."""
    other = Cli(tmp_path / "home", port=cli.port)
    other.home.mkdir()
    (other.home / "packages").symlink_to(cli.home / "packages")
    other.refused("up", "-f", SAMPLE, "--port", cli.port, says=(f"port {cli.port}", "in use by envoy", "--port PORT"))
    assert other.programs() == set()


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """RELEVO_HOME below a file, a state file that is none: exit code 1, the path, and what to do."""
    (tmp_path / "file").touch()
    below = Cli(tmp_path / "file" / "home")
    below.refused("history", says=(str(below.home), "RELEVO_HOME"), code=1)
    folder = Cli(tmp_path / "folder")
    (folder.home / "relevo.db").mkdir(parents=True)
    folder.refused("history", says=("relevo.db: cannot be written", "RELEVO_HOME"), code=1)
    garbage = Cli(tmp_path / "garbage")
    garbage.home.mkdir()
    (garbage.home / "relevo.db").write_bytes(b"no database" * 1000)
    garbage.refused("history", says=("relevo.db", "no relevo database", "Move it away"), code=1)


def test_a_full_disk_loses_nothing(cli: Cli) -> None:
    """Where no byte can be written the rollout is not begun, and the platform serves on. A file limit stands in for the disk."""

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    before = cli.uid()
    answer = cli.run("deploy-canary", "--version", "2", "--locust-port", cli.locust_port, before=no_room)
    assert answer.code == 1, answer
    assert "error:" in answer.err
    assert str(cli.home) in answer.err
    assert cli.uid() == before
    assert cli.served_by() == "iris-predictor-00001"


def test_training_that_cannot_be_is_refused(cli: Cli) -> None:
    """An unknown data set, a version that exists, a missing script: the trainer's exit code comes through."""
    cli.refused("train", "iris", "--version", "1", says=("it exists already", "--replace"))
    cli.refused("train", "nosuch", "--version", "1", says=("nosuch",))
    cli.refused("train", "iris", "--version", "1", "--script", "none.py", says=("none.py", "--script"))


def test_a_server_that_cannot_load_its_model_is_never_served(cli: Cli, tmp_path: Path) -> None:
    """A package that is whole but does not load: `relevo up` ends with the server's own words and takes back what it began."""
    folder = copy_package(cli.home, "unloadable")
    joblib.dump({"no": "estimator"}, folder / "model.joblib")
    (folder / "model.onnx").unlink()
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "runtime": "sklearn"}))
    seal(folder)
    file = manifest(tmp_path, storageUri="oci://dev.local/iris:unloadable")
    before = cli.programs()
    cli.refused("up", "--port", cli.port, "-f", file, says=("more-predictor-", "log"), code=1)
    until(lambda: cli.programs() == before, "what was begun is taken back")
    assert cli.served_by() == "iris-predictor-00001"
