"""The evaluation of a trained model on any data set: what ``evaluation.json`` holds, and how it reads as a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geodtr_lib import evaluation
from geodtr_lib.config import RunConfig
from geodtr_lib.data import PairDataset
from geodtr_lib.data.packed import PackedDataset
from geodtr_lib.data.vigor import VigorDataset
from geodtr_lib.evaluation import Embeddings, embed_dataset, recall_interval, score
from geodtr_lib.evaluation.embeddings import choose_protocol
from geodtr_lib.files import digest, locked, write_bytes, write_json
from geodtr_lib.machine import versions
from geodtr_lib.study.commands import matching_rows
from geodtr_lib.study.report import RECALL_HEADINGS
from geodtr_lib.study.trained import Trained, narrowed
from geodtr_lib.training import protocol_of

_OTHER_TIES = {"against": "strict", "strict": "against"}


def evaluate_trained(
    trained: Trained,
    config: RunConfig,
    tests: Mapping[str, PairDataset],
    *,
    protocol: str = "",
    out_dir: str | Path = "",
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a model; write ``evaluation.json``, and ``queries.csv`` with a row for each query.

    Args:
        trained: the model; it moves to the configuration's device.
        config: as :func:`geodtr_lib.study.trained.target_config` makes it.
        tests: data set of each area.
        protocol: ``cvusa`` or ``vigor`` (exact reference; they differ in the k of R@1%) or ``within_5m``; empty = the data set's own,
            and for CVACT's test pairs both the exact reference and within 5 m.
        out_dir: folder of the results; empty = ``trained.folder``.
        progress: show bars.

    Returns:
        The content of ``evaluation.json``. ``evaluation`` has for each area what :func:`geodtr_lib.evaluation.retrieval_metrics` gives,
        and ``protocol`` (``same``, ``cross``, or ``unknown`` where the model does not tell where it was trained), ``interval`` (Wilson,
        95 %, of each recall), ``r1_ties`` (R@1 under both rules for ties), ``strict`` (recalls and intervals with ties for the query, as
        published, where ``ties`` counts them against it), ``metres`` (from the query to the nearest reference found, where positions are
        known) and ``within_5m`` (recalls and intervals of that rule beside those of the exact one).

    Raises:
        ConfigError, DatasetError: an unknown protocol, or one that the data does not allow; an image that cannot be read.
        RunError: the folder cannot be written.
    """
    folder = Path(out_dir).expanduser() if out_dir else trained.folder
    for test in tests.values():
        choose_protocol(protocol, test)  # before the embeddings, which may take hours
    with locked(folder / ".lock"):
        return _evaluate(trained, config, tests, protocol, folder, progress)


def _evaluate(
    trained: Trained, config: RunConfig, tests: Mapping[str, PairDataset], protocol: str, folder: Path, progress: bool
) -> dict[str, Any]:
    began = time.monotonic()
    model = narrowed(trained, config).to(config.device)
    recalls, queries = {}, []
    for area, test in tests.items():
        # Headings are drawn from `data_seed`, which has done its work: the test places are there.
        embeddings = embed_dataset(model, test, config.replace(data_seed=config.seed), config.device, progress)
        seen = protocol_of(trained.config, f"{config.dataset}:{area}", test.split) if trained.trained_on else "unknown"
        table = _queries(embeddings, test, config)
        recalls[area] = {"protocol": seen, "split": test.split, **_recalls(embeddings, test, config, protocol)}
        if "metres" in table:
            recalls[area]["metres"] = {"mean": float(table["metres"].mean()), "median": float(table["metres"].median())}
        queries.append(table.assign(area=area))
    result = {
        "schema": 1,
        "checkpoint": {"path": trained.path, "trained_on": trained.trained_on},
        "config": config.to_dict(),
        "versions": versions(config.device),
        "data": {"hash": digest([test.hash for test in tests.values()])},
        "seconds": time.monotonic() - began,
        "evaluation": recalls,
    }
    write_bytes(folder / "queries.csv", pd.concat(queries).to_csv(index=False).encode())
    write_json(folder / "evaluation.json", result)
    return result


def _recalls(embeddings: Embeddings, test: PairDataset, config: RunConfig, protocol: str) -> dict[str, Any]:
    """Recalls by the rules that apply to these pairs."""

    def recalls(rule: str, ties: Any = config.ties) -> dict[str, Any]:
        measured = score(embeddings, test, ties, rule, config.device)
        intervals = {key: list(recall_interval(float(measured[key]), len(test))) for key in RECALL_HEADINGS if key in measured}
        return {**measured, "interval": intervals}

    found = {"rule": "within 5 m" if protocol == "within_5m" else "exact", **recalls(protocol)}
    other = recalls(protocol, _OTHER_TIES[config.ties])
    found["r1_ties"] = {config.ties: found["r1"], _OTHER_TIES[config.ties]: other["r1"]}
    if config.ties == "against":
        found["strict"] = other
    if test.area == "cvact_test" and not protocol:  # published code counts either
        found["within_5m"] = recalls("within_5m")
    return found


def _queries(embeddings: Embeddings, test: PairDataset, config: RunConfig) -> pd.DataFrame:
    """What each query found: its rank (1 is best), the nearest reference, the heading that it was turned to, metres to what it found."""
    nearest = evaluation.nearest_references(embeddings, 1, config.device)[1][:, 0].numpy()
    table = pd.DataFrame({"area": test.area, "index": np.arange(len(test)), "query": list(test.query_ids)})
    table["rank"] = 1 + evaluation.rank_of(embeddings, test.positive, config.ties, config.device).numpy()
    table["nearest_index"] = nearest
    table["nearest"] = [test.reference_ids[index] for index in nearest.tolist()]
    table["heading"] = 0.0 if embeddings.shift is None else embeddings.shift.numpy()
    places = test.source if isinstance(test, PackedDataset) else test
    if isinstance(places, VigorDataset):
        table["metres"] = places.metre_error(nearest)
    elif test.query_position is not None and test.reference_position is not None:
        table["metres"] = np.linalg.norm(test.query_position - test.reference_position[nearest], axis=1)
    return table


def recall_intervals(result: Mapping[str, Any]) -> pd.DataFrame:
    """The recalls of ``evaluation.json`` with their 95 % intervals.

    Returns:
        One row per area, rule and measure: ``area``, ``protocol``, ``rule``, ``measure`` ("R@1"), ``mean``, ``low``, ``high`` as
        fractions, ``n`` (queries) and ``gallery``.
    """
    rows = []
    for area, found in result["evaluation"].items():
        rules = {found["rule"]: found} | ({"within 5 m": found["within_5m"]} if "within_5m" in found else {})
        for rule, measured in rules.items():
            common = {"area": area, "protocol": found["protocol"], "rule": rule, "n": found["n_query"], "gallery": found["n_gallery"]}
            for key, (low, high) in measured["interval"].items():
                rows.append({**common, "measure": RECALL_HEADINGS[key], "mean": measured[key], "low": low, "high": high})
    return pd.DataFrame(rows)


def evaluation_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """What was measured, in percent with 95 % intervals, and below each area the published row of the same model on the same data.

    Published rows are there only where the model's settings, the data it was trained on, the data it is tested on and the rule are the
    paper's. They count a tie for the query (``ties`` is ``strict``): a tile that the test list repeats ties with itself, and CVUSA's
    list repeats 43. So what was measured with ties against the query stands above them by their rule too.
    """
    config = RunConfig(**result["config"])
    rows: list[dict[str, Any]] = []
    for (area, rule), group in recall_intervals(result).groupby(["area", "rule"], sort=False):
        first = group.iloc[0]
        found = result["evaluation"][area]
        row = {
            "area": area, "source": "measured", "protocol": first.protocol, "rule": rule, "ties": config.ties, "queries": first.n,
            "gallery": first.gallery,
        }  # fmt: skip
        rows.append({**row, **_cells(found if rule == found["rule"] else found["within_5m"])})
        printed = matching_rows(config, result["checkpoint"]["trained_on"], area) if found["split"] == "test" and rule == "exact" else []
        if printed and "strict" in found:
            rows.append({**row, "source": "measured, ties as published", "ties": "strict", **_cells(found["strict"])})
        for tables, recalls in printed:
            published = {RECALL_HEADINGS[key]: f"{value:.2f}" for key, value in recalls.items()}
            common = {"area": area, "source": f"published, {tables}", "protocol": first.protocol, "ties": "strict"}
            rows.append({**common, **published})
    return pd.DataFrame(rows, dtype=object).fillna("")


def _cells(measured: Mapping[str, Any]) -> dict[str, str]:
    """Recalls in percent with their intervals, by their headings."""
    ends = measured["interval"].items()
    return {RECALL_HEADINGS[key]: f"{100 * measured[key]:.2f} [{100 * low:.1f}, {100 * high:.1f}]" for key, (low, high) in ends}
