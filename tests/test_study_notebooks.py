"""Strict notebooks: what a parameter may be called and hold, and what a run leaves behind."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat import v4
from PIL import Image

from geodtr_lib import study
from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.errors import ConfigError, RunError

# Parameters of a notebook


def test_plain_variables_become_the_configuration() -> None:
    namespace = {"preset": "smoke", "n_desc": 4, "sampling": "raw", "epochs": None, "run_dir": "", "test_areas": []}
    assert study.notebook_parameters(namespace) == resolve_config("smoke", n_desc=4, sampling="raw")


def test_values_as_typed_on_the_command_line_are_understood() -> None:
    namespace = {"preset": "smoke", "test_areas": '["suburb", "oldtown"]', "polar": "false", "lr": "1e-4", "n_desc": "4"}
    config = study.notebook_parameters(namespace)
    assert (config.test_areas, config.polar, config.lr, config.n_desc) == (("suburb", "oldtown"), False, 1e-4, 4)


@pytest.mark.parametrize("value", [4, None, "x", [1], {}])
def test_a_misspelt_parameter_is_an_error_that_names_the_nearest(value: object) -> None:
    with pytest.raises(ConfigError, match="unknown parameter 'n_dsec'; did you mean n_desc") as caught:
        study.notebook_parameters({"n_dsec": value})
    assert caught.value._render_traceback_() == [f"ConfigError: {caught.value}"], "one line in a notebook, not a traceback"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_desc", 0, "n_desc: 0 .*greater than or equal to 1"),
        ("n_desc", "four", "n_desc: 'four' .*valid integer"),
        ("gle", "v3", "gle: 'v3' .*allowed: 'v1', 'v2'"),
        ("dataset", "cvusb", "dataset: 'cvusb' .*'cvusa'"),
        ("preset", "tiny", "preset: 'tiny' .*paper, small, study, smoke"),
    ],
)
def test_an_impossible_value_says_what_is_allowed(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        study.notebook_parameters({name: value})
    assert "\n" not in str(caught.value)


def test_what_a_notebook_holds_besides_parameters_is_no_parameter() -> None:
    namespace = {
        "preset": "smoke", "In": ["", "x"], "Out": {}, "_ih": [], "__name__": "__main__", "numpy": np, "path": Path(), "array": np.ones(3),
        "get_ipython": lambda: None, "RunConfig": RunConfig, "PAPERMILL_INPUT_PATH": "a.ipynb",
    }  # fmt: skip
    assert study.notebook_parameters(namespace) == resolve_config("smoke")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("a,b", ["a", "b"]), ('["GeoDTR+, InfoNCE", "SAFA"]', ["GeoDTR+, InfoNCE", "SAFA"]), ("fog", ["fog"]), (0, [0]), ("0,2", [0, 2]),
     ("0.5, 1", [0.5, 1]), ([1, 2], [1, 2]), ("", []), (None, [])],
)  # fmt: skip
def test_lists_of_the_notebooks_own_are_typed_as_any(typed: object, expected: list) -> None:
    namespace = {"preset": "smoke", "chosen": typed}
    study.given_parameters(namespace, lists=["chosen"])
    assert namespace["chosen"] == expected
    with pytest.raises(ConfigError, match=r"chosen: '\[a' is not a list"):
        study.given_parameters({"chosen": "[a"}, lists=["chosen"])


def test_a_value_that_a_notebook_does_not_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown parameter 'n_desc'"):
        study.given_parameters({"preset": "smoke", "n_desc": 4}, of_config=["preset"])
    assert study.given_parameters({"preset": "smoke"}, of_config=["preset"]) == {"preset": "smoke"}


def test_the_other_area_is_the_first_that_was_not_trained_on() -> None:
    assert study.other_area("city:midrise") == "suburb"
    assert study.other_area("city:midrise+suburb") == "highrise"
    assert study.other_area("osm:helsinki") == "monaco"
    with pytest.raises(ConfigError, match="cvusa has no other area"):
        study.other_area("cvusa:cvusa")


def test_a_notebook_may_have_parameters_of_its_own() -> None:
    with pytest.raises(ConfigError, match="n_queries"):
        study.notebook_parameters({"n_queries": 3})
    assert study.notebook_parameters({"preset": "smoke", "n_queries": 3}, extra=["n_queries"]) == resolve_config("smoke")


def test_the_cell_can_be_run_again_after_later_cells_made_variables() -> None:
    namespace: dict[str, Any] = {"preset": "smoke", "n_desc": 4}
    study.notebook_parameters(namespace)
    namespace |= {"area": "suburb", "n_desc": 2, "seed": 7}
    assert study.notebook_parameters(namespace) == resolve_config("smoke", n_desc=2, seed=7)


# Running notebooks


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """Writes its parameters, with their types, to the file that it is given."""
    cells = [
        v4.new_code_cell('target: str = ""  # file\nvalue: int = 1  # anything', metadata={"tags": ["parameters"]}),
        v4.new_code_cell("import pathlib\npathlib.Path(target).write_text(repr(value))\n1 / (value != 'fail')"),
    ]
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    path = tmp_path / "notebook.ipynb"
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_an_unknown_parameter_stops_before_anything_runs(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown parameter 'valeu'; did you mean value"):
        study.execute(notebook, tmp_path / "out" / "o.ipynb", valeu=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.notebooks
def test_parameters_arrive_as_what_they_are(notebook: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "o.ipynb"
    value = {"a": (1, np.float64(2.5)), "b": [None, True, Path("x")]}
    assert study.execute(notebook, output, target=tmp_path / "seen", value=value) == output
    assert (tmp_path / "seen").read_text() == "{'a': [1, 2.5], 'b': [None, True, 'x']}"
    assert [path.name for path in output.parent.iterdir()] == ["o.ipynb"]
    assert nbformat.read(output, 4).metadata.papermill.output_path == str(output)


@pytest.mark.notebooks
def test_a_failed_run_leaves_the_earlier_output_and_its_own_under_another_name(notebook: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.ipynb"
    output.write_text("earlier")
    with pytest.raises(RunError, match=r"notebook\.ipynb failed in cell \[3\]: ZeroDivisionError: .*o\.failed\.ipynb") as caught:
        study.execute(notebook, output, target=tmp_path / "seen", value="fail")
    assert "\n" not in str(caught.value)
    assert output.read_text() == "earlier"
    outputs = [output for cell in nbformat.read(tmp_path / "o.failed.ipynb", 4).cells for output in cell.get("outputs", [])]
    assert [output.ename for output in outputs] == ["ZeroDivisionError"]


def test_values_that_a_notebook_cannot_take_are_refused(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="value: .*cannot be passed"):
        study.execute(notebook, tmp_path / "o.ipynb", value=np.zeros)


def test_a_notebook_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no\.ipynb does not exist"):
        study.execute(tmp_path / "no.ipynb", tmp_path / "o.ipynb")


def test_an_output_that_cannot_be_written_is_found_before_the_run(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write"):
        study.execute(notebook, notebook / "o.ipynb", target=str(tmp_path / "seen"))
    assert not (tmp_path / "seen").exists()


def test_stripping_keeps_what_was_found_and_drops_what_tools_left(tmp_path: Path) -> None:
    bar = v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "0%"})
    found = [v4.new_output("stream", name="stdout", text="R@1 51"), v4.new_output("display_data", {"image/png": "aGk="})]
    cell = v4.new_code_cell("x", outputs=[bar, *found, v4.new_output("stream", name="stderr", text="50%")], execution_count=3)
    cell.metadata.update(papermill={"duration": 1}, execution={"iopub.status.busy": "now"}, tags=["parameters"])
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "papermill": {"duration": 1}, "widgets": {"state": {}}}
    path = tmp_path / "n.ipynb"
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("text"), cell], metadata=metadata), path)
    assert study.strip(path)
    after = nbformat.read(path, 4)
    assert after.cells[1].outputs == found
    assert after.cells[1].execution_count == 3
    assert after.cells[1].metadata == {"tags": ["parameters"]}
    assert after.metadata == {"kernelspec": metadata["kernelspec"]}
    assert [cell.id for cell in after.cells] == ["0", "1"]
    assert not study.strip(path), "a second time changes nothing"


def picture(seed: int) -> np.ndarray:
    """400 x 400 x 3: slopes of colour under noise, and white below them."""
    smooth = np.add.outer(np.arange(400), np.arange(400))[..., None] * np.array([1, 2, 3]) // 6 % 256
    noise = np.random.default_rng(seed).integers(0, 12, smooth.shape)
    return np.concatenate([(smooth + noise)[:390].clip(0, 255), np.full((10, 400, 3), 255)]).astype(np.uint8)


def notebook_of(pictures: list[np.ndarray], path: Path) -> list[bytes]:
    """Writes a notebook that shows them; gives the PNGs."""
    stored = [io.BytesIO() for _ in pictures]
    for pixels, file in zip(pictures, stored, strict=True):
        Image.fromarray(pixels).convert("RGBA").save(file, "PNG")
    outputs = [v4.new_output("display_data", data={"image/png": base64.b64encode(file.getvalue()).decode()}) for file in stored]
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("x", outputs=outputs)]), path)
    return [file.getvalue() for file in stored]


def pictures_of(path: Path) -> list[bytes]:
    return [base64.b64decode(output.data["image/png"]) for output in nbformat.read(path, as_version=4).cells[0].outputs]


def test_pictures_of_a_small_notebook_stay_as_they_are(tmp_path: Path) -> None:
    stored = notebook_of([picture(0)], tmp_path / "n.ipynb")
    assert len(stored[0]) > 200_000
    study.strip(tmp_path / "n.ipynb")
    assert pictures_of(tmp_path / "n.ipynb") == stored


def test_pictures_of_a_large_notebook_are_rounded_and_keep_their_colours(tmp_path: Path) -> None:
    path, drawn = tmp_path / "n.ipynb", [picture(seed) for seed in range(3)]
    notebook_of(drawn, path)
    assert path.stat().st_size > 1_000_000
    assert study.strip(path)
    assert path.stat().st_size <= 900_000
    for content, pixels in zip(pictures_of(path), drawn, strict=True):
        with Image.open(io.BytesIO(content)) as image:
            shown = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(shown - pixels).max() <= 4
        assert (shown[390:] == 255).all(), "white stays white"
    assert not study.strip(path), "a second time changes nothing"
    many = tmp_path / "many.ipynb"
    notebook_of([picture(seed) for seed in range(6)], many)  # too many for any rounding
    study.strip(many)
    assert not study.strip(many)
