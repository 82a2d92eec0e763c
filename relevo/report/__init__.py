"""The report of a rollout: one HTML page that opens with no network, now or in ten years.

`page` gathers what is in it, `series` turns the stored samples into series, `plots` draws them as SVG, `wording` writes numbers.
"""

from relevo.report.page import write_report

__all__ = ["write_report"]
