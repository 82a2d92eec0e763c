"""The drawings tell what is in the series, whatever is in it."""

import numpy as np
import pytest

from relevo.report import plots
from relevo.report.series import timeline


def texts(svg):
    """The words of a drawing."""
    import re

    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_rarest_classes_become_one_bar():
    """With very many classes the common ones keep their bars and the others are added up."""
    counts = {str(i): 1000 - i for i in range(100)}
    words = texts(plots.mix(counts, counts, most=20))
    assert "others" in words
    assert "18" in words
    assert "19" not in words


def test_classes_are_in_natural_order():
    """Class 10 comes after class 9."""
    words = texts(plots.mix({str(i): 5 for i in range(11)}, {}))
    assert [w for w in words if w.isdigit()] == [str(i) for i in range(11)]


@pytest.mark.parametrize("name", ["$x$", "a<b>&", "x" * 200, ""])
def test_a_class_may_have_any_name(name):
    """No name of a class is read as a formula or as markup, and a long one is shortened."""
    svg = plots.mix({name: 3}, {name: 4})
    assert "<b>" not in svg
    assert "x" * 20 not in svg


def test_a_course_without_numbers_is_drawn_empty():
    """Two looks that saw nothing at all give axes, not an error."""
    line = timeline([{"at": "2026-01-01T00:00:00+00:00"}, {"at": "2026-01-01T00:00:01+00:00"}])
    for svg in (plots.weights(line), plots.errors(line), plots.latency(line)):
        assert svg.startswith("<svg")
    nothing = {"errors": np.array([np.nan, np.nan])}
    assert "limit 20: proven" in texts(plots.evidence(line, nothing, 20.0, against=False))


def test_huge_and_zero_evidence_stay_on_the_axis():
    """An e-value of 1e304 or of 0 is drawn at the axis's edge."""
    line = timeline([{"at": f"2026-01-01T00:00:0{i}+00:00"} for i in range(2)])
    svg = plots.evidence(
        line, {"errors": np.array([0.0, 1e304]), "together": np.array([1.0, 20.0])}, 20.0, against=True
    )
    assert "nan" not in svg
    assert "1e+" not in "".join(texts(svg))
