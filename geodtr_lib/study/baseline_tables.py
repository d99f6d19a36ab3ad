"""What the grid of methods found, as tables: recalls with intervals and cost, and what LS and CHSG change for each method."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.evaluation.cost import embedding_length
from geodtr_lib.models import build_model
from geodtr_lib.models.geodtr import count_parameters
from geodtr_lib.study.baseline_grid import CHOSEN_ON, METHODS, STEPS
from geodtr_lib.study.results import paired_difference, t_interval


def what_methods_cost(config: RunConfig) -> pd.DataFrame:
    """Parameters and embedding of every method on the trunk and at the sizes of a configuration.

    Returns:
        ``method``, ``parameters (M)``, ``besides the trunks (M)``, ``values`` of the embedding and ``embedding (bytes)`` as float32.
    """
    rows = []
    sizes = {name: getattr(config, name) for name in ("dataset", "backbone", "ground_size", "aerial_size", "polar", "fov", "n_desc")}
    for name, values in METHODS.items():
        given = resolve_config(config.preset, **{**sizes, "pretrained": False, **values})
        with torch.random.fork_rng(devices=[]):
            model = build_model(given).eval()
        count = count_parameters(model)
        dimension = embedding_length(model, given.aerial_size)
        own = count.whole - count.backbones
        rows.append([name, round(count.whole / 1e6, 2), round(own / 1e6, 2), dimension, 4 * dimension])
    return pd.DataFrame(rows, columns=["method", "parameters (M)", "besides the trunks (M)", "values", "embedding (bytes)"])


def universality(frame: pd.DataFrame, value: str = "r1", minus: str = "raw") -> pd.DataFrame:
    """What LS and CHSG add to each method's recall, seed by seed, with 95 % intervals, by training area and protocol.

    Args:
        frame: rows of ``results/methods/study.csv``.
        value: column to compare.
        minus: the sampling that the others are compared with.

    Returns:
        ``train_area``, ``protocol``, ``method``, ``sampling``, ``mean``, ``low``, ``high`` (differences, as fractions), ``n``,
        and ``helps``: yes, no (it harms) or undecided (the interval holds 0, or there are fewer than three seeds).
    """
    found = [
        paired_difference(part, "sampling", minus, value, within=["train_area", "protocol", "method"])
        for _, part in frame.groupby("method", sort=False)
        if part["sampling"].eq(minus).any() and part["sampling"].ne(minus).any()
    ]
    columns = ["train_area", "protocol", "method", "sampling", "mean", "low", "high", "n"]
    table = pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)
    table["helps"] = ["yes" if row.low > 0 else "no" if row.high < 0 else "undecided" for row in table.itertuples(index=False)]
    return table


def across_methods(frame: pd.DataFrame, value: str = "r1") -> pd.DataFrame:
    """What LS and CHSG add as the mean over methods, by training area and protocol, with 95 % t-intervals *over methods*.

    Each method counts once, trained by its own loss, on the seeds that all methods have (each is another city). The interval says what to
    expect of a further method on the same cities; it does not speak of further cities.

    Returns:
        ``train_area``, ``protocol``, ``sampling``, ``minus``, ``mean``, ``low``, ``high`` (as fractions), ``n`` methods, ``raised``:
        how many of them gained, and ``seeds`` as text.
    """
    own = frame[frame["method"].isin(list(METHODS))]
    rows = []
    for minus in ("raw", "LS"):
        for (area, sampling), _ in own.groupby(["train_area", "sampling"], sort=False):
            if sampling in ("raw", minus):
                continue
            arms = own[(own["train_area"] == area) & own["sampling"].isin([sampling, minus])]
            both = arms.groupby("method")["sampling"].nunique() == 2
            paired = seeds_in_common(arms[arms["method"].map(both)])
            single, seeds = universality(paired, value, minus), ", ".join(map(str, sorted(paired["seed"].unique())))
            for protocol, part in single.groupby("protocol", sort=False):
                found = t_interval(part["mean"])
                labels = {"train_area": area, "protocol": protocol, "sampling": sampling, "minus": minus}
                rows.append({**labels, **found, "n": int(found["n"]), "raised": int((part["mean"] > 0).sum()), "seeds": seeds})
    return pd.DataFrame(rows, columns=["train_area", "protocol", "sampling", "minus", "mean", "low", "high", "n", "raised", "seeds"])


def seeds_in_common(rows: pd.DataFrame, cell: Sequence[str] = ("method", "sampling")) -> pd.DataFrame:
    """The rows of those seeds that every cell of a table has, of the cells that are there; all rows where there is no such seed."""
    cells = rows.groupby(list(cell))["seed"].agg(set)
    common = set.intersection(*cells) if len(cells) else set()
    return rows[rows["seed"].isin(list(common))] if common else rows


def first_area(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one training area: recalls of another one are other recalls."""
    first = rows[["dataset", "train_area"]].iloc[0]
    return rows[(rows["dataset"] == first["dataset"]) & (rows["train_area"] == first["train_area"])]


def mixed_precision(frame: pd.DataFrame, by: str, pairs: Sequence[tuple[str, str]], within: Sequence[str]) -> tuple[int, int]:
    """How many of the paired trainings were computed in two precisions, and how many pairs there are.

    Args:
        frame: rows of ``results/methods/study.csv``.
        by: column that tells the two trainings of a pair apart.
        pairs: its values in them.
        within: columns in which the two agree.
    """
    runs = frame.drop_duplicates("run")
    found = [
        runs[runs[by] == first].merge(runs[runs[by] == second], on=list(within))[["precision_x", "precision_y"]] for first, second in pairs
    ]
    table = pd.concat(found) if found else pd.DataFrame(columns=["precision_x", "precision_y"])
    return int((table["precision_x"] != table["precision_y"]).sum()), len(table)


def against(frame: pd.DataFrame, reference: str = "GeoDTR+", value: str = "r1") -> pd.DataFrame:
    """Differences of each method to a reference method, seed by seed, both as they are in ``frame``.

    Returns:
        Columns as of :func:`universality`, with ``better`` for ``helps``; no row where the reference is not recorded.
    """
    if not frame["method"].eq(reference).any():
        return pd.DataFrame(columns=["train_area", "protocol", "method", "mean", "low", "high", "n", "better"])
    table = paired_difference(frame, "method", reference, value, within=["train_area", "protocol"])
    table["better"] = ["yes" if row.low > 0 else "no" if row.high < 0 else "undecided" for row in table.itertuples(index=False)]
    return table


def what_parts_add(options: pd.DataFrame) -> pd.DataFrame:
    """What each part of the options adds to what is trained without it, training by training, in each area and over all of them.

    Args:
        options: as :func:`options_rows` gives them. Seeds that an option was chosen on do not speak for it (``CHOSEN_ON``).

    Returns:
        ``part``, ``protocol``, ``train_area`` (empty = all, over trainings), ``mean``, ``low``, ``high`` (as fractions), ``n`` and
        ``seeds`` as text; no row of a part that has not both arms.
    """
    found = []
    for part, option, without in STEPS:
        arms = options[options["method"].isin([option, without]) & ~options["seed"].isin(CHOSEN_ON.get(option, ()))]
        if arms["method"].nunique() < 2:
            continue
        seeds = ", ".join(map(str, sorted(set.intersection(*arms.groupby("method")["seed"].agg(set)))))
        arms = arms.assign(training=arms["train_area"] + " " + arms["seed"].astype(str))
        single = paired_difference(arms, "method", without, within=["protocol", "train_area"])
        whole = paired_difference(arms, "method", without, within=["protocol"], over="training").assign(train_area="")
        found += [table.assign(part=part, seeds=seeds) for table in (single, whole)]
    columns = ["part", "protocol", "train_area", "mean", "low", "high", "n", "seeds"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def relative_seconds(frame: pd.DataFrame, reference: str = "GeoDTR+") -> pd.DataFrame:
    """Training time of each method as a multiple of a reference method's, area by area, of pairs of one seed, commit and machine.

    Only within such a pair is the time that of the method: a later commit may train faster, another machine always may.

    Returns:
        ``train_area``, ``method``, ``mean``, ``low``, ``high`` (95 % t-interval over pairs, NaN for fewer than three) and ``n``; no row of
        a method without a pair.
    """
    rows = []
    for area, part in frame.groupby("train_area", sort=False):
        wide = part.pivot_table("seconds", ["seed", "version_commit", "version_machine"], "method", sort=False)
        if reference in wide:
            ratios = wide.div(wide[reference], axis=0)
            found = {name: t_interval(ratios[name].dropna()) for name in ratios if name != reference and ratios[name].notna().any()}
            rows += [{"train_area": area, "method": name, **interval} for name, interval in found.items()]
    return pd.DataFrame(rows, columns=["train_area", "method", "mean", "low", "high", "n"])


def options_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the grid of options, and of the grid of methods GeoDTR+ by its own loss and by the other one.

    Without a word of its sampling an option is trained with CHSG; of those that are not, ``method`` names the sampling too.
    """
    in_methods = (frame["grid"] == "methods") & frame["method"].isin(["GeoDTR+", "GeoDTR+, InfoNCE"])
    rows = frame[in_methods | (frame["grid"] == "options")]
    other = (rows["grid"] == "methods") & (rows["sampling"] != "L+S")
    return rows.assign(method=rows["method"].where(~other, rows["method"] + ", " + rows["sampling"]))
