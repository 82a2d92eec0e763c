"""What is counted, and how workers' counts become one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from relevo.serving.tallies import Tallies

LABELS = {"model_name": "iris", "revision": "r1"}


def test_counts_of_all_workers_are_summed_into_one_series() -> None:
    """Each worker writes a row of its own; a scrape of any of them tells the sum, one series per revision."""
    tallies = Tallies("iris", "r1", ["a", "b"], workers=2)
    registry = CollectorRegistry()
    registry.register(tallies)
    for worker in (0, 1):
        tallies.use_row(worker)
        tallies.predicted(["b"])
        tallies.predicted(["a", "b", "b"])
        tallies.timed(1, 0.02)
        tallies.failed("model")
    assert registry.get_sample_value("relevo_predictions_total", LABELS | {"predicted": "b"}) == 6
    assert registry.get_sample_value("relevo_predictions_total", LABELS | {"predicted": "a"}) == 2
    assert registry.get_sample_value("relevo_model_failures_total", LABELS) == 2
    assert registry.get_sample_value("relevo_request_errors_total", LABELS | {"kind": "model"}) == 2
    assert registry.get_sample_value("request_predict_seconds_count", {"model_name": "iris"}) == 2
    assert generate_latest(registry).decode().count('request_predict_seconds_sum{model_name="iris"}') == 1


def test_a_worker_that_takes_the_place_of_another_goes_on_with_its_counts() -> None:
    """No counter goes back, CPU time neither; restarts are counted, first starts are not. One process alone tells none of this."""
    tallies = Tallies("iris", "r1", ["a"], workers=2)
    registry = CollectorRegistry()
    registry.register(tallies)
    cpu = []
    for worker in (0, 1, 0):
        tallies.use_row(worker)
        tallies.predicted(["a"])
        tallies.note_use()
        cpu.append(registry.get_sample_value("process_cpu_seconds_total") or 0.0)
    assert registry.get_sample_value("relevo_predictions_total", LABELS | {"predicted": "a"}) == 3
    assert registry.get_sample_value("relevo_worker_restarts_total", LABELS) == 1
    assert registry.get_sample_value("relevo_workers", LABELS) == 2
    assert 0 < cpu[0] < cpu[1] < cpu[2]
    assert (registry.get_sample_value("process_resident_memory_bytes") or 0) > 2**20
    alone = CollectorRegistry()
    alone.register(Tallies("iris", "r1", ["a"]))
    assert alone.get_sample_value("relevo_workers", LABELS) is None


def test_a_duration_is_counted_in_the_bucket_that_holds_it_and_in_all_above() -> None:
    """Prometheus's buckets are cumulative, and a bound belongs to its bucket."""
    tallies = Tallies("iris", "r1", [0])
    registry = CollectorRegistry()
    registry.register(tallies)
    for seconds in (0.005, 0.006, 99.0):
        tallies.timed(0, seconds)

    def bucket(bound: str) -> float | None:
        return registry.get_sample_value("request_preprocess_seconds_bucket", {"model_name": "iris", "le": bound})

    assert [bucket("0.005"), bucket("0.01"), bucket("10.0"), bucket("+Inf")] == [1, 2, 2, 3]
