"""What one run found, to read: a table of recalls in percent, alone and beside the published rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from geodtr_lib.config import RunConfig
from geodtr_lib.errors import RunError
from geodtr_lib.files import write_bytes
from geodtr_lib.paths import shown
from geodtr_lib.run_folder import read_metrics
from geodtr_lib.study.published import published_rows

# Results file -> heading, in the order in which they are shown.
RECALL_HEADINGS = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "r1pct": "R@1%", "hit_rate": "hit rate", "hit_rate_cover": "hit rate (cover)"}


def recall_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """The recalls of one run in percent.

    Args:
        metrics: the content of ``metrics.json``, as :func:`geodtr_lib.run` returns it.

    Returns:
        One row per area: ``area``, ``protocol``, ``queries``, ``gallery``, and ``R@1`` to ``R@1%`` (``hit rate`` for VIGOR).
    """
    rows = [
        {"area": area, "protocol": measured["protocol"], "queries": measured["n_query"], "gallery": measured["n_gallery"]}
        | {heading: 100 * measured[key] for key, heading in RECALL_HEADINGS.items() if key in measured}
        for area, measured in metrics["evaluation"].items()
    ]
    return pd.DataFrame(rows)


def beside_published(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """The recalls of one run in percent, and below them those that the paper printed for the same model.

    Column ``source`` tells them apart ("measured here", "published, Table V"), ``data`` says on what each was trained and tested.
    """
    config = RunConfig(**metrics["config"])
    measured = recall_table(metrics)
    trained = f"{config.dataset} {config.train_area}"
    measured.insert(0, "source", "measured here")
    measured.insert(1, "data", [trained if row.protocol == "same" else f"{trained} -> {row.area}" for row in measured.itertuples()])
    printed = published_rows(config).rename(columns=RECALL_HEADINGS)
    printed.insert(0, "source", [f"published, {table}" for table in printed["table"]])
    columns = ["source", "data", "protocol", *(heading for heading in RECALL_HEADINGS.values() if heading in measured)]
    tables = [measured, printed] if len(printed) else [measured]
    return pd.concat(tables, ignore_index=True).reindex(columns=columns)


def report(run_dir: str | Path) -> str:
    """Write ``recalls.csv`` into a run's folder; returns its path and the recalls as text.

    Raises:
        RunError: the folder has no finished run.
    """
    metrics = read_metrics(run_dir)
    try:
        table = recall_table(metrics)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{Path(run_dir) / 'metrics.json'} is no result of a run ({error!r}); remove it and run again") from None
    path = Path(run_dir).resolve() / "recalls.csv"
    write_bytes(path, table.to_csv(index=False).encode())
    return f"Result table: {shown(path)}\n{table.to_string(index=False, float_format='{:.2f}'.format)}"


def show(path: str | Path) -> str:
    """What a run found: ``path`` is its folder, or an executed notebook, whose last cell's text is given.

    Raises:
        RunError: there is no finished run, or the notebook was not run to its end.
    """
    path = Path(path)
    if path.suffix != ".ipynb":
        return report(path)
    if not path.is_file():
        raise RunError(f"{path} does not exist")
    outputs = [cell.outputs for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    text = "".join(output.text for output in (outputs[-1] if outputs else []) if output.output_type == "stream" and output.name == "stdout")
    if not text:
        raise RunError(f"{path} was not run to its end; run it again with papermill")
    return text.rstrip()
