"""The study's grid: what each cell changes, what it costs, in which order it is run, and that a run keeps its name."""

from __future__ import annotations

import pytest

from geodtr_lib.config import RunConfig
from geodtr_lib.errors import ConfigError
from geodtr_lib.sampling import policy_named
from geodtr_lib.study.paper_grid import AREAS, CELLS, REFERENCE, TABLES, cell_named, cells_of, paper_grid, run_key
from geodtr_lib.study.published import published

EXTRA = [cell.name for cell in cells_of(["extra"])]


def steps_and_views(config: RunConfig) -> tuple[int, int, float]:
    """Steps, views and warm-up steps of a training on exactly n_train places."""
    steps_per_epoch = config.n_train // config.batch_size
    steps = config.epochs * steps_per_epoch
    return steps, steps * config.batch_size * policy_named(config.sampling).views, config.warmup_epochs * steps_per_epoch


def test_every_published_row_has_its_cell() -> None:
    assert len(cells_of(["V"])) == published("table5_descriptor_count")["n_desc"].nunique()
    assert len(cells_of(["VI"])) == len(published("table6_chsg_over_ls")) // 2
    assert {cell.values["n_desc"] for cell in cells_of(["V"])} == set(published("table5_descriptor_count")["n_desc"])
    # The text describes LS for a row of Table VIII that the table does not have.
    assert {cell.values["sampling"] for cell in cells_of(["VIII"])} == {"raw", "L", "S", "LS", "L+sameS", "sameL+S", "L+S"}
    four = {(cell.values["gle"], cell.values["backbone"], cell.values["sampling"]) for cell in cells_of(["IV"])}
    assert len(four) == len(cells_of(["IV"])) == 8
    assert all(REFERENCE in [cell.name for cell in cells_of([table])] for table in TABLES if table != "extra")


def test_ls_at_equal_views_has_the_steps_and_views_and_warm_up_of_chsg() -> None:
    common = dict(n_train=640, batch_size=16, epochs=4)
    reference = cell_named(REFERENCE).config("city:midrise", preset="small", **common)
    assert steps_and_views(cell_named("ls-2b").config("city:midrise", preset="small", **common)) == steps_and_views(reference)
    equal_batch = steps_and_views(cell_named("ls").config("city:midrise", preset="small", **common))
    assert equal_batch == (steps_and_views(reference)[0], steps_and_views(reference)[1] / 2, steps_and_views(reference)[2])


@pytest.mark.parametrize(
    ("first", "second", "samplings"),
    [
        *((name.removesuffix("-ls-2b"), name, ("L+S", "LS")) for name in EXTRA if name.endswith("-ls-2b")),
        ("raw-2b", "ls-2b", ("raw", "LS")),
        ("few-raw-2b", "few-ls-2b", ("raw", "LS")),
    ],
)
def test_the_arms_of_the_extra_grid_differ_in_the_sampling_alone(first: str, second: str, samplings: tuple[str, str]) -> None:
    common = dict(n_train=640, batch_size=16, epochs=4)
    arms = [cell_named(arm).config("city:midrise", preset="small", **common) for arm in (first, second)]
    assert tuple(arm.sampling for arm in arms) == samplings
    assert steps_and_views(arms[0]) == steps_and_views(arms[1])
    own = {"sampling", "batch_size", "epochs", "warmup_epochs"}
    values = [{key: value for key, value in arm.to_dict().items() if key not in own} for arm in arms]
    assert values[0] == values[1]


def test_fewer_and_more_places_are_trained_for_as_many_steps() -> None:
    common = dict(n_train=640, batch_size=16, epochs=4)
    names = (REFERENCE, "few", "many", "long")
    steps = {name: steps_and_views(cell_named(name).config("city:midrise", preset="small", **common)) for name in names}
    assert steps["few"] == steps["many"] == steps[REFERENCE]
    assert steps["long"][0] == 2 * steps[REFERENCE][0]


def test_a_part_of_the_grid_is_of_use() -> None:
    runs = paper_grid("smoke", seeds=(0, 1))
    base = [run for run in runs if run.cell.tables != ("extra",)]
    assert runs[: len(base)] == base, "the extra grid comes last"
    assert {run.seed for run in base[: len(base) // 2]} == {0}
    assert {run.area for run in base[:17]} == {AREAS[0]}
    assert {run.cell.name for run in base[:4]} == {REFERENCE, "ls-2b", "ls", "raw"}
    assert {run.area for run in runs[len(base) :]} == {"city:midrise", "city:oldtown"}
    assert len({run.key for run in runs}) == len({run.name for run in runs}) == len(runs), "each run once"
    assert [run.cell.name for run in paper_grid("smoke", (0,), ["osm:monaco"], ["V"])] == [REFERENCE, "k2", "k4", "k6"]


def test_a_seed_is_a_city_and_a_training() -> None:
    first, second = (cell_named(REFERENCE).config("city:oldtown", seed, "smoke") for seed in (0, 1))
    assert (first.seed, first.data_seed, second.seed, second.data_seed) == (0, 0, 1, 1)


def test_a_key_is_of_what_makes_the_numbers() -> None:
    config = cell_named(REFERENCE).config("city:midrise", 0, "smoke")
    key = run_key(config)
    assert key == run_key(config.replace(run_dir="elsewhere", device="cpu", precision="fp32", workers=3, checkpoint_minutes=1.0))
    assert key == run_key(config.replace(preset="another name for the same values"))
    changed = [config.replace(**change) for change in ({"seed": 1}, {"n_desc": 4}, {"lr": 0.5}, {"n_train": 65}, {"sampling": "LS"})]
    assert len({key, *map(run_key, changed)}) == 6


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="'nine' is not known; allowed: reference"):
        cell_named("nine")
    with pytest.raises(ConfigError, match="tables: 'IX' is not known; allowed: IV, V, VI, VIII, extra"):
        paper_grid("smoke", tables=["IX"])
    with pytest.raises(ConfigError, match="write it as dataset:area"):
        paper_grid("smoke", areas=["midrise"])
    with pytest.raises(ConfigError, match=r"n_train: 0 \(all places\) cannot be multiplied by 1/4, as the cell 'few' asks"):
        cell_named("few").config("osm:monaco", 0, "smoke", n_train=0)


def test_names_are_fit_for_folders_and_no_two_are_alike() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    assert all(set(cell.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789+-") for cell in CELLS)
