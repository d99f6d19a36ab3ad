"""Every table that the recorded rows are enough for: the paper's in its order, then those of the other methods and of other light."""

from __future__ import annotations

from pathlib import Path

from geodtr_lib.errors import RunError
from geodtr_lib.study.baseline_report import method_tables
from geodtr_lib.study.claims import Study, claims_table
from geodtr_lib.study.environment_report import environment_tables
from geodtr_lib.study.paper_tables import comparison_table, extra_table, published_tables, raw_table
from geodtr_lib.study.probe_tables import claim_table, descriptor_table, efficiency_table, hard_sample_table
from geodtr_lib.study.records import EFFICIENCY, Records
from geodtr_lib.study.tables import Table
from geodtr_lib.study.view_report import view_tables


def recorded_tables(folder: str | Path) -> list[Table]:
    """All tables; ``folder`` is that of the recorded ones. What has no rows there yet is left out."""
    return [*_paper_tables(folder), *method_tables(folder), *view_tables(folder), *environment_tables(folder)]


def _paper_tables(folder: str | Path) -> list[Table]:
    """I to III as published, VII, and from the study's runs IV, V, VI, VIII, the extra grid, Figures 7, 8 and 10 as numbers, claims."""
    efficiency = Records(folder).read(EFFICIENCY)
    found = [*published_tables(), efficiency_table(efficiency)]
    try:
        study = Study.read(folder)
    except RunError:
        return found
    for dataset in dict.fromkeys(study.runs["dataset"]):
        found += [comparison_table(name, study.runs, dataset, efficiency) for name in ("IV", "V", "VI", "VIII")]
    found += [extra_table(study.runs), raw_table(study.runs)] if (study.runs["dataset"] == "city").any() else []
    return [*found, hard_sample_table(study.probes), descriptor_table(study.probes), claim_table(claims_table(study))]
