"""Numbers read the same everywhere."""

import pytest

from relevo.rollout import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "< 0.01"),
        (0.62, "0.62"),
        (14.2, "14.2"),
        (20.0, "20"),
        (9230.4, "9,230"),
        (2.1e11, "2.1e11"),
        (1e304, "> 1e300"),
    ],
)
def test_an_e_value_has_two_or_three_digits(value, text):
    """An e-value is short, whatever its size, and never lacks its order of magnitude."""
    assert wording.e_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 s"), (59.9, "59 s"), (185, "3 min 05 s"), (3725, "1 h 02 min"), (-1, "0 s")]
)
def test_a_duration_names_its_units(value, text):
    """Durations are in the units that a person would use."""
    assert wording.seconds(value) == text


def test_there_is_no_share_of_nothing():
    """A rate without requests is a dash, not zero."""
    assert wording.percent(0, 0) == "-"
    assert wording.percent(1, 8, 1) == "12.5 %"


def test_a_ratio_without_a_number_is_infinite():
    """The audit log stores no infinity: null means that the stable arm had no such event."""
    assert wording.ratio(None) == "infinite"
    assert [wording.ratio(v) for v in (0.444, 15.23, 1234.5)] == ["0.44", "15.2", "1,234"]


def test_latencies_carry_their_unit():
    """Small ones with a decimal, large ones without, none as a dash."""
    assert [wording.milliseconds(v) for v in (None, 3.14, 1234.5)] == ["-", "3.1 ms", "1,234 ms"]
