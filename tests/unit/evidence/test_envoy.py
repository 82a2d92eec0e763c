"""Reading Envoy's statistics: the numbers, the attribution to revisions, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from relevo.evidence.envoy import read_revisions
from relevo.rollout.observation import Counts

names = st.from_regex(r"(default/)?[a-z][a-z0-9-]{0,30}", fullmatch=True)
codes = st.sampled_from(["200", "404", "500", "503"])


def requests(cluster: str, code: str, count: object) -> str:
    return f'envoy_cluster_upstream_rq{{envoy_response_code="{code}",envoy_cluster_name="{cluster}"}} {count}\n'


def bucket(cluster: str, edge: object, count: int) -> str:
    return f'envoy_cluster_upstream_rq_time_bucket{{envoy_cluster_name="{cluster}",le="{edge}"}} {count}\n'


def test_requests_errors_and_latency_are_read_per_revision() -> None:
    """Errors are the 5xx; cumulative buckets become counts per bucket, with infinity's as the last, above all edges."""
    text = (
        "# TYPE envoy_cluster_upstream_rq counter\n"
        + requests("default/iris-predictor-00001", "200", 90)
        + requests("default/iris-predictor-00001", "404", 3)
        + requests("default/iris-predictor-00001", "503", 7)
        + "# TYPE envoy_cluster_upstream_rq_time histogram\n"
        + bucket("default/iris-predictor-00001", 0.5, 10)
        + bucket("default/iris-predictor-00001", 5, 80)
        + bucket("default/iris-predictor-00001", "+Inf", 100)
        + 'envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="default/iris-predictor-00001"} 123.5\n'
        + 'envoy_cluster_upstream_rq_time_count{envoy_cluster_name="default/iris-predictor-00001"} 100\n'
    )
    assert read_revisions(text) == ((0.5, 5.0), {"iris-predictor-00001": Counts(100, 7, (10, 70, 20))})


def test_another_namespace_counts_only_where_none_is_asked_for() -> None:
    """With a namespace only its clusters count; without one, clusters of equal name add up."""
    text = requests("a/iris", "200", 1) + requests("b/iris", "500", 2) + requests("iris", "200", 4)
    assert read_revisions(text, namespace="a")[1] == {"iris": Counts(1, 0)}
    assert read_revisions(text)[1] == {"iris": Counts(7, 2)}


def test_clusters_with_different_buckets_have_no_latency() -> None:
    """Histograms that cannot be compared are missing evidence, not wrong evidence."""
    text = (
        requests("a", "200", 2)
        + bucket("a", 1, 1)
        + bucket("a", "+Inf", 2)
        + bucket("b", 2, 1)
        + bucket("b", "+Inf", 1)
    )
    edges, revisions = read_revisions(text)
    assert edges == ()
    assert revisions["a"] == Counts(2, 0, ())


def test_an_unused_envoy_has_no_counts() -> None:
    """Envoy leaves out what was never used: no series is no request, not an error."""
    assert read_revisions("") == ((), {})


@pytest.mark.parametrize(
    "text",
    ["<html>", "hello 1", requests("a", "200", "NaN"), requests("a", "200", -1), requests("a", "200", "1.5"),
     requests("a", "200", "x"), 'envoy_cluster_upstream_rq{envoy_cluster_name="a} 1', bucket("a", "x", 1),
     'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a"} 1'],
)  # fmt: skip
def test_what_is_not_envoys_statistics_is_refused(text: str) -> None:
    """A number that is no count, or text of another kind, is an error and never a count."""
    with pytest.raises(ValueError, match=r".+"):
        read_revisions(text)


@given(st.dictionaries(st.tuples(names, codes), st.integers(0, 2**53), max_size=12))
def test_the_parser_agrees_with_prometheus_own(series: dict[tuple[str, str], int]) -> None:
    """Whatever Envoy counts, we read from it what the reference parser reads."""
    text = "".join(requests(cluster, code, count) for (cluster, code), count in series.items())
    expected: dict[str, Counts] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            revision, count = sample.labels["envoy_cluster_name"].split("/")[-1], int(sample.value)
            failed = count if sample.labels["envoy_response_code"].startswith("5") else 0
            expected[revision] = expected.get(revision, Counts()) + Counts(count, failed)
    assert read_revisions(text)[1] == expected
