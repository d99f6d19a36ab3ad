"""The trainings behind the measured Tables IV, V, VI and VIII: each cell named by what it changes of one reference, and run once.

The reference is GeoDTR+ as it can be trained here: GLE v2, eight descriptors, CHSG (`L+S`), a trunk with ImageNet weights. Cells of one
seed see the same city, the same survey and the same starting weights, so that they are compared pair by pair.

What a step costs differs between cells, so two comparisons of LS with CHSG are kept apart. ``ls`` has the reference's batch of B places:
equal steps, half the views. ``ls-2b`` has 2B places in a batch and twice the epochs: equal steps *and* equal views.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.errors import ConfigError
from geodtr_lib.files import digest
from geodtr_lib.run_folder import default_values

TABLES = ("IV", "V", "VI", "VIII", "extra")
AREAS = ("city:midrise", "city:oldtown", "osm:helsinki", "osm:monaco")
SEEDS = (0, 2, 3)
"""One independent city, survey and training each. Settings were chosen on cities of other seeds (1, 11, 12)."""
REFERENCE = "reference"
_REFERENCE: dict[str, Any] = {
    "gle": "v2",
    "n_desc": 8,
    "sampling": "L+S",
    "backbone": "efficientnet_lite0_small",
    "pretrained": True,
    "polar": True,
}
_RESNET = {"backbone": "resnet18_small", "pretrained": False}
# Where and how a run goes on, and what the machine decides: not part of what a run is.
_NOT_IDENTITY = frozenset({
    "preset", "run_dir", "resume", "checkpoint_minutes", "workers", "eval_batch_size", "data_root", "test_roots", "device", "precision",
    "channels_last", "compile",
})  # fmt: skip


def dataset_and_area(name: str) -> tuple[str, str]:
    """The two parts of ``dataset:area``.

    Raises:
        ConfigError: there is one only.
    """
    dataset, _, area = name.partition(":")
    if not area:
        raise ConfigError(f"area: {name!r} does not name its data set; write it as dataset:area, such as {AREAS[0]}")
    return dataset, area


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid.

    Attributes:
        name: short and stable; part of the results' rows.
        tables: of ``TABLES``, those that show it.
        changes: what differs from the reference.
        batch, epochs, places: factors on the preset's ``batch_size``, ``epochs`` and ``n_train``. The warm-up keeps its number of steps.
        setting: of the extra grid, what both arms (``LS`` at equal views, and ``L+S``) have in common; empty = as the reference.
    """

    name: str
    tables: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 1
    epochs: Fraction = Fraction(1)
    places: Fraction = Fraction(1)
    setting: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """Values of the configuration that do not depend on the preset."""
        return {**_REFERENCE, **self.changes}

    @property
    def equal_views(self) -> bool:
        """LS with twice the places in a batch: as many views and steps as CHSG."""
        return self.values["sampling"] == "LS" and self.batch == 2

    def config(self, area: str, seed: int = 0, preset: str = "", **others: Any) -> RunConfig:
        """The configuration of this cell.

        Args:
            area: ``dataset:area`` that is trained on; tested are all areas of the data set.
            seed: of the training, and of the embedded data.
            preset: of which batch size, epochs and places are multiplied; empty = ``$GEODTR_PRESET``, else ``small``.
            others: further values, for every cell alike.

        Raises:
            ConfigError: an unknown area or value, or places that cannot be multiplied.
        """
        dataset, inner = dataset_and_area(area)
        base = resolve_config(preset, **{"dataset": dataset, "train_area": inner, "seed": seed, "data_seed": seed, **self.values, **others})
        if self.places != 1 and not base.n_train:
            raise ConfigError(f"n_train: 0 (all places) cannot be multiplied by {self.places}, as the cell {self.name!r} asks")
        steps = Fraction(self.places, self.batch)  # of an epoch, relative to the reference's
        return base.replace(
            batch_size=base.batch_size * self.batch,
            epochs=max(1, round(base.epochs * self.epochs)),
            n_train=round(base.n_train * self.places),
            warmup_epochs=float(base.warmup_epochs / steps),
        )


def _arms(setting: str, name: str, changes: Mapping[str, Any] | None = None, **scale: Fraction) -> tuple[Cell, Cell]:
    """CHSG, and LS at equal views, both under one further condition."""
    changes, epochs, places = dict(changes or {}), scale.get("epochs", Fraction(1)), scale.get("places", Fraction(1))
    return (
        Cell(name, ("extra",), changes, 1, epochs, places, setting),
        Cell(f"{name}-ls-2b", ("extra",), {**changes, "sampling": "LS"}, 2, 2 * epochs, places, setting),
    )


# In the order in which they are run: what decides most comes first.
CELLS: tuple[Cell, ...] = (
    Cell(REFERENCE, ("IV", "V", "VI", "VIII")),
    Cell("ls-2b", ("VI",), {"sampling": "LS"}, 2, Fraction(2)),
    Cell("ls", ("IV", "VI", "VIII"), {"sampling": "LS"}),
    Cell("raw", ("VI", "VIII"), {"sampling": "raw"}),
    Cell("l+sames", ("VIII",), {"sampling": "L+sameS"}),
    Cell("samel+s", ("VIII",), {"sampling": "sameL+S"}),
    Cell("v1", ("IV",), {"gle": "v1"}),
    Cell("v1-ls", ("IV",), {"gle": "v1", "sampling": "LS"}),
    Cell("k2", ("V",), {"n_desc": 2}),
    Cell("l", ("VIII",), {"sampling": "L"}),
    Cell("s", ("VIII",), {"sampling": "S"}),
    Cell("k4", ("V",), {"n_desc": 4}),
    Cell("k6", ("V",), {"n_desc": 6}),
    # From scratch a trunk learns little in so few steps: v2 hardly begins to.
    Cell("resnet18", ("IV",), _RESNET),
    Cell("resnet18-ls", ("IV",), {**_RESNET, "sampling": "LS"}),
    Cell("resnet18-v1", ("IV",), {**_RESNET, "gle": "v1"}),
    Cell("resnet18-v1-ls", ("IV",), {**_RESNET, "gle": "v1", "sampling": "LS"}),
    # What makes the step from LS to CHSG appear? On the procedural cities, which have as many places as one asks for.
    *_arms("no polar transform", "square", {"polar": False}),
    *_arms("twice the epochs", "long", epochs=Fraction(2)),
    *_arms("a quarter of the places, same steps", "few", epochs=Fraction(4), places=Fraction(1, 4)),
    *_arms("twice the places, same steps", "many", epochs=Fraction(1, 2), places=Fraction(2)),
    *_arms("same trunk from scratch", "scratch", {"pretrained": False}),
    *_arms("weak semantic augmentation", "weak", {"semantic": "weak"}),
    *_arms("places that look alike in a batch", "alike", {"batches": "similar"}),
    *_arms("descriptors and their start as released", "released", {"activation": "", "gle_start": "released"}),
    Cell("resnet18-ls-2b", ("extra",), {**_RESNET, "sampling": "LS"}, 2, Fraction(2), setting="ResNet-18 from scratch"),
    Cell("square-v1", ("extra",), {"polar": False, "gle": "v1"}, setting="no polar transform, GLE v1"),
    # What LS adds to raw pairs, at the views of CHSG: is it a matter of how often a place is seen?
    Cell("raw-2b", ("extra",), {"sampling": "raw"}, 2, Fraction(2), setting="raw pairs"),
    Cell("few-raw-2b", ("extra",), {"sampling": "raw"}, 2, Fraction(8), Fraction(1, 4), setting="raw pairs, a quarter of the places"),
    # v2 has more to learn than v1, which reads one saliency map: does it come out ahead when there is more time?
    Cell("long-v1", ("extra",), {"gle": "v1"}, epochs=Fraction(2), setting="twice the epochs, GLE v1"),
)  # fmt: skip
_BY_NAME = {cell.name: cell for cell in CELLS}


@dataclass(frozen=True)
class GridRun:
    """One training of the grid."""

    cell: Cell
    area: str
    seed: int
    config: RunConfig

    @property
    def key(self) -> str:
        """What this run is, in 16 hex digits; see :func:`run_key`."""
        return run_key(self.config)

    @property
    def name(self) -> str:
        """Readable and unique, also as a folder's name."""
        return f"{self.area.replace(':', '-')}-{self.cell.name}-seed{self.seed}-{self.key[:6]}"

    def in_folder(self, runs_dir: str | Path) -> RunConfig:
        """The configuration with its own folder in ``runs_dir``."""
        return self.config.replace(run_dir=str(Path(runs_dir) / self.name))


def cell_named(name: str) -> Cell:
    """The cell of this name.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in _BY_NAME:
        raise ConfigError(f"cell: {name!r} is not known; allowed: {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def cells_of(tables: Iterable[str] = TABLES) -> list[Cell]:
    """The cells that these tables show, in the order in which they are run; each once.

    Raises:
        ConfigError: an unknown table.
    """
    wanted = set(tables)
    if unknown := sorted(wanted - set(TABLES)):
        raise ConfigError(f"tables: {unknown[0]!r} is not known; allowed: {', '.join(TABLES)}")
    return [cell for cell in CELLS if wanted & set(cell.tables)]


def chsg_against_ls() -> dict[str, tuple[str, str]]:
    """By condition, the cells of CHSG and of LS at equal views that differ in the sampling alone."""
    arms = {"as the reference": (REFERENCE, "ls-2b"), "ResNet-18 from scratch": ("resnet18", "resnet18-ls-2b")}
    for cell in cells_of(["extra"]):
        if cell.equal_views:
            arms.setdefault(cell.setting, (cell.name.removesuffix("-ls-2b"), cell.name))
    return arms


def paper_grid(
    preset: str = "",
    seeds: Sequence[int] = SEEDS,
    areas: Sequence[str] = AREAS,
    tables: Sequence[str] = TABLES,
    cells: Sequence[str] = (),
    **others: Any,
) -> list[GridRun]:
    """Every training that the tables need, ordered so that a part of it is of use.

    First come the tables' cells, seed by seed and within a seed area by area; then the extra grid, which is made on ``city`` only.

    Args:
        preset: as of :meth:`Cell.config`.
        seeds: one independent city, survey and training each.
        areas: ``dataset:area`` of each training.
        tables: of ``TABLES``.
        cells: names, to take only some of the tables' cells; empty = all.
        others: values for every run alike.

    Raises:
        ConfigError: an unknown name or value.
    """
    chosen = [cell for cell in cells_of(tables) if not cells or cell.name in {cell_named(name).name for name in cells}]
    parts = [cell for cell in chosen if cell.tables != ("extra",)], [cell for cell in chosen if cell.tables == ("extra",)]
    return [
        GridRun(cell, area, seed, cell.config(area, seed, preset, **others))
        for part, extra in zip(parts, (False, True), strict=True)
        for seed in seeds
        for area in areas
        for cell in part
        if not extra or area.startswith("city:")
    ]


def run_key(config: RunConfig) -> str:
    """16 hex digits of everything that makes a run's numbers, but for the machine.

    Only values that differ from a field's default count, so that a field added later does not make every earlier run another one.
    """
    defaults = default_values()
    return digest({name: value for name, value in config.to_dict().items() if name not in _NOT_IDENTITY and value != defaults[name]})
