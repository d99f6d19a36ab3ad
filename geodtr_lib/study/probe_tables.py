"""Tables of what was measured beside recall: efficiency (Table VII), hard samples (Figure 10), descriptors (Figures 7 and 8), claims."""

from __future__ import annotations

import pandas as pd

from geodtr_lib.evaluation.hard_samples import HARD_LAYOUTS
from geodtr_lib.study.claims import BOTH
from geodtr_lib.study.measured import cell_summary, differences_by_training
from geodtr_lib.study.paper_grid import REFERENCE
from geodtr_lib.study.published import published
from geodtr_lib.study.results import t_interval
from geodtr_lib.study.tables import SHARE, Table, with_interval

_CORRELATION, _CORRELATIONS = (-1.0, 1.0), ("alignment", "follows")


def efficiency_table(efficiency: pd.DataFrame) -> Table:
    """Table VII: published, and measured on every machine that has rows."""
    columns = ["model", "where", "parameters (M)", "of them backbones (M)", "multiply-adds (G)", "ms per pair", "ms per batch"]
    columns += ["embedding (bytes)", "gallery (MB)", "search (ms)"]
    rows = []
    for line in published("table7_efficiency").to_dict("records"):
        numbers = [f"{line['parameters_million']:.1f}", "–", f"{line['gflops']:.2f}", f"{line['inference_ms']}"]
        rows.append([line["method"], "published", *numbers, *["–"] * 4])
    for line in efficiency.to_dict("records"):
        rows.append([
            line["model"],
            f"{line['version_machine']}, {line['aerial_size']} px",
            f"{line['parameters'] / 1e6:.2f}",
            f"{line['backbone_parameters'] / 1e6:.2f}",
            f"{line['multiply_adds'] / 1e9:.2f}",
            f"{line['pair_ms']:.0f}" if line["pair_ms"] >= 10 else f"{line['pair_ms']:.1f}",
            f"{line['batch_ms']:.0f} ({line['batch']} pairs)",
            f"{line['embedding_bytes']:,}",
            f"{line['gallery_bytes'] / 1e6:.1f}",
            f"{line['search_ms']:.2f}",
        ])  # fmt: skip
    notes = [
        "The published 24.7 M parameters of GeoDTR+ are the two backbones alone; the whole model has 30.19 M. Of GeoDTR the whole counts.",
        "Multiply-adds of one pair are half of the floating point operations that torch.utils.flop_counter counts. They hold the layout "
        "extractors' transformers; without those GeoDTR+ comes to the published number, whose GFLOPS are multiply-adds.",
        "The printed 39.89 of GeoDTR is not found again: its two trunks, ResNet-34 without the max-pool, come to more by themselves.",
        "Times are medians of the measurements that fit into the given seconds, of a batch often a single one; a pair is both branches. "
        "Search: per query, of many at once, in a gallery of CVUSA's size (8,884), exact, embeddings in float32.",
    ]
    return Table("table7_efficiency", "Table VII, efficiency: published and measured", columns, rows, notes)


def hard_sample_table(probes: pd.DataFrame) -> Table:
    """Figure 10 as numbers: how well each kind of pair is told from the originals, with and without CHSG."""
    kinds = ("unmatched", *HARD_LAYOUTS)
    rows = []
    for dataset in dict.fromkeys(probes["dataset"]):
        frame = probes[probes["dataset"] == dataset]
        for name, label in (("raw", "raw"), ("ls", "LS"), ("ls-2b", "LS (2B)"), (REFERENCE, "CHSG")):
            if (frame["cell"] == name).any():
                found = [cell_summary(frame[frame["cell"] == name], f"auc_{kind}", ["cell"]).iloc[0] for kind in kinds]
                rows.append([dataset, label, *[with_interval(row, 1, 3, limits=SHARE) for row in found], str(int(found[0]["n"]))])
        gains = [differences_by_training(frame, REFERENCE, "ls-2b", f"auc_{kind}") for kind in kinds]
        if len(gains[0]):
            shown = [with_interval(t_interval(gain), 1, 3, True) for gain in gains]
            rows.append([dataset, "CHSG minus LS (2B)", *shown, str(len(gains[0]))])
    notes = [
        "Area under the curve of telling a kind of pair from the originals by its distance: 0.5 is chance, 1 is always. 200 places of "
        "every test area; mean [95 % t-interval] over n trainings.",
    ]
    return Table("fig10_hard_samples", "Figure 10 as numbers", ["data", "sampling", *kinds, "n"], rows, notes)


def descriptor_table(probes: pd.DataFrame) -> Table:
    """Figures 7 and 8 as numbers: alignment, concentration, and what descriptors follow."""
    measures = (
        ("alignment, matched", "alignment_matched"),
        ("alignment, shuffled", "alignment_shuffled"),
        ("between images, ground", "between_images_ground"),
        ("between images, aerial", "between_images_aerial"),
        ("entropy, ground", "entropy_ground"),
        ("entropy, aerial", "entropy_aerial"),
        ("active area, ground", "active_area_ground"),
        ("active area, aerial", "active_area_aerial"),
        ("nearness, ground", "follows_ground_nearness"),
        ("... of another place", "follows_ground_nearness_shuffled"),
        ("buildings, ground", "follows_ground_building"),
        ("... of another place", "follows_ground_building_shuffled"),
        ("buildings, aerial", "follows_aerial_building"),
        ("... of another place", "follows_aerial_building_shuffled"),
    )
    cells = {
        REFERENCE: "v2", "v1": "v1", "square": "v2, no polar", "square-v1": "v1, no polar", "ls-2b": "v2, LS (2B)",
        "released": "v2, range and start as released",
    }  # fmt: skip
    rows = []
    for dataset in dict.fromkeys(probes["dataset"]):
        for name, label in cells.items():
            frame = probes[(probes["dataset"] == dataset) & (probes["cell"] == name)]
            if len(frame):
                found = [cell_summary(frame, column, ["cell"]) for _, column in measures]
                limits = [_CORRELATION if column.startswith(_CORRELATIONS) else SHARE for _, column in measures]
                shown = [
                    with_interval(row.iloc[0], 1, 2, limits=ends) if len(row) else "–" for row, ends in zip(found, limits, strict=True)
                ]
                rows.append([dataset, label, *shown, str(frame["training"].nunique())])
    notes = [
        "Correlations over positions; between images: share of a descriptor's variance, 0 = a fixed map of positions; entropy relative "
        "to a uniform map, and share of positions at half the largest deviation or more. "
        "What descriptors follow is that of the best of the K; what it follows of another place's truth is what all pictures share. "
        "200 places of every test area; mean [95 % t-interval] over n trainings.",
    ]
    headings = ["data", "model", *[heading for heading, _ in measures], "n"]
    return Table("fig7_8_descriptors", "Figures 7 and 8 as numbers", headings, rows, notes)


def claim_table(claims: pd.DataFrame) -> Table:
    """The claims as :func:`geodtr_lib.study.claims.claims_table` gives them: one row each, the data sets beside each other."""
    datasets = list(dict.fromkeys(claims["dataset"]))
    rows = []
    for _, group in claims.groupby("claim", sort=False):
        first = group.iloc[0]
        scale_digits = 2 if first["unit"] == "points" else 3
        row = [first["statement"], first["comparison"], "–" if pd.isna(first["published"]) else f"{first['published']:+.2f}"]
        for dataset in datasets:
            found = group[group["dataset"] == dataset].iloc[0]
            difference = f"{with_interval(found, 1, scale_digits, True)}, n = {found['n']}"
            row += [difference, f"**{found['verdict']}**"] if found["n"] else ["–", "–"]
        rows.append(row)
    headings = [heading for dataset in datasets for heading in ("over areas" if dataset == BOTH else dataset, "verdict")]
    return Table("claims", "The paper's claims on this data", ["claim", "comparison", "published", *headings], rows)
