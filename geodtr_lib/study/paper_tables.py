"""The paper's tables as text: published, and measured beside it; Markdown and LaTeX, every number from a row of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from geodtr_lib.study.measured import cell_difference, cell_summary, differences_by_training
from geodtr_lib.study.paper_grid import REFERENCE, cell_named, chsg_against_ls
from geodtr_lib.study.published import TABLE8_VARIANT, published
from geodtr_lib.study.report import RECALL_HEADINGS
from geodtr_lib.study.results import t_interval
from geodtr_lib.study.tables import PROTOCOLS, SHARE, Table, with_interval

# Trunk here: how it is called, and the published one that it stands beside.
_TRUNKS = {
    "efficientnet_lite0_small": ("EfficientNet-Lite0, ImageNet", "ConvNeXt-T"),
    "resnet18_small": ("ResNet-18, scratch", "ResNet-34"),
}
_REFERENCES = {"resnet18_small": "resnet18"}  # Table IV compares layout extractors on one trunk; elsewhere the reference is REFERENCE
# Rows in the paper's order.
_ROWS = {
    "IV": ("resnet18-v1-ls", "resnet18-v1", "resnet18-ls", "resnet18", "v1-ls", "v1", "ls", REFERENCE),
    "V": (REFERENCE, "k6", "k4", "k2"),
    "VI": ("raw", "ls", "ls-2b", REFERENCE),
    "VIII": ("raw", "s", "samel+s", "l", "l+sames", "ls", REFERENCE),
}
_TABLE_FILES = {
    "IV": "table4_gle_chsg_backbone", "V": "table5_descriptor_count", "VI": "table6_chsg_over_ls", "VIII": "table8_chsg_variants",
}  # fmt: skip
_TITLES = {
    "IV": "layout extractor, CHSG and trunk",
    "V": "number of descriptors",
    "VI": "raw pairs, LS and CHSG",
    "VIII": "variants of CHSG",
}
_RAW_NOTE = (
    "Published ConvNeXt-T rows without CHSG have on CVUSA the very numbers of the Raw rows of Tables VI and VIII (95.77 / 53.65), "
    "although the text says that all rows of Table IV use LS; the clean step from LS to CHSG is 58.62 to 61.17."
)


def direction(measured: Mapping[str, Any], printed: float) -> str:
    """Does a measured difference point where the published one does? ``open`` while its interval holds 0."""
    mean, low, high = (float(measured.get(key, np.nan)) for key in ("mean", "low", "high"))
    if np.isnan(mean) or np.isnan(printed) or printed == 0:
        return "–"
    towards = "as published" if np.sign(mean) == np.sign(printed) else "opposite"
    return towards if low > 0 or high < 0 else f"open ({towards})"


def published_table(name: str, title: str, notes: Sequence[str] = ()) -> Table:
    """One of the published tables, as printed."""
    frame = published(name).rename(columns=RECALL_HEADINGS)
    numbers = set(RECALL_HEADINGS.values())
    rows = [[f"{value:.2f}" if column in numbers else str(value) for column, value in row.items()] for row in frame.to_dict("records")]
    return Table(name, title, [str(column).replace("_", " ") for column in frame], rows, notes)


def published_tables() -> list[Table]:
    """Tables I to III, as printed."""
    return [
        published_table("table1_same_area", "Table I, published: same-area R@k in percent"),
        published_table("table2_cross_area", "Table II, published: cross-area R@k in percent"),
        published_table("table3_vigor", "Table III, published: VIGOR, R@k and hit rate in percent"),
    ]


def comparison_table(table: str, runs: pd.DataFrame, dataset: str, efficiency: pd.DataFrame | None = None) -> Table:
    """Table IV, V, VI or VIII as measured on one data set, with the published numbers beside it.

    Args:
        table: ``IV``, ``V``, ``VI`` or ``VIII``.
        runs: as :func:`geodtr_lib.study.measured.study_table` gives them.
        dataset: ``city`` or ``osm``.
        efficiency: rows of ``efficiency.csv``, for the search time in Table V.
    """
    frame = runs[runs["dataset"] == dataset]
    means = cell_summary(frame).set_index(["cell", "protocol"]).to_dict("index")
    cells = [cell_named(name) for name in _ROWS[table]]
    against = {cell.name: _REFERENCES.get(cell.values["backbone"], REFERENCE) if table == "IV" else REFERENCE for cell in cells}
    gains = {name: cell_difference(frame, name).set_index(["cell", "protocol"]).to_dict("index") for name in set(against.values())}
    printed = {cell.name: {name: _printed(table, cell.values, cell.batch, name) for name in PROTOCOLS} for cell in cells}
    rows = []
    for cell in cells:
        row = _labels(table, cell.values, cell.batch)
        if table == "V":
            row |= _sizes(frame, cell.name, cell.values["n_desc"], efficiency)
        for protocol in PROTOCOLS:
            own = against[cell.name]
            mean, gain = (found.get((cell.name, protocol), {}) for found in (means, gains[own]))
            row[f"{protocol}-area"] = with_interval(mean, limits=SHARE)
            row[f"{protocol}: minus reference"] = "reference" if cell.name == own else with_interval(gain, sign=True)
            numbers = printed[cell.name][protocol]
            step = float((numbers - printed[own][protocol]).mean()) if len(numbers) else np.nan
            row[f"{protocol}: published"] = " / ".join(f"{number:.2f}" for number in numbers) or "–"
            row[f"{protocol}: published difference"] = "–" if cell.name == own or np.isnan(step) else f"{step:+.2f}"
            row[f"{protocol}: direction"] = "" if cell.name == own else direction(gain, step)
        row["n"] = str(int(means.get((cell.name, "cross"), {}).get("n", 0)))
        rows.append(row)
    notes = [
        f"R@1 in percent: mean [95 % t-interval] over n trainings ({_trainings(frame)}); differences are paired training by training.",
        "Published: trained on CVUSA" + (" / CVACT." if table in ("IV", "V") else "."),
    ]
    if table in ("IV", "VI", "VIII"):
        notes.append(_RAW_NOTE)
    if table == "VI":
        notes.append("LS with 2B has twice the places in a batch and twice the epochs: steps and views as of CHSG. Raw and LS see half.")
        notes.append("Published LS with 64 had the epochs of LS with 32: half the steps, and half of CHSG's views.")
    if table == "IV":
        notes.append("The pretrained trunk stands beside ConvNeXt-T, the one from scratch beside ResNet-34; each has its own reference.")
        notes.append("GLE v1 has the feed-forward width of v2 (512) here, and 2048 in the paper.")
    columns = list(rows[0])
    title = f"Table {table}, {_TITLES[table]}: measured on {dataset}, published beside it"
    return Table(f"{_TABLE_FILES[table]}_{dataset}", title, columns, [[row[column] for column in columns] for row in rows], notes)


def extra_table(runs: pd.DataFrame, dataset: str = "city") -> Table:
    """What makes the step from LS to CHSG appear: CHSG minus LS at equal views under each condition of the extra grid."""
    pairs = {setting: (ls, chsg) for setting, (chsg, ls) in chsg_against_ls().items()}
    title = f"Extra grid: CHSG against LS at equal views, measured on {dataset}"
    return _arms_table(f"extra_chsg_over_ls_{dataset}", title, runs[runs["dataset"] == dataset], pairs, ("LS (2B)", "CHSG"))


def raw_table(runs: pd.DataFrame, dataset: str = "city") -> Table:
    """What LS adds to raw pairs at the views of CHSG, and whether it is a matter of how often a place is seen."""
    pairs = {"as the reference": ("raw-2b", "ls-2b"), "a quarter of the places, same steps": ("few-raw-2b", "few-ls-2b")}
    title = f"Extra grid: LS against raw pairs at equal views, measured on {dataset}"
    return _arms_table(f"extra_ls_over_raw_{dataset}", title, runs[runs["dataset"] == dataset], pairs, ("raw (2B)", "LS (2B)"))


def _arms_table(name: str, title: str, frame: pd.DataFrame, pairs: Mapping[str, tuple[str, str]], labels: tuple[str, str]) -> Table:
    """Two cells under each condition, and the second minus the first training by training."""
    rows = []
    for setting, (first, second) in pairs.items():
        row = {"condition": setting}
        for protocol in PROTOCOLS:
            values = differences_by_training(frame, second, first, "r1", protocol)
            both = frame[(frame["protocol"] == protocol) & frame["training"].isin(values.index.get_level_values("training"))]
            means = cell_summary(both, by=["cell"]).set_index("cell").to_dict("index") if len(values) else {}
            row[f"{protocol}: {labels[0]}"] = with_interval(means.get(first, {}), limits=SHARE)
            row[f"{protocol}: {labels[1]}"] = with_interval(means.get(second, {}), limits=SHARE)
            row[f"{protocol}: {labels[1]} minus {labels[0]}"] = with_interval(t_interval(values), sign=True) if len(values) else "–"
        row["n"] = str(len(values))
        rows.append(row)
    notes = [f"R@1 in percent; mean [95 % t-interval] over n trainings that have both arms ({_trainings(frame)})."]
    return Table(name, title, list(rows[0]), [list(row.values()) for row in rows], notes)


def _labels(table: str, values: Mapping[str, Any], batch: int) -> dict[str, str]:
    if table == "IV":
        chsg = "with" if values["sampling"] == "L+S" else "LS, without"
        return {"GLE": values["gle"], "trunk": _TRUNKS[values["backbone"]][0], "CHSG": chsg}
    if table == "V":
        return {"descriptors": str(values["n_desc"])}
    sampling = {"raw": "Raw", "L+S": "CHSG"}.get(values["sampling"], values["sampling"])
    if table == "VI":
        return {"sampling": sampling, "batch": f"{batch}B" if batch > 1 else "B"}
    return {"variant": TABLE8_VARIANT.get(values["sampling"], "LS")}


def _printed(table: str, values: Mapping[str, Any], batch: int, protocol: str) -> pd.Series:
    """R@1 of the published row that a cell stands beside, by training data set; empty where there is none."""
    rows = published(_TABLE_FILES[table])
    if table == "IV":
        trunk = _TRUNKS[values["backbone"]][1]
        chosen = (rows["gle"] == values["gle"]) & (rows["backbone"] == trunk) & (rows["chsg"] == int(values["sampling"] == "L+S"))
    elif table == "V":
        chosen = rows["n_desc"] == values["n_desc"]
    elif table == "VI":
        name = {"raw": "Raw", "L+S": "CHSG"}.get(values["sampling"], values["sampling"])
        chosen = (rows["sampling"] == name) & (rows["batch_size"] == 32 * batch)
    else:
        chosen = rows["variant"] == TABLE8_VARIANT.get(values["sampling"])
    return rows[chosen & (rows["protocol"] == protocol)].set_index("train_dataset")["r1"]


def _sizes(frame: pd.DataFrame, cell: str, n_desc: int, efficiency: pd.DataFrame | None) -> dict[str, str]:
    rows = frame[frame["cell"] == cell]
    sizes = {"dimension": "–", "embedding (bytes)": "–", "gallery (kB)": "–"}
    if len(rows):
        first = rows.iloc[0]
        sizes = {
            "dimension": str(first["dimension"]),
            "embedding (bytes)": f"{first['embedding_bytes']:,}",
            "gallery (kB)": f"{first['gallery_bytes'] / 1000:,.0f}",
        }
    names = ("GeoDTR+", f"GeoDTR+, {n_desc} descriptors")
    search = "–"
    if efficiency is not None and len(efficiency):
        found = efficiency[efficiency["model"].isin(names) & (efficiency["n_desc"] == n_desc)]
        search = " / ".join(f"{milliseconds:.2f}" for milliseconds in found["search_ms"]) or "–"
    dimension = published("table5_descriptor_count").set_index("n_desc")["dimension"]
    return {**sizes, "published dimension": str(dimension[n_desc].iloc[0]), "search, published dimension, among 8,884 (ms)": search}


def _trainings(frame: pd.DataFrame) -> str:
    areas, seeds = list(dict.fromkeys(frame["train_area"])), sorted(set(frame["seed"]))
    return f"{' and '.join(areas)}, {len(seeds)} seed{'s' if len(seeds) != 1 else ''}; {int(frame['n_gallery'].min())} places in a gallery"
