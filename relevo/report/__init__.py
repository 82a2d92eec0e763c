"""The report of a rollout: one HTML page that opens with no network, now or in ten years.

`page` puts it together, `contents` words it, `series` turns the stored samples into series, `plots` and `drawing` draw them as SVG.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relevo.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    # Matplotlib takes a second to import: only who writes a report pays for it.
    if name == "write_report":
        from relevo.report.page import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
