"""What the report says in words and rows."""

from datetime import UTC, datetime
from pathlib import Path

from relevo.packaging import Package
from relevo.packaging.metadata import DataInfo, Feature, Histogram, Input, Metadata, Parity
from relevo.report import contents


def package(version: str, accuracy: float, trees: int) -> Package:
    """A package as the report sees one."""
    feature = Feature(name="a", minimum=0, maximum=1, reference=Histogram(edges=(0, 1), counts=(1,)))
    metadata = Metadata(
        name="iris",
        version=version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        git_commit=None,
        libraries={"numpy": "2"},
        parameters={"trees": trees, "seed": 0},
        data=DataInfo(name="iris", digest="ab", train_rows=1, validation_rows=1, test_rows=1),
        input=Input(features=(feature,)),
        classes=(0, 1),
        metrics={"test": {"accuracy": accuracy}},
        parity=Parity(checked=False),
        runtime="sklearn",
        runtime_reason="",
    )
    return Package(Path("nowhere"), metadata, {})


def test_the_models_differences_are_told_by_section():
    """Only what differs is told, and numbers with their difference."""
    found = contents.models(package("1", 0.9, 10), package("2", 0.95, 20))
    assert not found.missing
    assert [(name, [c.name for c in rows]) for name, rows in found.sections] == [
        ("metrics", ["test accuracy"]),
        ("parameters", ["trees"]),
    ]


def test_equal_models_have_no_differences():
    """Two packages that differ only in their version are told to be alike."""
    assert contents.models(package("1", 0.9, 10), package("2", 0.9, 10)) == contents.Models("", ())


def test_a_missing_package_is_named():
    """The page says which of the two could not be read."""
    assert "candidate package" in contents.models(package("1", 0.9, 10), None).missing
    assert "stable" not in contents.models(package("1", 0.9, 10), None).missing


def test_facts_of_another_version_do_not_matter():
    """Checks that the stored facts lack are left out; fields that a check lacks are empty."""
    rows = contents.checks({"errors": {"verdict": "pass", "e_against": 1, "e_for": 2}, "latency": "?", "e_against": 1})
    assert [r["name"] for r in rows] == ["errors"]
    assert rows[0]["stable"] is None
