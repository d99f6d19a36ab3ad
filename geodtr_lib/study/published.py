"""The paper's tables, and which of their rows a configuration corresponds to."""

from __future__ import annotations

import pandas as pd

from geodtr_lib.config import RunConfig
from geodtr_lib.errors import ConfigError
from geodtr_lib.paths import PACKAGE, published_table

# The names of Table VIII for our sampling names (Sections III-D and III-E).
TABLE8_VARIANT = {"raw": "Raw", "S": "S only", "L": "L only", "sameL+S": "S + same L", "L+sameS": "same S + L", "L+S": "L + S"}


def published(name: str) -> pd.DataFrame:
    """One of the paper's tables, e.g. ``published("table5_descriptor_count")``. Recalls are percentages, as printed.

    Raises:
        ConfigError: an unknown table.
    """
    path = published_table(name)
    if not path.is_file():
        known = sorted(table.stem for table in (PACKAGE / "published").glob("*.csv"))
        raise ConfigError(f"unknown table {name!r}; known: {', '.join(known)}")
    return pd.read_csv(path)


def published_rows(config: RunConfig) -> pd.DataFrame:
    """The published recalls of the model that ``config`` describes, whatever data it is trained on here.

    Trunk and training length are not compared: the paper has one choice of each. Table V answers for the number of
    descriptors, IV for the first layout extractor, VI and VIII for the sampling, I and II for no polar transform, III for VIGOR.

    Returns:
        Columns ``table`` ("Table V"), ``data`` ("CVUSA -> CVACT"), ``protocol`` and ``r1 r5 r10 r1pct`` (VIGOR: ``hit_rate``) in
        percent; no rows where the paper has no such model.
    """
    rows = _matching(config)
    columns = ["table", "data", "protocol", "r1", "r5", "r10", "r1pct", *(["hit_rate"] if config.dataset == "vigor" else [])]
    if rows is None:
        return pd.DataFrame(columns=columns)
    if "data" not in rows:
        other = rows["train_dataset"].map({"CVUSA": "CVACT", "CVACT": "CVUSA"})
        rows = rows.assign(data=rows["train_dataset"].where(rows["protocol"] == "same", rows["train_dataset"] + " -> " + other))
    return rows[columns].reset_index(drop=True)


def _matching(config: RunConfig) -> pd.DataFrame | None:
    if config.model != "geodtr" or config.loss != "triplet" or config.fov < 360 or config.heading != "north":
        return None
    if config.dataset == "vigor":
        table = published("table3_vigor").assign(table="Table III", data="VIGOR")
        return table[table["method"] == _headline_method(config)]
    if not config.polar:
        return _without_polar(config)
    if config.n_desc != 8:
        table = published("table5_descriptor_count").assign(table="Table V")
        return table[table["n_desc"] == config.n_desc] if config.gle == "v2" and config.sampling == "L+S" else None
    if config.gle == "v1":
        table = published("table4_gle_chsg_backbone").assign(table="Table IV")
        chsg = {"L+S": 1, "LS": 0}.get(config.sampling, -1)
        return table[(table["gle"] == "v1") & (table["chsg"] == chsg)]
    if config.sampling == "LS":
        table = published("table6_chsg_over_ls").assign(table="Table VI")
        return table[(table["sampling"] == "LS") & (table["batch_size"] == (64 if config.batch_size >= 64 else 32))]
    table = published("table8_chsg_variants").assign(table="Table VIII")
    return table[table["variant"] == TABLE8_VARIANT.get(config.sampling)]


def _headline_method(config: RunConfig) -> str:
    """The row of the comparison with other methods (Tables I to III), or "" for what stands only in the ablations."""
    return {("v1", "LS", 8): "GeoDTR", ("v2", "L+S", 8): "GeoDTR+"}.get((config.gle, config.sampling, config.n_desc), "")


def _without_polar(config: RunConfig) -> pd.DataFrame:
    same = published("table1_same_area").assign(table="Table I", protocol="same").rename(columns={"dataset": "data"})
    cross = published("table2_cross_area").assign(table="Table II", protocol="cross").rename(columns={"task": "data"})
    cross["data"] = cross["data"].str.replace("->", " -> ")
    rows = pd.concat([same, cross])
    return rows[(rows["method"] == _headline_method(config)) & (rows["polar"] == 0)]
