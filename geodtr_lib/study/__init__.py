"""The study: notebooks run strictly, grids of runs on any executor, their results as tables, and the published ones."""

from __future__ import annotations

from geodtr_lib.study.grids import sweep
from geodtr_lib.study.notebooks import execute, notebook_parameters, strip
from geodtr_lib.study.published import published, published_rows
from geodtr_lib.study.report import beside_published, recall_table, report, show
from geodtr_lib.study.results import collect, paired_difference, summarise

__all__ = [
    "beside_published",
    "collect",
    "execute",
    "notebook_parameters",
    "paired_difference",
    "published",
    "published_rows",
    "recall_table",
    "report",
    "show",
    "strip",
    "summarise",
    "sweep",
]
