"""Whatever a file or a parameter holds: a result, or one line that names the cause. Never a traceback, a hang, or a file elsewhere.

A few hundred cases, always the same, run with the suite; ``make fuzz`` draws thousands, and keeps those that fail in ``.hypothesis/``.
What was found lies here as ``@example``.
"""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from finished_runs import finish
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from osm_town import Town

from geodtr_lib import checkpoints, run_folder, study
from geodtr_lib.config import PRESETS, RunConfig, config_from, resolve_config
from geodtr_lib.data.act_mat import read_act_data
from geodtr_lib.data.cvusa import read_split
from geodtr_lib.data.folders import Tree, safe_name
from geodtr_lib.data.osm_reader import read_extract
from geodtr_lib.data.vigor_labels import panorama_locations, read_labels, read_tiles, tile_locations
from geodtr_lib.errors import DatasetError, GeoDTRError
from geodtr_lib.models import build_model
from geodtr_lib.study.records import RUNS, Records

LONG = os.environ.get("GEODTR_FUZZ", "")
CASES = int(LONG or 40)
fuzzed = settings(
    max_examples=CASES, deadline=None, derandomize=not LONG, print_blob=True, suppress_health_check=list(HealthCheck),
)  # fmt: skip
PATIENCE = 20.0  # seconds of this process's own computing


@contextmanager
def sound(folder: Path, may_write: bool = False) -> Iterator[None]:
    """The block ends well or with one line, soon, and writes nothing (or only below ``folder``)."""

    def hang(*_: Any) -> None:
        raise AssertionError(f"no answer after {PATIENCE} s")

    before, around = _files(folder), _files(folder.parent, deep=False)
    previous = signal.signal(signal.SIGVTALRM, hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except GeoDTRError as error:
        said = str(error)
    else:
        said = "well"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
    assert said.strip(), "an error says what is wrong"
    assert "\n" not in said
    assert "Traceback" not in said
    assert may_write or _files(folder) == before
    assert _files(folder.parent, deep=False) == around


def _files(folder: Path, deep: bool = True) -> list[str]:
    return sorted(str(path) for path in (folder.rglob("*") if deep else folder.iterdir()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "below"
    folder.mkdir()
    return folder


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Bytes cut, overwritten, doubled or replaced; always near the whole file, where the parsers get far."""

    def damage(changes: list[tuple[float, bytes, int]]) -> bytes:
        content = bytearray(whole)
        for where, piece, kind in changes:
            at = int(where * len(content))
            if kind == 0:
                del content[at:]
            elif kind == 1:
                content[at : at + len(piece)] = piece
            elif kind == 2:
                content[at:at] = piece
            else:
                content += content[at : at + 200]
        return bytes(content)

    change = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8), st.integers(0, 3))
    return st.lists(change, min_size=1, max_size=4).map(damage)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["auto", "[", "city:", "../x", "v1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


# --- configuration ----------------------------------------------------------------------------------------------------------------


@fuzzed
@given(st.dictionaries(st.sampled_from([*RunConfig.model_fields, "preset", "n_dsec"]), values, max_size=6))
@example({"preset": [None]})
@example({"train_area": [None]})
def test_any_values_make_a_configuration_or_one_line(place: Path, given_values: dict[str, Any]) -> None:
    with sound(place):
        config = resolve_config(**given_values)
        assert config_from(config.to_dict()) == config
        config.replace(seed=1)


@fuzzed
@given(st.sampled_from(sorted(RunConfig.model_fields)), values, st.sampled_from(sorted(PRESETS)))
def test_any_single_value_makes_a_configuration_or_names_its_parameter(place: Path, name: str, value: Any, preset: str) -> None:
    with sound(place):
        try:
            resolve_config(**{"preset": preset, name: value})
        except GeoDTRError as error:
            parts = {name, *str(error).replace(":", " ").replace(",", " ").split()}
            assert parts & set(RunConfig.model_fields)
            raise


@fuzzed
@given(values)
@example([])
@example({"schema": "1"})
def test_any_content_of_a_configuration_file(place: Path, value: Any) -> None:
    with sound(place):
        config_from(value)


# --- data files -------------------------------------------------------------------------------------------------------------------

NAMES = ["satellite_40.7_-74.0.png", "satellite_40.8_-74.1.png", "../../secret.png", "/etc/passwd", "C:/x.png", "a\\..\\b.png", "é.png", ""]
OTHERS = ["pano,40.7,-74.0,.jpg", "1.5", "nan", "-inf", "x", "bingmap/19/1.jpg", "streetview/panos/1.jpg", "\0", "1e999"]
words = st.sampled_from([*NAMES, *OTHERS])
lines = st.lists(st.lists(words | st.text(max_size=5), max_size=14), max_size=4)


@fuzzed
@given(lines, st.sampled_from([" ", ",", "\t"]))
@example([["C:/x.png"]], " ")
def test_any_text_as_labels_or_split(place: Path, rows: list[list[str]], separator: str) -> None:
    text = "\n".join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass")
    (place / "splits").mkdir(exist_ok=True)
    (place / "split_locations").mkdir(exist_ok=True)
    for name in ("labels.txt", "splits/train-19zl.csv", "split_locations/all.csv"):
        (place / name).write_bytes(text)
    readers: list[Callable[[], Any]] = [
        lambda: _below(read_tiles(place / "labels.txt")),
        lambda: _below(read_labels(place / "labels.txt", NAMES[:2]).panoramas),
        lambda: _below(read_split(place, "train").ground),
        lambda: panorama_locations([row[0] for row in rows if row]),
        lambda: tile_locations([row[0] for row in rows if row]),
    ]
    for reader in readers:
        with sound(place):
            reader()


def _below(names: Any) -> None:
    """No name that came through leads out of its root, on any system."""
    for name in names:
        parts = name.replace("\\", "/").split("/")
        assert ".." not in parts
        assert parts[0]
        assert name[1:2] != ":"


def test_a_matlab_file_that_ends_the_process_which_reads_it_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ACT_data.mat"
    sets = {name: {"trainInd" if name == "trainSet" else "valInd": np.arange(1, 4)} for name in ("trainSet", "valSet", "valSetAll")}
    scipy.io.savemat(path, {"panoIds": np.array(["a", "b", "c"]), "utm": np.zeros((3, 2)), **sets})
    content = bytearray(path.read_bytes())
    content[561] = 15  # a kind of element that is not possible there: found by fuzzing
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="is not a readable MATLAB file"):
        read_act_data(path)


@fuzzed
@given(data=st.data())
def test_any_bytes_as_matlab_file(place: Path, data: st.DataObject) -> None:
    whole = place / "whole.mat"
    if not whole.exists():
        sets = {name: {"trainInd" if name == "trainSet" else "valInd": np.arange(1, 4)} for name in ("trainSet", "valSet", "valSetAll")}
        scipy.io.savemat(whole, {"panoIds": np.array(["a", "b", "c"]), "utm": np.zeros((3, 2)), **sets})
        read_act_data(whole)
    (place / "ACT_data.mat").write_bytes(data.draw(damaged(whole.read_bytes())))
    with sound(place):
        read_act_data(place / "ACT_data.mat")


@fuzzed
@given(data=st.data())
def test_any_bytes_as_openstreetmap_extract(place: Path, data: st.DataObject) -> None:
    whole = place / "whole.osm.pbf"
    if not whole.exists():
        read_extract(Town(building=True).write(whole))
    path = place / "town.osm.pbf"
    path.write_bytes(data.draw(damaged(whole.read_bytes())))
    with sound(place):
        read_extract(path)


KEYS = (
    "building", "height", "building:levels", "roof:shape", "roof:height", "highway", "width", "lanes", "natural", "layer", "min_height",
    "building:colour", "area", "type", "barrier", "leaf_type",
)  # fmt: skip
TAGS = ("yes", "no", "-5", "1e308", "nan", "inf", "10 m", "7'2\"", "residential", "coastline", "tree_row", "#ggg", "0", "99999")
tags = st.dictionaries(
    st.sampled_from(KEYS),
    st.sampled_from(TAGS)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
    max_size=5,
)  # fmt: skip
corners = st.lists(st.tuples(st.floats(-200, 200), st.floats(-200, 200)), min_size=1, max_size=6)


@fuzzed
@given(st.lists(st.tuples(st.sampled_from(["way", "area", "node"]), corners, tags), max_size=4))
def test_any_tags_and_outlines_in_an_extract(place: Path, features: list[tuple[str, list[tuple[float, float]], dict[str, str]]]) -> None:
    town = Town(building=True)
    for kind, points, described in features:
        if kind == "node":
            town.node(points[0], described)
        else:
            getattr(town, kind)(points, described)
    town.write(place / "tags.osm.pbf")
    with sound(place):
        read_extract(place / "tags.osm.pbf")


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x", "C:/x.jpg", "c:x.jpg", "\\\\host\\x", "..\\x", "", " ", "a\0b"])
def test_names_that_lead_out_of_the_data_root_are_refused(name: str) -> None:
    with pytest.raises(DatasetError, match="labels.txt, line 3: .* is not a file name below the data root"):
        safe_name(name, "labels.txt, line 3")


def test_links_that_lead_out_of_the_data_root_are_refused(tmp_path: Path) -> None:
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.jpg").write_bytes(b"x")
    (tmp_path / "root" / "in" / "kept.jpg").write_bytes(b"x")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "in" / "link.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    tree = Tree(tmp_path / "root")
    for relative in ("linked/secret.jpg", "in/link.jpg", "in/kept.jpg"):
        with pytest.raises(DatasetError, match="outside the data root"):
            tree.holds(relative)


# --- results ----------------------------------------------------------------------------------------------------------------------


@fuzzed
@given(data=st.data())
def test_any_bytes_as_results(place: Path, data: st.DataObject) -> None:
    run = place / "run"
    whole = json.dumps(finish(resolve_config("smoke", run_dir=str(run)))).encode()
    for name in ("metrics.json", "progress.json", "failed.json", "config.json"):
        (run / name).write_bytes(data.draw(damaged(whole) | values.map(_as_json)))
    (place / "sweep.json").write_bytes(data.draw(values.map(_as_json)))
    readers: list[Callable[[], Any]] = [
        lambda: study.collect(place),
        lambda: str(study.status(place)),
        lambda: study.show(run),
        lambda: run_folder.read_metrics(run),
        lambda: checkpoints.load_checkpoint(run),
        lambda: study.read_shards(place),
    ]
    for reader in readers:
        with sound(place, may_write=True):  # a table beside the results
            reader()


@fuzzed
@given(st.dictionaries(st.sampled_from(["config", "train", "evaluation", "versions", "data", "schema"]), values, max_size=6))
def test_any_json_as_results(place: Path, metrics: dict[str, Any]) -> None:
    run = place / "other"
    whole = finish(resolve_config("smoke", run_dir=str(run)))
    (run / "metrics.json").write_bytes(_as_json({**whole, **metrics}))
    readers: list[Callable[[], Any]] = [lambda: study.collect(run), lambda: str(study.status(place)), lambda: study.show(run)]
    for reader in readers:
        with sound(place, may_write=True):
            reader()


@fuzzed
@given(data=st.data())
def test_any_bytes_as_recorded_table(place: Path, data: st.DataObject) -> None:
    records = Records(place / "tables")
    if not (place / "tables" / "whole").exists():
        records.add("a", {RUNS: [{"cell": "reference", "r1": 0.5}]})
        (place / "tables" / RUNS).rename(place / "tables" / "whole")
    (place / "tables" / RUNS).write_bytes(data.draw(damaged((place / "tables" / "whole").read_bytes())))
    with sound(place):
        records.finished()
    with sound(place / "tables", may_write=True):
        records.add("b", {RUNS: [{"cell": "ls", "r1": 0.25}]})


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


# --- checkpoints ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    config = resolve_config("smoke", n_desc=1, ground_size=(16, 32), heads=1, ffn_width=8)
    model = build_model(config)
    checkpoints.save_model(folder, model, config.to_dict())
    small = {"conv.weight": torch.zeros(3, 2), "count": torch.tensor(1)}
    torch.save({"model_state_dict": small, "epoch": 1}, folder / "small.pth")
    torch.save({"model_state_dict": small}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    run_folder.save_state(folder, {"model": small, "optimizer": {}, "progress": {"epoch": 0}, "identity": {}})
    checkpoints.save_tensors(folder / "small.safetensors", small, {"schema": "1"})
    return folder


@fuzzed
@given(data=st.data())
def test_any_bytes_as_checkpoint(place: Path, whole_run: Path, data: st.DataObject) -> None:
    loaders: dict[str, Callable[[Path], Any]] = {
        "small.pth": checkpoints.load_released_checkpoint,
        "legacy.pth": checkpoints.load_released_checkpoint,
        "small.safetensors": checkpoints.load_tensors,
        "state.pt": lambda path: run_folder.load_state(path.parent, torch.device("cpu")),
    }
    name = data.draw(st.sampled_from(sorted(loaders)))
    (place / name).write_bytes(data.draw(damaged((whole_run / name).read_bytes())))
    with sound(place):
        loaders[name](place / name)


@fuzzed
@given(st.dictionaries(st.sampled_from(["n_desc", "backbone", "gle", "model", "schema", "ground_size", "fov"]), values, max_size=3))
def test_any_configuration_beside_weights(place: Path, whole_run: Path, changes: dict[str, Any]) -> None:
    folder = place / "stranger"
    folder.mkdir(exist_ok=True)
    stored = json.loads((whole_run / "config.json").read_text())
    if any(isinstance(value, int) and not isinstance(value, bool) and abs(value) > 64 for value in changes.values()):
        return  # as large a model as is asked for is built
    (folder / "config.json").write_bytes(_as_json({**stored, **changes}))
    (folder / "model.safetensors").write_bytes((whole_run / "model.safetensors").read_bytes())
    with sound(place):
        checkpoints.load_checkpoint(folder)


def test_a_state_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "was-run"),)

    torch.save({"model": Code()}, tmp_path / "state.pt")
    with pytest.raises(GeoDTRError, match=r"state.pt cannot be read"):
        run_folder.load_state(tmp_path, torch.device("cpu"))
    assert not (tmp_path / "was-run").exists()
