"""The trainings behind the paper's tables, as commands: which one makes which published row."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.study.published import TABLE8_VARIANT, published

Values = dict[str, Any]  # of a configuration
Line = dict[Any, Any]  # of a published table

# What differs from the `paper` preset, which is GeoDTR+.
GEODTR: Values = {"gle": "v1", "backbone": "resnet34", "ffn_width": 2048, "normalisation": "half", "sampling": "LS"}
_METHODS: dict[str, Values] = {"GeoDTR+": {}, "GeoDTR": GEODTR}
# Table IV by layout extractor, backbone and CHSG, with the letter of a footnote.
_TABLE4: dict[tuple[str, str, int], tuple[Values, str]] = {
    ("v1", "ResNet-34", 0): (GEODTR, ""),
    ("v1", "ResNet-34", 1): ({"gle": "v1", "backbone": "resnet34", "ffn_width": 2048}, "d"),
    ("v2", "ResNet-34", 0): ({"backbone": "resnet34", "sampling": "LS"}, ""),
    ("v2", "ResNet-34", 1): ({"backbone": "resnet34"}, ""),
    ("v2", "ConvNeXt-T", 0): ({"sampling": "raw"}, "c"),
    ("v2", "ConvNeXt-T", 1): ({}, ""),
}
_TABLE6: dict[tuple[str, int], Values] = {
    ("Raw", 32): {"sampling": "raw"},
    ("LS", 32): {"sampling": "LS"},
    ("LS", 64): {"sampling": "LS", "batch_size": 64},
    ("CHSG", 32): {},
}
# What makes two runs the same model, trained the same way on whatever data. The length of training is not compared.
_COMPARED = (
    "model", "backbone", "gle", "n_desc", "bottleneck", "activation", "heads", "layers", "ffn_width", "ground_size", "aerial_size", "polar",
    "normalisation", "sampling", "semantic", "loss", "batch_size", "fov", "heading", "counterfactual_weight", "alpha", "beta", "pretrained",
    "frozen_stride", "share_backbone", "gle_start", "consistency_weight", "batches", "keep_repeats",
)  # fmt: skip


@dataclass(frozen=True)
class PublishedRow:
    """A row that the paper printed.

    Attributes:
        table: e.g. ``Table IV``.
        label: what the row says of the model.
        area: where the training's ``metrics.json`` has it, e.g. ``cvact:cvact``.
        recalls: percent, by the names of ``metrics.json``.
        note: letter of a footnote of ``docs/published.md``, or empty.
    """

    table: str
    label: str
    area: str
    recalls: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True)
class Training:
    """One training of the paper and the rows that it gives.

    Attributes:
        name: of its run folder.
        values: what differs from the ``paper`` preset.
        rows: in the order of the tables.
    """

    name: str
    values: Values
    rows: list[PublishedRow] = field(default_factory=list)

    @property
    def test_areas(self) -> list[str]:
        """Areas that its rows need besides the one that it is trained on."""
        return [area for area in dict.fromkeys(row.area for row in self.rows) if area != self.config().train_area]

    def config(self) -> RunConfig:
        """The configuration, without folders of data."""
        return resolve_config("paper", **self.values)

    def command(self) -> str:
        """The command that trains and evaluates it, with the data sets in ``data/``."""
        dataset = self.values["dataset"]
        words = ["papermill", "notebooks/ablation.ipynb", f"runs/{self.name}.ipynb", "-p", "preset", "paper"]
        for name, value in {**self.values, "data_root": f"data/{dataset.upper()}", "run_dir": f"runs/{self.name}"}.items():
            words += ["-p", name, str(value)]
        if self.test_areas:
            words += ["-p", "test_areas", ",".join(self.test_areas)]
        if others := sorted({area.partition(":")[0] for area in self.test_areas if ":" in area}):
            words += ["-y", "test_roots: {" + ", ".join(f"{other}: data/{other.upper()}" for other in others) + "}"]
        return shlex.join(words)


def trainings() -> list[Training]:
    """Every training of Tables I to VI and VIII that is GeoDTR or GeoDTR+."""
    found: dict[str, Training] = {}
    for values, row in _rows():
        name = _name(values)
        found.setdefault(name, Training(name, values)).rows.append(row)
    return list(found.values())


def printed_rows() -> list[tuple[str, PublishedRow]]:
    """Every published row, in the order of the tables, with the name of its training."""
    return [(_name(values), row) for values, row in _rows()]


def matching_rows(config: RunConfig, trained_on: str, area: str) -> list[tuple[str, Mapping[str, float]]]:
    """The published rows of a model on an area.

    Args:
        config: of the model; ``dataset`` is the one that it is tested on.
        trained_on: ``dataset:area`` that it was trained on.
        area: area of ``config.dataset``.

    Returns:
        Tables that print it, as text, and recalls in percent; nothing where the paper has no such model, training or test.
    """
    home = trained_on.partition(":")[0]
    wanted = area if config.dataset == home else f"{config.dataset}:{area}"
    tables: dict[tuple[tuple[str, float], ...], list[str]] = defaultdict(list)
    for training in trainings():
        paper = training.config()
        if f"{paper.dataset}:{paper.train_area}" != trained_on or any(getattr(paper, name) != getattr(config, name) for name in _COMPARED):
            continue
        for row in training.rows:
            if row.area == wanted:
                tables[tuple(row.recalls.items())].append(row.table)
    return [(", ".join(dict.fromkeys(names)), dict(recalls)) for recalls, names in tables.items()]


def _rows() -> Iterator[tuple[Values, PublishedRow]]:
    """Every row with the values of the training that makes it."""
    for line in _ours("table1_same_area"):
        dataset = line["dataset"].lower().removesuffix("_val").removesuffix("_test")
        area = line["dataset"].lower().removesuffix("_val")
        label = f"{line['method']}, {_polar_label(line)}, {line['dataset']}"
        yield _released(line, dataset), PublishedRow("Table I", label, area, _recalls(line), "a" if area == "cvact_test" else "")
    for line in _ours("table2_cross_area"):
        dataset, target = line["task"].lower().split("->")
        label = f"{line['method']}, {_polar_label(line)}, {line['task'].replace('->', ' → ')}"
        yield _released(line, dataset), PublishedRow("Table II", label, f"{target}:{target}", _recalls(line))
    for line in _ours("table3_vigor"):
        values = {**_released(line, "vigor"), "train_area": line["protocol"]}
        yield values, PublishedRow("Table III", f"{line['method']}, {line['protocol']}-area", line["protocol"], _recalls(line), "b")
    for line in _lines("table4_gle_chsg_backbone"):
        values, note = _TABLE4[line["gle"], line["backbone"], line["chsg"]]
        label = f"GLE {line['gle']}, {line['backbone']}, {'with' if line['chsg'] else 'without'} CHSG"
        yield _ablation("Table IV", label, line, values, note)
    for line in _lines("table5_descriptor_count"):
        yield _ablation("Table V", f"{line['n_desc']} descriptors", line, {"n_desc": line["n_desc"]} if line["n_desc"] != 8 else {})
    for line in _lines("table6_chsg_over_ls"):
        label = f"{line['sampling']}, batch of {line['batch_size']}"
        yield _ablation("Table VI", label, line, _TABLE6[line["sampling"], line["batch_size"]])
    samplings = {variant: sampling for sampling, variant in TABLE8_VARIANT.items()}
    for line in _lines("table8_chsg_variants"):
        sampling = samplings[line["variant"]]
        note = "e" if line["variant"].endswith("only") else ""
        yield _ablation("Table VIII", line["variant"], line, {"sampling": sampling} if sampling != "L+S" else {}, note)


def _ablation(table: str, label: str, line: Line, values: Values, note: str = "") -> tuple[Values, PublishedRow]:
    """A row of the tables that compare trainings on one data set, tested on it and on the other."""
    dataset = line["train_dataset"].lower()
    other = {"cvusa": "cvact", "cvact": "cvusa"}[dataset]
    area = dataset if line["protocol"] == "same" else f"{other}:{other}"
    target = line["train_dataset"] if line["protocol"] == "same" else f"{line['train_dataset']} → {other.upper()}"
    return {"dataset": dataset, **values}, PublishedRow(table, f"{label}, {target}", area, _recalls(line), note)


def _released(line: Line, dataset: str) -> Values:
    return {"dataset": dataset, **({} if line.get("polar", 1) else {"polar": False}), **_METHODS[line["method"]]}


def _polar_label(line: Line) -> str:
    return "polar transform" if line["polar"] else "no polar transform"


def _lines(table: str) -> list[Line]:
    lines: list[Line] = published(table).to_dict("records")
    return lines


def _ours(table: str) -> list[Line]:
    """The lines of GeoDTR and GeoDTR+."""
    return [line for line in _lines(table) if line["method"] in _METHODS]


def _recalls(line: Line) -> dict[str, float]:
    return {name: line[name] for name in ("r1", "r5", "r10", "r1pct", "hit_rate") if name in line}


def _name(values: Values) -> str:
    """A run's name, made of what differs from GeoDTR+ on the data set."""
    geodtr = GEODTR.items() <= values.items()
    words = [values["dataset"], values.get("train_area", ""), "geodtr" if geodtr else "geodtr-plus"]
    words += [] if values.get("polar", True) else ["no-polar"]
    for name, form in {"gle": "gle-{}", "backbone": "{}", "n_desc": "{}-descriptors", "sampling": "{}", "batch_size": "batch-{}"}.items():
        if name in values and not (geodtr and name in GEODTR):
            words.append(form.format(values[name]).lower().replace("+", "-"))
    return "-".join(word for word in words if word)
