"""The trainings that compare methods: each with and without layout simulation and CHSG, at one budget; options beyond the paper; less view.

Every run of a preset sees the same number of pairs in the same number of steps: CHSG has two views of B places in a batch, and what has one
view has 2B places in a batch and twice the epochs. Every method stands on the preset's trunk, so that methods are compared and
not trunks. Methods are trained by their own loss; GeoDTR+, SAFA and Sample4Geo by the other contrastive loss too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.errors import ConfigError
from geodtr_lib.models import NEEDS_HEADING
from geodtr_lib.sampling import policy_named
from geodtr_lib.study.paper_grid import SEEDS, dataset_and_area, run_key

GRIDS = ("methods", "options", "views")
DEFAULT_GRIDS = GRIDS[:2]
AREAS = ("city:midrise", "osm:helsinki")
SAMPLINGS = ("raw", "LS", "L+S")

# Name in the tables -> what makes the method.
METHODS: dict[str, dict[str, Any]] = {
    "GeoDTR+": dict(model="geodtr"),
    "GeoDTR": dict(model="geodtr", gle="v1"),
    "SAFA": dict(model="safa"),
    "Sample4Geo": dict(model="sample4geo"),
    "TransGeo": dict(model="transgeo"),
    "L2LTR": dict(model="l2ltr"),
    "DSM": dict(model="dsm"),
    "CVM-Net": dict(model="cvm_net"),
    "CVFT": dict(model="cvft"),
    "Liu & Li": dict(model="liu_li"),
    "VIGOR": dict(model="vigor"),
    "SEH-style": dict(model="safa", loss="highlighted"),
}
# The other contrastive loss of the three methods that stand for their kinds.
OTHER_LOSS: dict[str, dict[str, Any]] = {
    "GeoDTR+, InfoNCE": dict(model="geodtr", loss="infonce", temperature=0.07, learn_temperature=True, label_smoothing=0.1),
    "SAFA, InfoNCE": dict(model="safa", loss="infonce", temperature=0.07, learn_temperature=True, label_smoothing=0.1),
    "Sample4Geo, triplet": dict(model="sample4geo", loss="triplet"),
}
_INFONCE = dict(loss="infonce", temperature=0.07, learn_temperature=True)
# What may make GeoDTR+ with CHSG stronger, one at a time and then together.
OPTIONS: dict[str, dict[str, Any]] = {
    "GeoDTR+": {},
    "InfoNCE, learnt temperature": _INFONCE,
    "similar places in a batch": dict(batches="similar"),
    "four views": dict(sampling="L+S4"),
    "one trunk for both views": dict(share_backbone=True),
    "descriptors that turn": dict(consistency_weight=1.0),
    "InfoNCE, similar places": {**_INFONCE, "batches": "similar"},
    "InfoNCE, smoothed labels, similar places": {**OTHER_LOSS["GeoDTR+, InfoNCE"], "batches": "similar"},
    "InfoNCE, one trunk": {**_INFONCE, "share_backbone": True},
    "InfoNCE, one trunk, descriptors that turn": {**_INFONCE, "share_backbone": True, "consistency_weight": 1.0},
}

# What one part adds: in words, the option with it, the option without it. Smoothed labels are in the other loss of GeoDTR+.
STEPS = (
    ("InfoNCE instead of the triplet loss", "InfoNCE, learnt temperature", "GeoDTR+"),
    ("smoothed labels, with InfoNCE", "GeoDTR+, InfoNCE", "InfoNCE, learnt temperature"),
    ("similar places in a batch", "similar places in a batch", "GeoDTR+"),
    ("similar places in a batch, with InfoNCE", "InfoNCE, similar places", "InfoNCE, learnt temperature"),
    ("similar places in a batch, with InfoNCE and smoothed labels", "InfoNCE, smoothed labels, similar places", "GeoDTR+, InfoNCE"),
    ("four views of half as many places", "four views", "GeoDTR+"),
    ("one trunk for both views", "one trunk for both views", "GeoDTR+"),
    ("one trunk for both views, with InfoNCE", "InfoNCE, one trunk", "InfoNCE, learnt temperature"),
    ("descriptors that turn", "descriptors that turn", "GeoDTR+"),
    ("descriptors that turn, with InfoNCE and one trunk", "InfoNCE, one trunk, descriptors that turn", "InfoNCE, one trunk"),
)
# The first option that was chosen by what seeds 0, 2 and 3 had shown of its parts: they do not speak for it.
CHOSEN_ON = {"InfoNCE, smoothed labels, similar places": (0, 2, 3)}


# Degrees of the panorama that a query shows, without being told where north is.
VIEWS = (360.0, 180.0, 90.0, 70.0)


def _view_cells(methods: Iterable[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Each method trained and tested with less view and unknown heading; what must be told the heading has less view only.

    By raw pairs, as their papers train them: a panorama that may look anywhere is turned anew each time as it is.
    """
    cells = []
    for name in methods:
        told = METHODS[name]["model"] in NEEDS_HEADING
        for fov in VIEWS:
            if not (told and fov == 360):  # that is in the grid of methods
                cells.append(("views", name, {**METHODS[name], "sampling": "raw", "fov": fov, "heading": "north" if told else "random"}))
    return cells


@dataclass(frozen=True)
class MethodRun:
    """One training.

    Attributes:
        grid: of ``GRIDS``.
        method: its name in the tables.
        area: ``dataset:area`` that is trained on.
        seed: of training and data.
        config: the whole of it, without a folder.
    """

    grid: str
    method: str
    area: str
    seed: int
    config: RunConfig = field(repr=False)

    @property
    def key(self) -> str:
        """16 hex digits of everything that makes the run's numbers, but for the machine."""
        return run_key(self.config)

    @property
    def name(self) -> str:
        """Readable and unique, also as a folder's name."""
        words = "".join(letter if letter.isalnum() else "-" for letter in f"{self.area}-{self.method}-{self.config.sampling}")
        return f"{words}-seed{self.seed}-{self.key[:6]}"

    def in_folder(self, runs_dir: str | Path) -> RunConfig:
        """The configuration with its own folder in ``runs_dir``."""
        return self.config.replace(run_dir=str(Path(runs_dir) / self.name))


def equal_budget(config: RunConfig) -> RunConfig:
    """The same configuration at the budget of CHSG with two views: as many views in a batch, and as many of them altogether.

    ``batch_size`` and ``epochs`` are taken as those of two views. The warm-up keeps its number of steps.

    Raises:
        ConfigError: a batch or a number of epochs that the views do not divide, or fewer than two places in a batch.
    """
    views = policy_named(config.sampling).views
    share = Fraction(2, views)  # of the places in a batch, relative to two views
    batch, epochs = config.batch_size * share, config.epochs * share
    for name, value in (("batch_size", batch), ("epochs", epochs)):
        if value.denominator != 1:
            raise ConfigError(f"{name}: {getattr(config, name)} of two views cannot be made one of {views} views at the same budget")
    if batch < 2:
        raise ConfigError(f"batch_size: {config.batch_size} is too small for {views} views of at least two places")
    return config.replace(batch_size=int(batch), epochs=int(epochs), warmup_epochs=float(config.warmup_epochs * share))


def method_grid(
    preset: str = "study",
    seeds: Sequence[int] = SEEDS,
    areas: Sequence[str] = AREAS,
    grids: Sequence[str] = DEFAULT_GRIDS,
    methods: Iterable[str] = (),
    samplings: Sequence[str] = SAMPLINGS,
    **others: Any,
) -> list[MethodRun]:
    """Every training, ordered so that a part of it is of use: seed by seed, within a seed area by area.

    Args:
        preset: whose trunk, sizes, batch and epochs are taken.
        seeds: one independent city, survey and training each.
        areas: ``dataset:area`` of each training; tested are all areas of the data set.
        grids: ``methods``: all methods x ``samplings``; ``options``: GeoDTR+ with CHSG and what may make it stronger; ``views``: all
            methods with raw pairs and limited views of unknown heading.
        methods: names in either grid, to take only these; empty = all.
        samplings: of the grid of methods.
        others: values for every run alike.

    Raises:
        ConfigError: an unknown name or value.
    """
    known = {*METHODS, *OTHER_LOSS, *OPTIONS}
    wanted = set(methods) or known
    if unknown := sorted(wanted - known):
        raise ConfigError(f"methods: {unknown[0]!r} is not known; allowed: {', '.join([*METHODS, *OTHER_LOSS, *OPTIONS])}")
    if unknown := sorted(set(grids) - set(GRIDS)):
        raise ConfigError(f"grids: {unknown[0]!r} is not known; allowed: {', '.join(GRIDS)}")
    cells: list[tuple[str, str, dict[str, Any]]] = []
    if "methods" in grids:
        named = {**METHODS, **OTHER_LOSS}
        cells += [("methods", name, {**named[name], "sampling": sampling}) for name in named if name in wanted for sampling in samplings]
    if "options" in grids:
        cells += [("options", name, {"model": "geodtr", "sampling": "L+S", **OPTIONS[name]}) for name in OPTIONS if name in wanted]
    if "views" in grids:
        cells += _view_cells(name for name in METHODS if name in wanted)
    runs: dict[str, MethodRun] = {}
    for seed in seeds:
        for area in areas:
            dataset, inner = dataset_and_area(area)
            for grid, name, values in cells:
                base = resolve_config(
                    preset, **{"dataset": dataset, "train_area": inner, "seed": seed, "data_seed": seed, **values, **others}
                )
                base = base.replace(epochs=base.epochs + base.epochs % 2)  # of which four views take half
                run = MethodRun(grid, name, area, seed, equal_budget(base))
                runs.setdefault(run.key, run)  # GeoDTR+ with CHSG is in both grids, and is run once
    return list(runs.values())
