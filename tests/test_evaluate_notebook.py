"""``evaluate.ipynb`` as a user runs it, on owners' layouts in miniature; the notebooks' common rules are in test_notebooks.py."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import miniature
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import torch

from geodtr_lib import checkpoints
from geodtr_lib.config import parameter_names
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.models import GeoDTR
from geodtr_lib.study.commands import trainings
from geodtr_lib.study.evaluation import evaluate_trained, evaluation_table
from geodtr_lib.study.trained import Trained, target_config

EVALUATE = Path(__file__).parent.parent / "notebooks" / "evaluate.ipynb"

pytestmark = pytest.mark.notebooks


def command(output: Path, **parameters: str) -> subprocess.Popen[str]:
    """The papermill command at the smoke preset, on a single thread."""
    words = [word for pair in parameters.items() for word in ("-p", *pair)]
    return subprocess.Popen(
        [sys.executable, "-m", "papermill", "-k", "python3", "--no-progress-bar", str(EVALUATE), str(output), *words],
        env=os.environ | {"GEODTR_PRESET": "smoke", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EVALUATE.parent.parent)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the authors' form (GeoDTR, small images) and the data that it is tested on."""
    folder = tmp_path_factory.mktemp("evaluate")
    miniature.make_cvact(folder / "CVACT", n_train=2, n_val=4, n_test=6)
    torch.manual_seed(0)
    model = GeoDTR("resnet34", gle="v1", n_desc=2, ground_size=(16, 128), aerial_size=(16, 128), heads=2, ffn_width=16)
    checkpoints.save_released_checkpoint(model, folder / "released", dataset="CVUSA")
    return folder


def test_one_command_takes_the_authors_checkpoint_to_another_data_set(folder: Path, tmp_path: Path) -> None:
    given = {"checkpoint": str(folder / "released"), "data_root": str(folder / "CVACT"), "dataset": "cvact", "eval_batch_size": "4"}
    wanted = given | {"area": "cvact,cvact_test", "heading": "random", "out_dir": str(tmp_path / "results")}
    refused = given | {"polar": "False", "out_dir": str(tmp_path / "refused")}
    good, bad = command(tmp_path / "good.ipynb", **wanted), command(tmp_path / "bad.ipynb", **refused)
    log, _ = good.communicate(timeout=600)
    assert good.returncode == 0, log

    result = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    assert result["checkpoint"] == {"path": str(folder / "released"), "trained_on": "cvusa:cvusa"}
    assert result["config"]["normalisation"] == "half", "what GeoDTR's release takes"
    assert {area: (found["protocol"], found["n_query"]) for area, found in result["evaluation"].items()} == {
        "cvact": ("cross", 4), "cvact_test": ("cross", 6)
    }  # fmt: skip
    assert result["evaluation"]["cvact_test"]["within_5m"]["n_query"] == 6
    queries = pd.read_csv(tmp_path / "results" / "queries.csv")
    assert queries.groupby("area", sort=False).size().to_dict() == {"cvact": 4, "cvact_test": 6}
    assert queries["heading"].between(0, 360).all()
    assert queries["heading"].nunique() > 1
    table = evaluation_table(result)
    assert table["rule"].tolist() == ["exact", "exact", "within 5 m"]
    (shown,) = [html for html in outputs(tmp_path / "good.ipynb", "text/html") if "R@1%" in html]
    assert all(cell in shown for heading in ("area", "protocol", "rule", "R@1", "R@5", "R@10", "R@1%") for cell in table[heading])

    log, _ = bad.communicate(timeout=600)
    assert bad.returncode != 0
    last = log.rstrip().splitlines()[-1]
    made = f"{folder / 'released'} was made with True, not False"
    assert last == f"ConfigError: polar: {made}, which evaluation cannot change; leave polar out"
    assert "geodtr_lib/" not in log, "no traceback through the library"
    assert not (tmp_path / "refused").exists()


def test_a_repeated_tile_is_told_beside_the_published_row(tmp_path: Path) -> None:
    """One tile in the list twice ties with itself: against the query neither of its places is found, by the published rule both are."""
    paper = next(training for training in trainings() if training.name == "cvusa-geodtr-plus").config()
    drawn = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 64), np.uint8)
    drawn[5] = drawn[2]
    test = ArrayDataset("cvusa", "cvusa", "test", drawn, drawn, "0")
    test.aerial_is_polar = True

    class Pixels(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def encode_ground(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(images.flatten(1), dim=1)

        encode_aerial = encode_ground

    trained = Trained("x.pth", Pixels(), paper, "cvusa:cvusa", tmp_path)  # type: ignore[arg-type]
    for ties, expected in (("against", 6 / 8), ("strict", 1.0)):
        config = target_config(trained, {"device": "cpu", "ties": ties})
        result = evaluate_trained(trained, config, {"cvusa": test}, progress=False)
        table = evaluation_table(result)
        assert result["evaluation"]["cvusa"]["r1"] == expected
        rows = table.set_index("source")
        published = "published, Table I, Table IV, Table V, Table VI, Table VIII"
        both = ["measured", *(["measured, ties as published"] if ties == "against" else []), published]
        assert table["source"].tolist() == both
        assert table["ties"].tolist() == [ties, *["strict"] * (len(both) - 1)]
        assert rows.loc["measured", "R@1"].startswith(f"{100 * expected:.2f} [")
        assert table["R@1"].iloc[-2].startswith("100.00 ["), "what the published row compares with stands right above it"
        assert rows.loc[published, "R@1"] == "95.40"
    assert result["evaluation"]["cvusa"]["r1_ties"] == {"against": 6 / 8, "strict": 1.0}


def outputs(notebook: Path, kind: str) -> list[str]:
    """Outputs of an executed notebook."""
    cells = nbformat.read(notebook, as_version=4).cells
    return [output["data"][kind] for cell in cells for output in cell.get("outputs", []) if kind in output.get("data", {})]


def test_its_own_parameters_are_no_values_of_a_configuration() -> None:
    """What the notebook names as its own must not hide a value that evaluation can be given."""
    cell = next(cell for cell in nbformat.read(EVALUATE, as_version=4).cells if "given_parameters" in cell.source)
    own = ast.literal_eval(cell.source.split("extra=")[1].splitlines()[0].removesuffix(")"))
    inside = set(papermill.inspect_notebook(str(EVALUATE)))
    assert set(own) == inside - set(parameter_names())
    promised = "run_dir checkpoint dataset data_root area split protocol polar fov heading seed device eval_batch_size"
    assert set(promised.split()) <= inside
