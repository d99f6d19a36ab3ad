"""The paper's claims, each as a comparison of recorded runs with a verdict by a rule that is stated beforehand.

A comparison gives one number per training (see :mod:`geodtr_lib.study.measured`); its mean has a 95 % t-interval. The verdict asks the
interval only:

===========  ================================================  =====================================================
kind         holds                                             does not hold
===========  ================================================  =====================================================
``more``     the whole interval is above 0                     it is not, and all of it is below the claim's margin
``same``     the whole interval lies within the margin of 0    the whole interval lies outside of it
``at most``  the whole interval is below the margin            the whole interval is above it
===========  ================================================  =====================================================

Otherwise, and with fewer than three trainings, the claim is undecided. The margin of ``more`` and ``same`` is the smallest effect that
would be of interest: one point of R@1 where a gain is claimed, two where none is.

On one data set the interval is over trainings: it speaks of further seeds in the same areas, and areas differ in what they answer. So for
both data sets together the unit is an area, the mean of its trainings: that interval speaks of further areas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from geodtr_lib.evaluation.hard_samples import HARD_LAYOUTS
from geodtr_lib.study.measured import differences_by_training, study_table
from geodtr_lib.study.paper_grid import REFERENCE, cells_of
from geodtr_lib.study.published import published
from geodtr_lib.study.records import PROBES, RUNS
from geodtr_lib.study.results import FEWEST, t_interval

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
BOTH = "both"
"""Name of all data sets together, whose unit is an area."""


@dataclass(frozen=True)
class Study:
    """The recorded tables that claims ask."""

    runs: pd.DataFrame
    probes: pd.DataFrame

    @classmethod
    def read(cls, folder: str | Path) -> Study:
        """The tables of a folder of results; see :func:`geodtr_lib.study.measured.study_table`."""
        return cls(study_table(folder, RUNS), study_table(folder, PROBES))


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes:
        name: short, for tables and links.
        statement: what the paper says.
        comparison: what is subtracted from what here, in words.
        values: one number per training, with index ``dataset`` and ``training`` ("midrise 0").
        kind: ``more``, ``same`` or ``at most``.
        margin: of the rule, in ``unit``.
        unit: ``points`` (of R@1 or area under the curve, in percent) or empty.
        printed: gives the same difference as the paper printed it; None where it printed none.
        printed_alike: ``printed`` is of the same comparison. LS(2B) takes as many steps as CHSG here; the paper's, with a batch of 64 for
            as many epochs, took half.
    """

    name: str
    statement: str
    comparison: str
    values: Callable[[Study], pd.Series]
    kind: str = "more"
    margin: float = 1.0
    unit: str = "points"
    printed: Callable[[], float] | None = None
    printed_alike: bool = True


def verdict(kind: str, margin: float, low: float, high: float, n: int) -> str:
    """The rule of the module's docstring."""
    if n < FEWEST:
        return UNDECIDED
    if kind == "more":
        return HOLDS if low > 0 else FAILS if high < margin else UNDECIDED
    if kind == "same":
        return HOLDS if -margin < low and high < margin else FAILS if low > margin or high < -margin else UNDECIDED
    if kind == "at most":
        return HOLDS if high < margin else FAILS if low > margin else UNDECIDED
    raise ValueError(f"kind: {kind!r} is not known; allowed: more, same, at most")


def claims_table(study: Study) -> pd.DataFrame:
    """Every claim on each data set, over trainings, and on both together, over areas; in the order of ``CLAIMS``.

    Returns:
        ``claim``, ``statement``, ``comparison``, ``kind``, ``margin``, ``unit``, ``published``, ``published_alike``, ``dataset``, ``mean``,
        ``low``, ``high``, ``n`` (trainings, or areas of both) and ``verdict``; a comparison without runs, or for both of one data set, has
        NaN and n = 0.
    """
    rows = []
    for claim in CLAIMS:
        values = claim.values(study)
        scale = 100.0 if claim.unit == "points" else 1.0
        printed = claim.printed() if claim.printed else None
        datasets = [*dict.fromkeys(study.runs["dataset"])]
        for dataset in [*datasets, *([BOTH] if len(datasets) > 1 else [])]:
            if values.empty:
                chosen = values
            elif dataset == BOTH:
                chosen = _by_area(values)
            else:
                chosen = values[values.index.get_level_values("dataset") == dataset]
            found = scale * t_interval(chosen.astype(float)) if len(chosen) else pd.Series(dtype=float)
            mean, low, high = (float(found.get(key, np.nan)) for key in ("mean", "low", "high"))
            rows.append({
                "claim": claim.name,
                "statement": claim.statement,
                "comparison": claim.comparison,
                "kind": claim.kind,
                "margin": claim.margin,
                "unit": claim.unit,
                "published": printed,
                "published_alike": claim.printed_alike,
                "dataset": dataset,
                "mean": mean,
                "low": low,
                "high": high,
                "n": len(chosen),
                "verdict": verdict(claim.kind, claim.margin, low, high, len(chosen)),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _by_area(values: pd.Series) -> pd.Series:
    """The mean of each area's trainings; nothing where they are all of one data set."""
    means = values.groupby([values.index.get_level_values("dataset"), _area_of(values)], sort=False).mean()
    return means if means.index.get_level_values("dataset").nunique() > 1 else means[:0]


def _area_of(values: pd.Series) -> pd.Index:
    return values.index.get_level_values("training").str.rsplit(" ", n=1).str[0].rename("area")


# Comparisons


def _recall(cell: str, reference: str, protocol: str) -> Callable[[Study], pd.Series]:
    return lambda study: differences_by_training(study.runs, cell, reference, "r1", protocol)


def _measure(cell: str, reference: str, column: str, *, table: str = "probes", sign: float = 1.0) -> Callable[[Study], pd.Series]:
    return lambda study: sign * differences_by_training(getattr(study, table), cell, reference, column)


def _of_cell(cell: str, measure: Callable[[pd.DataFrame], pd.Series]) -> Callable[[Study], pd.Series]:
    """What is measured on the probes of one cell, a mean of each training's test areas."""

    def values(study: Study) -> pd.Series:
        rows = study.probes[study.probes["cell"] == cell]
        return measure(rows).groupby([rows["dataset"], rows["training"]], sort=False).mean()

    return values


def _within(cell: str, first: str, second: str) -> Callable[[Study], pd.Series]:
    """Difference of two columns of one cell."""
    return _of_cell(cell, lambda rows: rows[first] - rows[second])


def _hard_samples(cell: str, reference: str) -> Callable[[Study], pd.Series]:
    columns = [f"auc_{kind}" for kind in HARD_LAYOUTS]
    return lambda study: differences_by_training(
        study.probes.assign(auc_hard=study.probes[columns].mean(axis=1)), cell, reference, "auc_hard"
    )


def _hard_as_unmatched(cell: str) -> Callable[[Study], pd.Series]:
    return _of_cell(cell, lambda rows: rows[[f"auc_{kind}" for kind in HARD_LAYOUTS]].mean(axis=1) - rows["auc_unmatched"])


def _per_doubling(protocol: str) -> Callable[[Study], pd.Series]:
    """Slope of R@1 over the binary logarithm of the number of descriptors, of each training that has them all."""

    def values(study: Study) -> pd.Series:
        names = [cell.name for cell in cells_of(["V"])]
        rows = study.runs[study.runs["cell"].isin(names) & (study.runs["protocol"] == protocol)]
        table = rows.groupby(["dataset", "training", "n_desc"], sort=False)["r1"].mean().unstack("n_desc").dropna()
        if table.shape[1] < len(names):
            return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=["dataset", "training"]))
        octave = np.log2(table.columns.to_numpy(float))
        octave -= octave.mean()
        slope: pd.Series = (table * octave).sum(axis=1) / (octave**2).sum()
        return slope

    return values


def _best_other(protocol: str) -> Callable[[Study], pd.Series]:
    """L+S minus the variant of Table VIII that is best on average, which favours the others; nothing until all of them have run."""

    def values(study: Study) -> pd.Series:
        others = [cell.name for cell in cells_of(["VIII"]) if cell.name != REFERENCE]
        found = [differences_by_training(study.runs, REFERENCE, name, "r1", protocol) for name in others]
        fewest: pd.Series = min(found, key=len)
        return fewest if fewest.empty else min(found, key=lambda differences: float(differences.mean()))

    return values


# What the paper printed


def _printed(table: str, protocol: str, first: dict[str, object], second: dict[str, object], share: float = 1.0) -> Callable[[], float]:
    """Mean over the paper's training data sets of one row's R@1 minus another's, times ``share``. Read when it is asked for."""

    def difference() -> float:
        rows = published(table)
        rows = rows[rows["protocol"] == protocol]

        def recall(row: dict[str, object]) -> pd.Series:
            chosen = rows[np.logical_and.reduce([rows[name] == value for name, value in row.items()])]
            return chosen.set_index(["train_dataset", *(["backbone"] if "backbone" in chosen else [])])["r1"]

        return share * float((recall(first) - recall(second)).mean())

    return difference


_VI, _VIII, _IV, _V = "table6_chsg_over_ls", "table8_chsg_variants", "table4_gle_chsg_backbone", "table5_descriptor_count"
_CHSG, _LS, _LS2, _RAW = ({"sampling": name, "batch_size": size} for name, size in (("CHSG", 32), ("LS", 32), ("LS", 64), ("Raw", 32)))
_V1, _V2 = ({"gle": name, "backbone": "ResNet-34"} for name in ("v1", "v2"))

_SHARE = 0.01  # of a variance: it cannot be negative, so being above 0 would say nothing

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "chsg-cross", "CHSG raises cross-area recall", "CHSG − LS at equal batch (CHSG sees twice the views), cross-area",
        _recall(REFERENCE, "ls", "cross"), printed=_printed(_VI, "cross", _CHSG, _LS),
    ),
    Claim(
        "chsg-cross-equal-views", "CHSG raises cross-area recall", "CHSG − LS(2B) at equal views and steps, cross-area",
        _recall(REFERENCE, "ls-2b", "cross"), printed=_printed(_VI, "cross", _CHSG, _LS2), printed_alike=False,
    ),
    Claim(
        "chsg-same", "CHSG barely moves same-area recall", "CHSG − LS at equal batch, same-area",
        _recall(REFERENCE, "ls", "same"), "same", 2.0, printed=_printed(_VI, "same", _CHSG, _LS),
    ),
    Claim(
        "chsg-same-equal-views", "CHSG barely moves same-area recall", "CHSG − LS(2B) at equal views and steps, same-area",
        _recall(REFERENCE, "ls-2b", "same"), "same", 2.0, printed=_printed(_VI, "same", _CHSG, _LS2), printed_alike=False,
    ),
    Claim(
        "ls-cross", "LS raises cross-area recall over raw pairs", "LS − raw, cross-area",
        _recall("ls", "raw", "cross"), printed=_printed(_VI, "cross", _LS, _RAW),
    ),
    Claim(
        "ls-cross-equal-views", "LS raises cross-area recall over raw pairs", "LS(2B) − raw(2B), cross-area",
        _recall("ls-2b", "raw-2b", "cross"),
    ),
    Claim(
        "ls-cross-few", "LS raises cross-area recall over raw pairs", "LS(2B) − raw(2B), a quarter of the places, same steps, cross-area",
        _recall("few-ls-2b", "few-raw-2b", "cross"),
    ),
    Claim(
        "gle-chsg", "GLE v2 beats v1 across areas", "v2 − v1, both with CHSG, pretrained trunk, cross-area",
        _recall(REFERENCE, "v1", "cross"),
    ),
    Claim(
        "gle-long", "GLE v2 beats v1 across areas", "v2 − v1, both with CHSG, pretrained trunk, twice the epochs, cross-area",
        _recall("long", "long-v1", "cross"),
    ),
    Claim(
        "gle-ls", "GLE v2 beats v1 across areas", "v2 − v1, both with LS, pretrained trunk, cross-area",
        _recall("ls", "v1-ls", "cross"),
    ),
    Claim(
        "gle-resnet-chsg", "GLE v2 beats v1 across areas", "v2 − v1, both with CHSG, ResNet, cross-area",
        _recall("resnet18", "resnet18-v1", "cross"),
        printed=_printed(_IV, "cross", {**_V2, "chsg": 1}, {**_V1, "chsg": 1}),
    ),
    Claim(
        "gle-resnet-ls", "GLE v2 beats v1 across areas", "v2 − v1, both with LS, ResNet, cross-area",
        _recall("resnet18-ls", "resnet18-v1-ls", "cross"),
        printed=_printed(_IV, "cross", {**_V2, "chsg": 0}, {**_V1, "chsg": 0}),
    ),
    Claim(
        "descriptors", "More descriptors are better", "R@1 per doubling of the number of descriptors (2 to 8), cross-area",
        _per_doubling("cross"), margin=0.5, printed=_printed(_V, "cross", {"n_desc": 8}, {"n_desc": 2}, 1 / 2),
    ),
    Claim(
        "descriptors-loss", "Two descriptors lose little", "8 − 2 descriptors, cross-area: at most 4 points",
        _recall(REFERENCE, "k2", "cross"), "at most", 4.0, printed=_printed(_V, "cross", {"n_desc": 8}, {"n_desc": 2}),
    ),
    Claim(
        "variant", "L+S is the best variant of CHSG", "L+S − the best of the other variants, cross-area",
        _best_other("cross"), printed=_printed(_VIII, "cross", {"variant": "L + S"}, {"variant": "same S + L"}),
    ),
    Claim(
        "variant-layout", "L+S is the best variant of CHSG", "L+S − the same layout with other augmentation, cross-area",
        _recall(REFERENCE, "samel+s", "cross"), printed=_printed(_VIII, "cross", {"variant": "L + S"}, {"variant": "S + same L"}),
    ),
    Claim(
        "variant-semantic", "L+S is the best variant of CHSG", "L+S − the same augmentation with other layout, cross-area",
        _recall(REFERENCE, "l+sames", "cross"), printed=_printed(_VIII, "cross", {"variant": "L + S"}, {"variant": "same S + L"}),
    ),
    Claim(
        "hard-samples", "CHSG moves hard samples away from the originals",
        "AUC of hard samples against originals, mean of four kinds: CHSG − LS(2B), all test areas",
        _hard_samples(REFERENCE, "ls-2b"),
    ),
    Claim(
        "hard-as-unmatched", "With CHSG hard samples are as far as unmatched pairs",
        "AUC of hard samples − AUC of unmatched pairs, with CHSG, all test areas",
        _hard_as_unmatched(REFERENCE), "same", 2.0,
    ),
    Claim(
        "between-images", "Descriptors depend on the image",
        f"share of the ground descriptors' variance that is between images (0 = fixed maps of position) − {_SHARE:g}, all test areas",
        _of_cell(REFERENCE, lambda rows: rows["between_images_ground"] - _SHARE), margin=_SHARE, unit="",
    ),
    Claim(
        "alignment", "Descriptors of the two views align", "correlation of matched − of shuffled pairs, unrolled tiles, all test areas",
        _within(REFERENCE, "alignment_matched", "alignment_shuffled"), margin=0.02, unit="",
    ),
    Claim(
        "alignment-square", "Descriptors align without the polar transform, too",
        "correlation of matched − of shuffled pairs, square tiles unrolled afterwards, all test areas",
        _within("square", "alignment_matched", "alignment_shuffled"), margin=0.02, unit="",
    ),
    Claim(
        "concentration", "Descriptors of GLE v2 are more concentrated than those of v1",
        "entropy of ground descriptors, v1 − v2, all test areas",
        _measure("v1", REFERENCE, "entropy_ground"), margin=0.02, unit="",
    ),
    *(
        Claim(
            f"loss-{cell}", "The loss of CHSG is higher than that of the other samplings", f"triplet loss of the last epoch, CHSG − {name}",
            _measure(REFERENCE, cell, "final_triplet_loss", table="runs"), margin=0.001, unit="",
        )
        for cell, name in (("raw", "raw"), ("ls", "LS"), ("ls-2b", "LS(2B)"))
    ),
)  # fmt: skip
"""In the order of the tables. Where the paper prints no number, ``printed`` is None."""
