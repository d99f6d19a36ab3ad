"""The study: notebooks run strictly, grids of runs on any executor, their results as tables, and the published ones.

What needs torch is imported from its module, :mod:`geodtr_lib.study.trained` and :mod:`geodtr_lib.study.evaluation`: a notebook whose
parameters are wrong says so at once.
"""

from __future__ import annotations

from geodtr_lib.study.commands import trainings
from geodtr_lib.study.grids import sweep
from geodtr_lib.study.notebooks import execute, given_parameters, notebook_parameters, other_area, strip
from geodtr_lib.study.published import published, published_rows
from geodtr_lib.study.published_document import published_document
from geodtr_lib.study.report import beside_published, recall_table, report, show
from geodtr_lib.study.results import collect, paired_difference, summarise
from geodtr_lib.study.shards import embed_sharded, read_shards
from geodtr_lib.study.status import status

__all__ = [
    "beside_published",
    "collect",
    "embed_sharded",
    "execute",
    "given_parameters",
    "notebook_parameters",
    "other_area",
    "paired_difference",
    "published",
    "published_document",
    "published_rows",
    "read_shards",
    "recall_table",
    "report",
    "show",
    "status",
    "strip",
    "summarise",
    "sweep",
    "trainings",
]
