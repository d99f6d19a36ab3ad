"""The paper's figures from what is recorded: the rows and maps under ``results/``, and the published numbers. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from geodtr_lib import plots
from geodtr_lib.errors import RunError
from geodtr_lib.evaluation.descriptors import unroll_descriptors
from geodtr_lib.geometry import polar_transform
from geodtr_lib.plots.style import counted
from geodtr_lib.study.claims import BOTH
from geodtr_lib.study.grid_runner import loss_curve
from geodtr_lib.study.measured import cell_summary, differences_by_training, study_table
from geodtr_lib.study.paper_grid import REFERENCE, chsg_against_ls
from geodtr_lib.study.published import published
from geodtr_lib.study.records import CURVES, DISTANCES, MAPS_FOLDER, RUNS
from geodtr_lib.study.results import t_interval

SAMPLINGS = {"raw": "raw", "ls": "LS", "ls-2b": "LS (2B)", REFERENCE: "CHSG"}
"""Cells of Table VI and Figures 9 and 10, as they are called there."""
LOW_RECALL = 0.02
"""R@1 below which a difference of two arms says little, whatever its interval: the floor is chance, a fraction of a percent."""
_MODELS = {**SAMPLINGS, "v1-ls": "v1, LS", "resnet18": "ResNet-18, CHSG", "resnet18-v1-ls": "ResNet-18, v1, LS"}


def published_same_and_cross() -> pd.DataFrame:
    """R@1 in percent of every method that Tables I to III have both of: ``label``, ``group`` (trained on), ``same``, ``cross``."""
    same = published("table1_same_area").assign(group=lambda rows: rows["dataset"].str.removesuffix("_val"))
    cross = published("table2_cross_area").assign(group=lambda rows: rows["task"].str.split("->").str[0])
    both = same.merge(cross, on=["method", "polar", "group"], suffixes=("", "_cross"))
    both["label"] = both["method"] + both["polar"].map({1: "", 0: " (no polar)"})
    vigor = published("table3_vigor").pivot(index="method", columns="protocol", values="r1").reset_index()
    label = vigor["method"].where(~vigor["method"].isin(["TransGeo", "GeoDTR", "GeoDTR+"]), vigor["method"] + " (no polar)")
    return pd.concat(
        [
            both[["label", "group", "r1", "r1_cross"]].rename(columns={"r1": "same", "r1_cross": "cross"}),
            pd.DataFrame({"label": label, "group": "VIGOR", "same": vigor["same"], "cross": vigor["cross"]}),
        ],
        ignore_index=True,
    )


def measured_same_and_cross(runs: pd.DataFrame) -> pd.DataFrame:
    """The same of our cells, by training area, with intervals over seeds."""
    found = cell_summary(runs[runs["cell"].isin(_MODELS)], by=["cell", "dataset", "train_area", "protocol"])
    keys = ["cell", "dataset", "train_area", "protocol"]
    wide = found.set_index(keys)[["mean", "low", "high"]].mul(100).unstack("protocol")
    wide.columns = [name if measure == "mean" else f"{name}_{measure}" for measure, name in wide.columns]
    wide = wide.dropna(subset=["same", "cross"]).reset_index()
    wide = _in_order(wide, _MODELS)
    return wide.assign(label=wide["cell"].map(_MODELS), group=wide["dataset"] + " " + wide["train_area"])


def recalls(folder: str | Path) -> Figure:
    """Recall of each sampling on each data set, same-area and cross-area.

    Raises:
        RunError: no run is recorded.
    """
    runs = study_table(folder, RUNS)
    found = cell_summary(runs[runs["cell"].isin(SAMPLINGS)], by=["cell", "dataset", "protocol"])
    found = _in_order(found.sort_values(["dataset", "protocol"], ascending=[True, False], kind="stable"), SAMPLINGS)
    tested = found["dataset"] + ", " + found["protocol"] + "-area"
    return plots.recall_bars(found.assign(sampling=found["cell"].map(SAMPLINGS), tested=tested), "sampling", "tested")


def figure1(folder: str | Path) -> Figure:
    """Same-area against cross-area: published for all methods, measured for ours where there are runs."""
    panels = {"published": published_same_and_cross()}
    try:
        runs = study_table(folder, RUNS)
        panels[f"measured here ({_seeds(runs[runs['cell'].isin(_MODELS)])})"] = measured_same_and_cross(runs)
    except RunError:
        pass  # the published half stands for itself
    return plots.same_against_cross(panels)


def figure7(folder: str | Path, polar: bool = True, area: str = "city-midrise", index: int = 0, descriptors: int = 4) -> Figure:
    """Descriptors of one pair in both views; of a model of square tiles also unrolled (Fig. 7b).

    Raises:
        RunError: no maps are recorded of this model.
    """
    maps = recorded_maps(folder, f"{area}-{REFERENCE if polar else 'square'}")
    return plots.descriptor_columns(pair_columns(maps, index), range(min(descriptors, maps["ground_descriptors"].shape[1])))


def figure8(folder: str | Path, polar: bool = True, area: str = "city-midrise", index: int = 0) -> Figure:
    """The first two descriptors of GLE v1 and of v2, in the panorama's shape, with polar transform or without.

    Raises:
        RunError: no maps of both are recorded.
    """
    columns: list[tuple[str, Tensor, Tensor]] = []
    for cell, name in (("v1", "v1"), (REFERENCE, "v2")) if polar else (("square-v1", "v1"), ("square", "v2")):
        views = pair_columns(recorded_maps(folder, f"{area}-{cell}"), index)[-2:]
        columns += [(f"{name}, {title}", image, values) for title, image, values in views]
    return plots.descriptor_columns(columns, range(2), ["GLE v1", "GLE v1", "GLE v2", "GLE v2"])


def figure9(folder: str | Path) -> Figure:
    """Triplet loss of raw, LS, LS at equal views, and CHSG over the training's steps, of which all take the same number.

    Raises:
        RunError: no run is recorded.
    """
    curves = study_table(folder, CURVES)
    curves = curves[curves["cell"].isin(SAMPLINGS)]
    curves = _in_order(curves.assign(loss=curves["triplet_loss"], sampling=curves["cell"].map(SAMPLINGS)), SAMPLINGS)
    return plots.loss_bands({dataset: curves[curves["dataset"] == dataset] for dataset in dict.fromkeys(curves["dataset"])})


def training_losses(metrics: Mapping[str, Mapping[str, Any]], title: str) -> Figure:
    """Triplet losses of single trainings, as Figure 9 has them.

    Args:
        metrics: name of each training, and its ``metrics.json``.
        title: of the picture.
    """
    rows = [
        {"sampling": name, "step": point["step"], "loss": point["triplet_loss"], "training": 0}
        for name, found in metrics.items()
        for point in loss_curve(found["train"])
    ]
    return plots.loss_bands({title: pd.DataFrame(rows)})


def figure10(folder: str | Path, dataset: str = "city") -> Figure:
    """Distances of originals, unmatched pairs and hard samples, with and without CHSG, same-area and cross-area.

    Raises:
        RunError: no run on this data set is recorded.
    """
    rows = study_table(folder, DISTANCES)
    rows = rows[rows["dataset"] == dataset]
    if rows.empty:
        raise RunError(f"{Path(folder) / DISTANCES} has no run on {dataset} yet")
    rows = rows.assign(protocol=np.where(rows["area"] == rows["train_area"], "same", "cross"))
    panels = []
    for cell in ("ls-2b", REFERENCE):
        line = []
        for protocol in ("same", "cross"):
            chosen = rows[(rows["cell"] == cell) & (rows["protocol"] == protocol)]
            if len(chosen):
                kinds = {
                    kind: np.concatenate([np.array(text.split(), float) for text in part["distances"]])
                    for kind, part in chosen.groupby("kind", sort=False)
                }
                n = chosen["training"].nunique()
                line.append((f"{SAMPLINGS[cell]}, {protocol}-area, {n} training{'s' if n > 1 else ''}", kinds))
        if line:
            panels.append(line)
    if not panels:
        raise RunError(f"{Path(folder) / DISTANCES} has neither CHSG nor LS (2B) on {dataset} yet")
    return plots.distance_panels(panels)


def chsg_step(runs: pd.DataFrame) -> Figure:
    """CHSG minus LS at equal views, under each condition of the extra grid; hollow where both are so near to chance that little differs."""
    rows = []
    recalls = cell_summary(runs).set_index(["dataset", "cell", "protocol"])["mean"]
    for setting, (chsg, ls) in chsg_against_ls().items():
        for protocol in ("same", "cross"):
            values = differences_by_training(runs, chsg, ls, "r1", protocol)
            for dataset, part in values.groupby(level="dataset", sort=False):
                found = t_interval(100 * part)
                low = max(recalls[dataset, cell, protocol] for cell in (chsg, ls)) < LOW_RECALL
                row = {"label": f"{dataset}, {setting}", "group": f"{protocol}-area", **found, "n": int(found["n"]), "hollow": low}
                rows.append(row)
    if not rows:
        raise RunError("CHSG and LS at equal views have no training in common yet")
    hollow = f"R@1 below {100 * LOW_RECALL:g} % in both arms"
    return plots.intervals(pd.DataFrame(rows), "CHSG minus LS (2B), R@1 (points)", hollow=hollow)


def claim_differences(claims: pd.DataFrame) -> Figure:
    """The claims that are differences of R@1, with their intervals, the published differences, and the bounds that are not 0."""
    rows = claims[(claims["unit"] == "points") & ~claims["claim"].str.startswith("hard") & (claims["dataset"] != BOTH)]
    judged = zip(rows["kind"], rows["margin"], strict=True)
    bounds = [{"at most": [margin], "same": [-margin, margin]}.get(kind, []) for kind, margin in judged]
    return plots.intervals(rows.assign(label=rows["comparison"], group=rows["dataset"], bounds=bounds))


def recorded_maps(folder: str | Path, name: str) -> dict[str, np.ndarray]:
    """Descriptor maps that were kept of a run; see :func:`geodtr_lib.study.probes.example_maps`.

    Raises:
        RunError: there are none.
    """
    path = Path(folder) / MAPS_FOLDER / f"{name}.npz"
    if not path.is_file():
        raise RunError(f"{path} is not there yet; the study's grid makes it")
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def pair_columns(maps: dict[str, np.ndarray], index: int) -> list[tuple[str, Tensor, Tensor]]:
    """Columns of a pair: the tile (of a model of square tiles only), the unrolled tile, the panorama; each with its descriptors.

    Args:
        maps: as :func:`recorded_maps` gives them.
        index: of the pair.
    """
    tile, ground = torch.from_numpy(maps["aerial"][index]), torch.from_numpy(maps["ground"][index])
    aerial_maps, ground_maps = (torch.from_numpy(maps[f"{view}_descriptors"][index]).float() for view in ("aerial", "ground"))
    size = (ground.shape[-2], ground.shape[-1])
    if maps["polar"]:
        return [("unrolled tile", polar_transform(tile[None], size)[0], aerial_maps), ("panorama", ground, ground_maps)]
    flat = unroll_descriptors(aerial_maps[None], (ground_maps.shape[-2], ground_maps.shape[-1]), tile.shape[-1], size)[0]
    shown = ("unrolled afterwards", polar_transform(tile[None], size)[0], flat)
    return [("tile", tile, aerial_maps), shown, ("panorama", ground, ground_maps)]


def _in_order(rows: pd.DataFrame, cells: Mapping[str, str]) -> pd.DataFrame:
    """Rows in the order of these cells; those of one cell stay as they are."""
    place = {name: number for number, name in enumerate(cells)}
    return rows.iloc[rows["cell"].map(place).argsort(kind="stable")]


def _seeds(runs: pd.DataFrame) -> str:
    return counted(runs.groupby(["cell", "train_area"])["seed"].nunique())
