"""The report: run folders as one HTML page, as tables for a paper and as plots.

The public API::

    write_report(runs, out): one HTML page

It is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jigsaw.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"{__name__}.page"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
