"""Data sets in their owners' layouts, from verify to the last recall, by the calls that the real ones take."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import miniature
import numpy as np
import pandas as pd
import pytest
import torch

import geodtr_lib
from geodtr_lib import checkpoints, data
from geodtr_lib.config import resolve_config
from geodtr_lib.errors import CheckpointError, ConfigError, DatasetError, RunError
from geodtr_lib.evaluation import recall_interval
from geodtr_lib.geometry import heading_shifts
from geodtr_lib.models import build_model
from geodtr_lib.models.geodtr import count_parameters
from geodtr_lib.study.commands import trainings
from geodtr_lib.study.evaluation import evaluate_trained, evaluation_table, recall_intervals
from geodtr_lib.study.trained import Trained, open_trained, target_config
from geodtr_lib.trainer import Trainer
from geodtr_lib.training import protocol_of
from geodtr_lib.training import test_areas_of as areas_evaluated

QUICK = dict(preset="smoke", batch_size=4, device="cpu", precision="fp32", workers=1)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folder of each data set."""
    folder = tmp_path_factory.mktemp("owners")
    return {
        "cvusa": str(miniature.make_cvusa(folder, n_train=8, n_test=6).parents[1]),
        "cvact": str(miniature.make_cvact(folder / "CVACT", n_train=8, n_val=6, n_test=9)),
        "vigor": str(miniature.make_vigor(folder / "VIGOR", n_train=4, n_test=3, grid=3)),
    }


@pytest.fixture(scope="module")
def cvusa_run(roots: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder and results of a run on CVUSA that was tested on CVACT too, of a model that the authors' code can build."""
    folder = tmp_path_factory.mktemp("cvusa")
    values = dict(
        dataset="cvusa", data_root=roots["cvusa"], test_areas=["cvusa", "cvact:cvact"], test_roots={"cvact": roots["cvact"]},
        backbone="convnext_tiny", activation="sigmoid",
    )  # fmt: skip
    return folder, geodtr_lib.run({**QUICK, **values, "run_dir": str(folder)}, progress=False)


def test_a_run_is_gone_on_with_on_its_own_data_only(roots: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data may be moved; other data of the same configuration are refused, by a finished run and by one that was stopped."""
    own, moved = Path(roots["cvusa"]), tmp_path / "moved"
    shutil.copytree(own / "CVUSA", moved / "CVUSA")
    other = miniature.make_cvusa(tmp_path / "other", n_train=12, n_test=6).parents[1]
    values = {**QUICK, "dataset": "cvusa", "checkpoint_minutes": 1e-9, "run_dir": str(tmp_path / "run")}
    steps: list[int] = []
    original = Trainer.train_step

    def stops(self: Trainer, *arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stops)
        with pytest.raises(KeyboardInterrupt):
            geodtr_lib.run({**values, "data_root": str(own)}, progress=False)
    state = (tmp_path / "run" / "state.pt").read_bytes()
    with pytest.raises(RunError, match="run holds a run of this configuration on other data; give data_root"):
        geodtr_lib.run({**values, "data_root": str(other)}, progress=False)
    assert (tmp_path / "run" / "state.pt").read_bytes() == state
    metrics = geodtr_lib.run({**values, "data_root": str(moved)}, progress=False)
    assert geodtr_lib.run({**values, "data_root": str(own)}, progress=False)["train"] == metrics["train"]
    with pytest.raises(RunError, match="on other data"):
        geodtr_lib.run({**values, "data_root": str(other)}, progress=False)


def evaluated(trained: Trained, given: dict[str, Any], out_dir: Path, area: str = "", protocol: str = "") -> dict[str, Any]:
    """What ``evaluate.ipynb`` does."""
    config = target_config(trained, {"device": "cpu", "workers": 1, **given}, area)
    tests = {name: data.open_for(config, name, "test") for name in config.test_areas}
    return evaluate_trained(trained, config, tests, protocol=protocol, out_dir=out_dir, progress=False)


# From verify to recalls


@pytest.mark.parametrize(
    ("dataset", "values", "expected"),
    [
        # area -> protocol, queries, references
        ("cvusa", {}, {"cvusa": ("same", 6, 6)}),
        ("cvusa", {"polar": False}, {"cvusa": ("same", 6, 6)}),
        ("cvact", {"test_areas": ["cvact_test"]}, {"cvact": ("same", 6, 6), "cvact_test": ("same", 9, 9)}),
        ("vigor", {"options": {"overlapping_negatives": True}}, {"same": ("same", 12, 36)}),
        ("vigor", {"train_area": "cross", "polar": False}, {"cross": ("cross", 14, 18)}),
    ],
)
def test_a_data_set_is_verified_trained_on_and_evaluated(
    dataset: str, values: dict[str, Any], expected: dict[str, tuple[str, int, int]], roots: dict[str, str], tmp_path: Path
) -> None:
    assert data.verify(dataset, roots[dataset], progress=False).ok
    given = {**QUICK, "dataset": dataset, "data_root": roots[dataset], "run_dir": str(tmp_path), **values}
    metrics = geodtr_lib.run(given, progress=False)
    assert np.isfinite(metrics["train"]["loss"]).all()
    found = {area: (row["protocol"], row["n_query"], row["n_gallery"]) for area, row in metrics["evaluation"].items()}
    assert found == expected
    assert all(("hit_rate" in row) == (dataset == "vigor") for row in metrics["evaluation"].values())
    assert geodtr_lib.run(given, progress=False) == metrics, "a finished run is read back"


@pytest.mark.parametrize(
    ("dataset", "polar", "ground_size", "aerial_size"),
    [("cvusa", True, (122, 671), (122, 671)), ("cvact", False, (122, 671), (256, 256)), ("vigor", False, (320, 640), (320, 320))],
)
def test_the_sizes_of_the_paper_go_all_the_way(
    dataset: str, polar: bool, ground_size: tuple[int, int], aerial_size: tuple[int, int], roots: dict[str, str], tmp_path: Path
) -> None:
    """With a small trunk, on one batch."""
    paper = resolve_config("paper", dataset=dataset, polar=polar)
    assert (paper.ground_size, paper.aerial_size) == (ground_size, aerial_size)
    values = {"dataset": dataset, "data_root": roots[dataset], "polar": polar, "ground_size": ground_size, "aerial_size": aerial_size}
    values |= {"tile_size": 0, "sampling": "raw", "train_area": "Seattle" if dataset == "vigor" else "", "run_dir": str(tmp_path)}
    metrics = geodtr_lib.run({**QUICK, **values, "backbone": "resnet18:stride16"}, progress=False)
    assert np.isfinite(metrics["train"]["loss"]).all()
    assert len(metrics["evaluation"]) == 1


@pytest.mark.parametrize(
    ("values", "whole"),
    [
        (dict(dataset="cvusa"), 30_192_336),
        (dict(dataset="cvact", polar=False), 30.05e6),
        (dict(dataset="vigor"), 35.53e6),
        (dict(dataset="cvusa", backbone="resnet34"), 51.05e6),
        (dict(dataset="cvusa", gle="v1", backbone="resnet34", ffn_width=2048), 48.51e6),
    ],
)
def test_the_paper_preset_builds_the_models_of_the_paper(values: dict[str, Any], whole: float) -> None:
    config = resolve_config("paper", **values)
    assert config.pretrained
    with torch.device("meta"):
        model = build_model(config.replace(pretrained=False))
    assert count_parameters(model).whole == pytest.approx(whole, abs=0 if isinstance(whole, int) else 0.005e6)


# Areas and protocols


@pytest.mark.parametrize(
    ("dataset", "train_area", "area", "expected"),
    [
        ("cvusa", "", "cvusa", "same"),
        ("cvusa", "", "cvact:cvact", "cross"),
        ("cvact", "", "cvact", "same"),
        ("cvact", "", "cvact_test", "same"),  # the paper's Table I: another part of the same city
        ("cvact", "", "cvusa:cvusa", "cross"),
        ("vigor", "same", "same", "same"),
        ("vigor", "same", "Chicago", "same"),
        ("vigor", "cross", "cross", "cross"),
        ("vigor", "cross-reversed", "cross-reversed", "cross"),
        ("vigor", "cross", "cross-reversed", "same"),  # its test cities are the training cities
        ("vigor", "cross", "same", "same"),  # two of its four cities were seen
        ("vigor", "Seattle", "Chicago+NewYork", "cross"),
    ],
)
def test_an_area_is_cross_only_where_nothing_of_it_was_seen(dataset: str, train_area: str, area: str, expected: str) -> None:
    assert protocol_of(resolve_config("smoke", dataset=dataset, train_area=train_area), area) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (dict(dataset="cvusa"), ("cvusa",)),
        (dict(dataset="cvact"), ("cvact",)),
        (dict(dataset="cvusa", test_areas=["cvusa", "cvact:cvact"]), ("cvusa", "cvact:cvact")),
        (dict(dataset="vigor"), ("same",)),
        (dict(dataset="vigor", train_area="cross"), ("cross",)),
    ],
)
def test_the_areas_evaluated_are_those_of_the_protocol(values: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert areas_evaluated(resolve_config("smoke", **values)) == expected


# A trained model on any data


def test_a_run_evaluated_afterwards_gives_its_own_recalls(
    cvusa_run: tuple[Path, dict[str, Any]], roots: dict[str, str], tmp_path: Path
) -> None:
    folder, metrics = cvusa_run
    assert {area: row["protocol"] for area, row in metrics["evaluation"].items()} == {"cvusa": "same", "cvact:cvact": "cross"}
    trained = open_trained(folder)
    for target, area in (({}, "cvusa"), ({"dataset": "cvact"}, "cvact")):  # their folders are known from the run
        found = evaluated(trained, target, tmp_path)["evaluation"][area]
        expected = metrics["evaluation"][area if area == "cvusa" else "cvact:cvact"]
        assert {key: found[key] for key in expected} == expected


def test_a_released_file_of_a_trained_model_gives_the_same_recalls(
    cvusa_run: tuple[Path, dict[str, Any]], roots: dict[str, str], tmp_path: Path
) -> None:
    folder, metrics = cvusa_run
    checkpoints.save_released_checkpoint(checkpoints.load_checkpoint(folder), tmp_path / "released")
    trained = open_trained(checkpoint=tmp_path / "released")
    assert trained.trained_on == "cvusa:cvusa"
    assert trained.folder != tmp_path / "released", "nothing of ours is written into the authors' folder"
    given = {"data_root": roots["cvusa"], "tile_size": metrics["config"]["tile_size"]}
    found = evaluated(trained, given, tmp_path)["evaluation"]["cvusa"]
    expected = metrics["evaluation"]["cvusa"]
    assert {key: found[key] for key in expected} == expected

    # The file alone tells neither its sizes, which are no data set's, nor where it was trained.
    (tmp_path / "bare").mkdir()
    bare = (tmp_path / "released" / "epoch_1" / "epoch_1.pth").rename(tmp_path / "bare" / "weights.pth")
    sizes = {"ground_size": [16, 64], "aerial_size": [16, 64]}
    with pytest.raises(CheckpointError, match="no known image size gives 4 positions"):
        open_trained(checkpoint=bare)
    with pytest.raises(ConfigError, match="^trained_on: 'paris' is not known; allowed: cvusa, cvact, vigor:same, vigor:cross$"):
        open_trained(checkpoint=bare, trained_on="paris", given=sizes)
    unknown = open_trained(checkpoint=bare, given=sizes)
    with pytest.raises(ConfigError, match=r"^dataset: .*weights.pth does not say where it was trained; name the test data: city, osm"):
        evaluated(unknown, given, tmp_path)
    again = evaluated(unknown, {**given, "dataset": "cvusa"}, tmp_path)["evaluation"]["cvusa"]
    assert {key: again[key] for key in expected} == {**expected, "protocol": "unknown"}
    known = open_trained(checkpoint=bare, trained_on="cvact", given=sizes)
    assert evaluated(known, {**given, "dataset": "cvusa"}, tmp_path)["evaluation"]["cvusa"]["protocol"] == "cross"


@pytest.fixture
def untrained(tmp_path: Path) -> Trained:
    """A small model of panoramas of 16 x 64, as a run on VIGOR."""
    return small_model(tmp_path / "run", dataset="vigor")


def small_model(folder: Path, **values: Any) -> Trained:
    config = resolve_config(**{**QUICK, **values})
    torch.manual_seed(0)
    checkpoints.save_model(folder, build_model(config), config.to_dict())
    return open_trained(folder)


def test_what_was_measured_is_stored_by_query(untrained: Trained, roots: dict[str, str], tmp_path: Path) -> None:
    given = {"data_root": roots["vigor"], "heading": "random", "seed": 5, "fov": 180}
    result = evaluated(untrained, given, tmp_path)
    found, queries = result["evaluation"]["same"], pd.read_csv(tmp_path / "queries.csv")
    assert (queries["rank"] == 1).mean() == pytest.approx(found["r1"])
    assert (queries["rank"] <= 10).mean() == pytest.approx(found["r10"])
    np.testing.assert_allclose(queries["heading"], heading_shifts(len(queries), 5))
    test = data.open_dataset("vigor", roots["vigor"], "same", "test")
    np.testing.assert_allclose(queries["metres"], test.metre_error(queries["nearest_index"].to_numpy()))  # type: ignore[attr-defined]
    assert queries["nearest"].tolist() == [test.reference_ids[index] for index in queries["nearest_index"]]
    assert found["metres"]["median"] == pytest.approx(queries["metres"].median())
    assert 0 <= found["r1"] <= found["hit_rate"] <= found["hit_rate_cover"] <= 1
    assert found["interval"]["hit_rate"] == list(recall_interval(found["hit_rate"], found["n_query"]))
    assert result["config"]["fov"] == 180
    again = evaluated(untrained, given, tmp_path / "again")
    assert again["evaluation"] == result["evaluation"]
    assert evaluated(untrained, {**given, "seed": 6}, tmp_path / "other")["evaluation"]["same"]["metres"] != found["metres"]


def test_cvact_test_counts_the_tile_itself_and_any_within_5_metres(untrained: Trained, roots: dict[str, str], tmp_path: Path) -> None:
    result = evaluated(untrained, {"dataset": "cvact", "data_root": roots["cvact"]}, tmp_path, area="cvact,cvact_test")
    found = result["evaluation"]
    assert found["cvact_test"]["within_5m"]["r1"] >= found["cvact_test"]["r1"]
    assert "within_5m" not in found["cvact"]
    assert recall_intervals(result).groupby(["area", "rule"]).ngroups == 3
    asked = evaluated(untrained, {"dataset": "cvact", "data_root": roots["cvact"]}, tmp_path, "cvact_test", protocol="within_5m")
    measured = asked["evaluation"]["cvact_test"]
    assert measured["rule"] == "within 5 m"
    assert measured["r5"] == found["cvact_test"]["within_5m"]["r5"]


def test_ties_are_told_for_a_collapsed_model(untrained: Trained, roots: dict[str, str], tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in untrained.model.parameters():
            parameter.zero_()
    found = evaluated(untrained, {"data_root": roots["vigor"]}, tmp_path)["evaluation"]["same"]
    assert found["r1"] == 0
    assert found["r1_ties"] == {"against": 0.0, "strict": 1.0}


def test_a_whole_panorama_model_is_given_less_without_moving_what_is_seen(roots: dict[str, str], tmp_path: Path) -> None:
    """What lies outside the field of view cannot change an embedding, and what lies inside stays in its columns."""
    from geodtr_lib.evaluation.limited_view import LimitedView

    seen: list[torch.Tensor] = []

    class Recorder(torch.nn.Module):
        def encode_ground(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.flatten(1)

    images = torch.randn(2, 3, 4, 16)
    assert torch.equal(LimitedView(Recorder(), 16).encode_ground(images), images.flatten(1))
    LimitedView(Recorder(), 16).encode_ground(images[..., 6:11])  # 5 columns: the crop of geometry starts at (16 - 5) // 2 = 5
    assert seen[-1].shape == images.shape
    assert torch.equal(seen[-1][..., 5:10], images[..., 6:11])
    assert seen[-1][..., :5].eq(0).all()
    assert seen[-1][..., 10:].eq(0).all()


def test_every_target_takes_a_model_trained_elsewhere(untrained: Trained, roots: dict[str, str], tmp_path: Path) -> None:
    """The embedded cities and the other owners' data; the run knows none of their folders."""
    for dataset, area in (("city", "suburb"), ("cvusa", "cvusa"), ("vigor", "cross")):
        given = {"dataset": dataset, "data_root": roots.get(dataset, ""), "n_test": 4}
        result = evaluated(untrained, given, tmp_path, area)
        assert result["evaluation"][area]["protocol"] == ("same" if dataset == "vigor" else "cross")  # it was trained on all four cities
        table = evaluation_table(result)
        assert table["source"].tolist() == ["measured"], "the paper has no such model"


def test_what_cannot_be_evaluated_is_one_clear_line(untrained: Trained, roots: dict[str, str], tmp_path: Path) -> None:
    known = {"data_root": roots["vigor"]}
    refused: list[tuple[dict[str, Any], str]] = [
        ({"polar": False}, r"^polar: .*model\.safetensors was made with True, not False, .*; leave polar out$"),
        ({"ground_size": [122, 671]}, r"^ground_size: .* was made with \(16, 64\), not \[122, 671\]"),
        ({"normalisation": "half"}, "^normalisation: .* was made with 'imagenet', not 'half'"),
        ({"n_desc": 4}, "^n_desc: .* was made with 8, not 4"),
        ({"ties": "lucky"}, "^ties: 'lucky' is not possible; allowed: 'against', 'strict'$"),
        ({"dataset": "kitti"}, "^dataset: 'kitti' is not known; allowed: city, osm, cvusa, cvact, vigor$"),
    ]
    for given, message in refused:
        with pytest.raises(ConfigError, match=message):
            evaluated(untrained, {**known, **given}, tmp_path)
    narrow = small_model(tmp_path / "narrow", dataset="vigor", fov=90)
    with pytest.raises(ConfigError, match=r"^fov: .* was made for 90 degrees; give at most that, not 360$"):
        evaluated(narrow, {**known, "fov": 360}, tmp_path)
    with pytest.raises(DatasetError, match="^cvact is given out by its owners: pass data_root"):
        evaluated(untrained, {"dataset": "cvact"}, tmp_path)
    with pytest.raises(ConfigError, match="^protocol: 'within_1m' is not known; allowed: cvusa, vigor, within_5m$"):
        evaluated(untrained, known, tmp_path, protocol="within_1m")
    with pytest.raises(DatasetError, match=r"^vigor same has no positions in metres, which the protocol within_5m needs$"):
        evaluated(untrained, known, tmp_path, protocol="within_5m")
    assert not (tmp_path / "evaluation.json").exists()
    with pytest.raises(ConfigError, match="one of the two$"):
        open_trained()


def test_values_typed_as_text_that_are_the_models_own_are_no_contradiction(untrained: Trained, roots: dict[str, str]) -> None:
    config = target_config(untrained, {"polar": "True", "n_desc": "8", "ground_size": [16, 64], "device": "cpu"})
    assert (config.polar, config.n_desc, config.ground_size) == (True, 8, (16, 64))


# Faults


def test_a_missing_image_is_refused_or_skipped_when_told(tmp_path: Path) -> None:
    root = miniature.make_cvusa(tmp_path, n_train=6, n_test=4)
    first, second = (line.split(",")[0] for line in (root / "splits" / "val-19zl.csv").read_text().splitlines()[:2])
    (root / first).unlink()
    given = {**QUICK, "dataset": "cvusa", "data_root": str(tmp_path), "run_dir": str(tmp_path / "run")}
    fault = rf"^cvusa test in .*: 1 of 8 images are missing or unreadable: {first} \(missing\).*skip_missing=True"
    with pytest.raises(DatasetError, match=fault):
        geodtr_lib.run(given, progress=False)
    with pytest.warns(UserWarning, match="skipped 1 of 4 queries"):
        metrics = geodtr_lib.run({**given, "skip_missing": True, "run_dir": str(tmp_path / "skipping")}, progress=False)
    assert metrics["evaluation"]["cvusa"]["n_query"] == 3
    # An evaluation is asked again: the run's word is not the evaluation's.
    trained = open_trained(tmp_path / "skipping")
    (root / second).write_bytes((root / second).read_bytes()[:200])
    with pytest.raises(DatasetError, match="2 of 8 images are missing or unreadable"):
        evaluated(trained, {"skip_missing": False}, tmp_path)
    with pytest.warns(UserWarning, match="skipped 2 of 4 queries"):
        assert evaluated(trained, {}, tmp_path)["evaluation"]["cvusa"]["n_query"] == 2


def test_a_test_area_of_another_data_set_needs_its_folder(roots: dict[str, str], tmp_path: Path) -> None:
    given = {**QUICK, "dataset": "cvusa", "data_root": roots["cvusa"], "test_areas": ["cvact:cvact"], "run_dir": str(tmp_path)}
    with pytest.raises(DatasetError, match=r"^test_roots: no folder for cvact, which the test area 'cvact:cvact' needs; give it as {"):
        geodtr_lib.run(given, progress=False)


# The published rows


def test_released_checkpoints_stand_beside_the_published_rows_of_their_data(roots: dict[str, str], tmp_path: Path) -> None:
    """GeoDTR+ at the sizes of the paper: its settings are those of the paper's row, on the data that it was trained on and on no other."""
    with torch.device("meta"):
        model = build_model(resolve_config("paper", dataset="cvusa", pretrained=False))
    paper = next(training for training in trainings() if training.name == "cvusa-geodtr-plus")
    trained = Trained("x.pth", model, paper.config(), "cvusa:cvusa", tmp_path)

    def printed(trained_on: str, area: str, **given: Any) -> list[tuple[str, str]]:
        config = target_config(trained, {"device": "cpu", **given})
        measured = {"n_query": 8, "n_gallery": 8, "protocol": "same", "rule": "exact", "split": "test"}
        found = {area: {**measured, "r1": 0.5, "interval": {"r1": [0.4, 0.6]}}}
        table = evaluation_table({"config": config.to_dict(), "checkpoint": {"trained_on": trained_on}, "evaluation": found})
        return [(row["source"], row["R@1"]) for _, row in table.iloc[1:].iterrows()]

    assert printed("cvusa:cvusa", "cvusa") == [("published, Table I, Table IV, Table V, Table VI, Table VIII", "95.40")]
    tables = "published, Table II, Table IV, Table V, Table VI, Table VIII"
    assert printed("cvusa:cvusa", "cvact", dataset="cvact") == [(tables, "61.17")]
    assert printed("cvact:cvact", "cvact_test", dataset="cvact") == [("published, Table I", "67.57")]
    assert printed("cvusa:cvusa", "cvact_test", dataset="cvact") == []
    assert printed("", "cvusa") == []
    assert printed("cvusa:cvusa", "cvusa", fov=90) == []
    assert printed("cvusa:cvusa", "cvusa", heading="random") == []
    assert printed("cvusa:cvusa", "suburb", dataset="city") == []
