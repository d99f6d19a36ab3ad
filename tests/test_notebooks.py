"""The notebooks: built so that papermill, nbval and a reader can rely on them, and run as a user runs them.

``make test`` also runs every cell with nbval (``--nbval-lax``), which these tests do not repeat.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from geodtr_lib import study
from geodtr_lib.config import resolve_config
from geodtr_lib.paths import repository

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
ABLATION = next(path for path in NOTEBOOKS if path.stem == "ablation")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def parameters_of(path: Path) -> dict[str, Any]:
    """Names and defaults in the parameters cell, as Python reads them."""
    (cell,) = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    statements = ast.parse(cell.source).body
    assert all(isinstance(statement, ast.AnnAssign) for statement in statements), "only `name: type = value` lines"
    return {statement.target.id: ast.literal_eval(statement.value) for statement in statements}  # type: ignore[attr-defined]


# As it lies in the repository


@every_notebook
def test_outputs_name_nobodys_folders(path: Path) -> None:
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    said = [output.get("text", "") + "".join(map(str, output.get("data", {}).values())) for output in outputs]
    found = [match.group() for text in said for match in re.finditer(r"(?<![\w.:/])/(tmp|home|root|work|Users|mnt)/\S*", text)]
    assert not found, "run it with runs and cache below the repository, then `make strip`"


def test_strip_says_files_below_the_repository_from_there(tmp_path: Path) -> None:
    text = f"Result table: {repository()}/runs/a/recalls.csv, other: /data/recalls.csv"
    shown = nbformat.v4.new_output("display_data", {"text/plain": text})
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text=text), shown])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    assert study.strip(tmp_path / "a.ipynb")
    (cell,) = code_cells(tmp_path / "a.ipynb")
    assert [cell.outputs[0].text, cell.outputs[1].data["text/plain"]] == ["Result table: runs/a/recalls.csv, other: /data/recalls.csv"] * 2


@every_notebook
def test_papermill_sees_the_same_parameters_as_python(path: Path) -> None:
    seen = papermill.inspect_notebook(str(path))
    assert {name: ast.literal_eval(parameter["default"]) for name, parameter in seen.items()} == parameters_of(path)
    assert all(parameter["inferred_type_name"] in ("int", "float", "str", "bool", "list") for parameter in seen.values())
    assert all(parameter["help"] for parameter in seen.values()), "papermill --help-notebook explains each"


def test_the_ablation_has_the_promised_parameters_and_their_defaults_are_the_presets() -> None:
    parameters = parameters_of(ABLATION)
    promised = (
        "preset dataset data_root train_area test_areas backbone pretrained gle sampling n_desc polar loss epochs batch_size lr seed "
        "device run_dir resume model"
    )
    assert set(promised.split()) <= set(parameters)
    for preset in ("small", "smoke", "paper"):
        given = {name: value for name, value in parameters.items() if value not in (None, "")}
        assert resolve_config(preset, **given) == resolve_config(preset), "a notebook without arguments is the preset"


@every_notebook
def test_no_cell_binds_a_parameter_again(path: Path) -> None:
    parameters = parameters_of(path)
    for cell in code_cells(path):
        if "parameters" not in cell.metadata.get("tags", []):
            bound = {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            assert not bound & set(parameters), cell.source


@every_notebook
def test_the_kernel_is_the_one_that_every_environment_has(path: Path) -> None:
    metadata = read(path).metadata
    assert metadata.kernelspec.name == "python3"
    assert metadata.kernelspec.language == metadata.language_info.name == "python"


@every_notebook
def test_cells_are_short_and_define_nothing(path: Path) -> None:
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= 25, cell.source
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not any(isinstance(node, defined) for node in ast.walk(ast.parse(cell.source))), cell.source


@every_notebook
def test_text_explains_the_code(path: Path) -> None:
    cells = read(path).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    assert words > 10 * len(code_cells(path))


@every_notebook
def test_outputs_are_kept_whole_and_small(path: Path, tmp_path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run `make notebooks`"
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    assert path.stat().st_size < 1_000_000
    assert not study.strip(shutil.copy(path, tmp_path)), "run `make strip`"


def test_the_readme_lists_every_notebook(repository: Path) -> None:
    text = (repository / "notebooks" / "README.md").read_text()
    assert [path.name for path in NOTEBOOKS if f"]({path.name})" not in text] == []


# As a user runs it


def command(*arguments: str) -> subprocess.Popen[str]:
    """The papermill command at the smoke preset, on a single thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "papermill", "-k", "python3", *arguments],
        env=os.environ | {"GEODTR_PRESET": "smoke", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ABLATION.parent.parent)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Executed notebook and run folder of ``-p n_desc 4 -p test_areas '["suburb"]'``."""
    folder = tmp_path_factory.mktemp("papermill")
    given = {"n_desc": "4", "test_areas": '["suburb"]', "run_dir": str(folder / "run")}
    process = command(str(ABLATION), str(folder / "out.ipynb"), *(word for pair in given.items() for word in ("-p", *pair)))
    log, _ = process.communicate(timeout=300)
    assert process.returncode == 0, log
    return folder / "out.ipynb", folder / "run"


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    """What the same seed must give again."""
    train = {key: value for key, value in metrics["train"].items() if key not in ("seconds", "pairs_per_second")}
    config = {key: value for key, value in metrics["config"].items() if key != "run_dir"}
    return {"config": config, "train": train, "data": metrics["data"], "evaluation": metrics["evaluation"]}


@pytest.mark.notebooks
def test_an_injected_parameter_reaches_the_results(first_run: tuple[Path, Path]) -> None:
    notebook, run_dir = first_run
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["config"]["n_desc"] == 4
    assert metrics["config"]["preset"] == "smoke"
    assert "oldtown" not in metrics["evaluation"], "the list typed on the command line was understood"
    measured = metrics["evaluation"]["suburb"]
    assert 0 <= measured["r1"] <= measured["r5"] <= measured["r10"] <= 1
    assert measured["protocol"] == "cross"
    assert study.show(notebook) == study.report(run_dir), "what make ablation prints"
    assert (run_dir / "recalls.csv").is_file()


@pytest.mark.notebooks
def test_the_same_seed_gives_the_same_numbers_again(first_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODTR_PRESET", "smoke")
    study.execute(ABLATION, tmp_path / "out.ipynb", n_desc=4, test_areas=["suburb"], run_dir=tmp_path / "run")
    first, again = (json.loads((folder / "metrics.json").read_text()) for folder in (first_run[1], tmp_path / "run"))
    assert without_times(first) == without_times(again)


@pytest.mark.notebooks
def test_bad_input_ends_papermill_with_one_clear_line(tmp_path: Path) -> None:
    expected = {
        ("n_dsec", "4"): "ConfigError: unknown parameter 'n_dsec'; did you mean n_desc?",
        ("train_area", "atlantis"): "DatasetError: ",
    }
    outputs = [str(tmp_path / f"{number}.ipynb") for number in range(len(expected))]
    processes = {
        given: command(str(ABLATION), output, "--no-progress-bar", "-p", *given) for given, output in zip(expected, outputs, strict=True)
    }
    for given, process in processes.items():
        log, _ = process.communicate(timeout=300)
        assert process.returncode != 0
        last = log.rstrip().splitlines()[-1]
        assert last.startswith(expected[given]), log
        assert given[1] in last or given[0] in last
        assert "geodtr_lib/" not in log, "no traceback through the library"
