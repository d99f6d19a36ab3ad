"""docs/published.md: every published row of GeoDTR and GeoDTR+ has a command, and every command can be run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import papermill.cli
import pytest
import yaml

from geodtr_lib import study
from geodtr_lib.config import resolve_config
from geodtr_lib.study.commands import GEODTR, printed_rows
from geodtr_lib.training import protocol_of


@pytest.fixture(scope="module")
def document(repository: Path) -> str:
    return (repository / "docs" / "published.md").read_text()


def as_papermill(command: str) -> dict[str, Any]:
    """The parameters that papermill passes on."""
    words = iter(shlex.split(command)[3:])
    parameters: dict[str, Any] = {}
    for option in words:
        if option == "-p":
            name = next(words)
            parameters[name] = papermill.cli._resolve_type(next(words))
        else:
            assert option == "-y"
            parameters |= yaml.safe_load(next(words))
    return parameters


def test_the_document_is_up_to_date(document: str) -> None:
    assert document == study.published_document(), "run `python -m geodtr_lib.study published`"


def test_every_command_of_the_document_makes_the_run_that_its_rows_name(document: str, repository: Path) -> None:
    commands = re.findall(r"^### (\S+)\n\n```sh\n(.+)\n```$", document, flags=re.MULTILINE)
    assert [name for name, _ in commands] == [training.name for training in study.trainings()]
    for (name, command), training in zip(commands, study.trainings(), strict=True):
        notebook, output = shlex.split(command)[1:3]
        assert (repository / notebook).is_file()
        assert output == f"runs/{name}.ipynb"
        config = resolve_config(**as_papermill(command))
        assert config.run_dir == f"runs/{name}"
        where = ("data_root", "run_dir", "test_areas", "test_roots")
        assert {key: value for key, value in config.to_dict().items() if key not in where} == {
            key: value for key, value in training.config().to_dict().items() if key not in where
        }
        tested = {config.train_area, *config.test_areas}
        assert {row.area for row in training.rows} == tested
        assert {area.partition(":")[0] for area in tested if ":" in area} == set(config.test_roots)
        assert {config.data_root, *config.test_roots.values()} <= {"data/CVUSA", "data/CVACT", "data/VIGOR"}


def test_no_two_trainings_are_the_same_run() -> None:
    configs = [training.config().to_dict() for training in study.trainings()]
    assert len({str(config) for config in configs}) == len(configs) == len({training.name for training in study.trainings()})


@pytest.mark.parametrize(
    ("table", "published_table"),
    [
        ("Table I", "table1_same_area"), ("Table II", "table2_cross_area"), ("Table III", "table3_vigor"),
        ("Table IV", "table4_gle_chsg_backbone"), ("Table V", "table5_descriptor_count"), ("Table VI", "table6_chsg_over_ls"),
        ("Table VIII", "table8_chsg_variants"),
    ],
)  # fmt: skip
def test_every_printed_row_of_ours_is_there_once(table: str, published_table: str, document: str) -> None:
    printed = study.published(published_table)
    if "method" in printed:
        printed = printed[printed["method"].isin(["GeoDTR", "GeoDTR+"])]
    rows = [row for _, row in printed_rows() if row.table == table]
    keys = [key for key in ("r1", "r5", "r10", "r1pct", "hit_rate") if key in printed]
    assert [tuple(row.recalls[key] for key in keys) for row in rows] == list(printed[keys].itertuples(index=False, name=None))
    assert len({row.label for row in rows}) == len(rows)
    section = document.split(f"\n## {table}\n")[1].split("\n## ")[0]
    assert len([line for line in section.splitlines() if line.startswith("| ")]) == len(rows) + 2


def test_rows_are_of_the_protocol_that_their_table_says() -> None:
    configs = {training.name: training.config() for training in study.trainings()}
    for name, row in printed_rows():
        cross = "→" in row.label or "cross" in row.label
        assert protocol_of(configs[name], row.area) == ("cross" if cross else "same"), row


def test_settings_of_a_few_rows_known_by_heart() -> None:
    values = {(row.table, row.recalls["r1"]): training.values for training in study.trainings() for row in training.rows}
    assert values["Table II", 61.17] == {"dataset": "cvusa"}
    assert values["Table II", 29.85] == {"dataset": "cvact", "polar": False, **GEODTR}
    assert values["Table III", 36.01] == {"dataset": "vigor", "train_area": "cross"}
    assert values["Table IV", 53.65] == {"dataset": "cvusa", "sampling": "raw"}  # the Raw row of Tables VI and VIII, not LS
    assert values["Table V", 52.75] == {"dataset": "cvact", "n_desc": 4}
    assert values["Table VI", 57.18] == {"dataset": "cvusa", "sampling": "LS", "batch_size": 64}
    assert values["Table VIII", 59.16] == {"dataset": "cvusa", "sampling": "sameL+S"}
    assert GEODTR["normalisation"] == "half"


def test_links_lead_to_runs_and_notes_are_explained(document: str) -> None:
    anchors = {heading.strip().lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", document, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", document)) <= anchors
    used = {row.note for _, row in printed_rows() if row.note}
    assert used == set(re.findall(r"^([a-z])\. ", document, flags=re.MULTILINE))
