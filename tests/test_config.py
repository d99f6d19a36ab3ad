"""The configuration: strict, frozen, presets, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodtr_lib.config import PRESETS, RunConfig, config_from, resolve_config
from geodtr_lib.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"n_dsec": 4}, "did you mean n_desc?"),
        ({"n_desc": 0}, "n_desc: 0"),
        ({"n_desc": "four"}, "n_desc: 'four'"),
        ({"sampling": "CHSG"}, "'L+S'"),
        ({"dataset": "kitti"}, "'cvusa'"),
        ({"lr": -1}, "lr: -1"),
        ({"batch_size": 1}, "batch_size: 1"),
        ({"ground_size": (0, 128)}, "ground_size"),
        ({"polar": True, "aerial_size": (64, 64)}, "differs from ground_size"),
        ({"test_areas": "[monaco"}, "not a list"),
        ({"schedule": "per_epoch", "warmup_epochs": 0.5}, "must be whole"),
    ],
)
def test_impossible_values_are_named_in_one_line(values: dict, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config("small", **values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="paper, small, study, smoke"):
        resolve_config("tiny")


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("dataset", ["city", "osm", "cvusa", "cvact", "vigor"])
def test_every_preset_is_a_whole_configuration_and_survives_json(preset: str, dataset: str) -> None:
    config = resolve_config(preset, dataset=dataset)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert config_from(config.to_dict()) == config


def test_values_override_the_preset_and_none_does_not() -> None:
    small = resolve_config("small")
    assert resolve_config("small", epochs=None) == small
    assert resolve_config("small", epochs=3).epochs == 3
    assert resolve_config("small", lr="1e-4").lr == 1e-4  # as YAML 1.1 passes it


def test_the_default_preset_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODTR_PRESET", "smoke")
    assert resolve_config().preset == "smoke"
    monkeypatch.setenv("GEODTR_PRESET", "")
    assert resolve_config().preset == "small"


def test_a_home_folder_may_be_short_and_other_paths_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere/me")
    config = resolve_config("small", dataset="cvusa", data_root="~/CVUSA", test_roots={"cvact": "~/ACT", "vigor": "../V//"}, run_dir="~/r")
    assert (config.data_root, config.run_dir) == ("/elsewhere/me/CVUSA", "/elsewhere/me/r")
    assert config.test_roots == {"cvact": "/elsewhere/me/ACT", "vigor": "../V//"}
    assert resolve_config("small", dataset="cvusa", data_root="data/./CVUSA/").data_root == "data/./CVUSA/"
    with pytest.raises(ConfigError, match="data_root: .*~nobody-of-this-name/x.* has no home folder"):
        resolve_config("small", dataset="cvusa", data_root="~nobody-of-this-name/x")


def test_maps_of_ones_own_name_the_training_area(tmp_path: Path) -> None:
    def area(root: Path, **values: str) -> str:
        return resolve_config("smoke", dataset="osm", data_root=str(root), **values).train_area

    for name in ("mytown.pbf", "map.osm", "MYTOWN.OSM.PBF", "b.osm.bz2", "a.osm.pbf", "a.osm"):
        (tmp_path / name).touch()
        assert area(tmp_path / name) == name.split(".")[0]
    (tmp_path / "._a.osm.pbf").touch()  # of a Mac's archiver
    assert area(tmp_path) == "MYTOWN"
    assert area(tmp_path, train_area="helsinki") == "helsinki"
    (tmp_path / "bare").mkdir()
    (tmp_path / "notes.txt").touch()
    faults = {"none": "does not exist", "none.osm.pbf": "does not exist", "bare": "holds no", "notes.txt": "is not named as an"}
    for root, said in faults.items():
        with pytest.raises(ConfigError, match=rf"data_root: .*{root} {said}.*\.osm\.pbf, \.osm\.bz2, \.osm\.gz, \.pbf, \.osm"):
            area(tmp_path / root)
    assert area(tmp_path / "none", train_area="mytown") == "mytown"  # a recorded run's map need not be at hand
    assert resolve_config("smoke", dataset="osm").train_area == "helsinki"


def test_a_configuration_cannot_be_changed() -> None:
    config = resolve_config("small")
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 3  # type: ignore[misc]
    with pytest.raises(ConfigError, match="did you mean epochs"):
        config.replace(epoch=3)


@pytest.mark.parametrize("typed", ['["monaco", "helsinki"]', "monaco,helsinki", ["monaco", "helsinki"], ("monaco", "helsinki")])
def test_lists_may_be_typed_on_a_command_line(typed: object) -> None:
    assert resolve_config("small", test_areas=typed).test_areas == ("monaco", "helsinki")


def test_the_aerial_size_follows_polar() -> None:
    assert resolve_config("small", polar=True).aerial_size == resolve_config("small").ground_size
    assert resolve_config("small", polar=False).aerial_size == (64, 64)
    assert resolve_config("small", polar="false").aerial_size == (64, 64)  # papermill -p passes text
    assert resolve_config("paper", dataset="cvusa", polar=False).aerial_size == (256, 256)
    vigor = resolve_config("paper", dataset="vigor")
    assert (vigor.ground_size, vigor.aerial_size, vigor.polar) == ((320, 640), (320, 320), False)


def test_paper_preset_has_the_papers_values() -> None:
    config = resolve_config("paper", dataset="cvusa")
    assert (config.backbone, config.gle, config.n_desc, config.sampling) == ("convnext_tiny", "v2", 8, "L+S")
    assert (config.batch_size, config.epochs, config.lr, config.weight_decay, config.adam_eps, config.clip) == (
        32,
        200,
        1e-4,
        0.03,
        1e-6,
        1.0,
    )
    assert (config.schedule, config.warmup_epochs, config.ground_size, config.alpha, config.beta) == ("per_epoch", 5, (122, 671), 10, 5)
    assert (config.heads, config.layers, config.ffn_width, config.dropout, config.bottleneck) == (4, 2, 512, 0.3, True)


def test_another_trunk_is_trained_from_scratch_unless_told_otherwise() -> None:
    assert resolve_config("small").pretrained
    assert not resolve_config("small", backbone="resnet18_small").pretrained
    assert resolve_config("small", backbone="resnet18_small", pretrained=True).pretrained
    assert resolve_config("paper", backbone="resnet34").pretrained


def test_training_areas_are_joined() -> None:
    assert resolve_config("small", train_area=["midrise", "oldtown"]).train_area == "midrise+oldtown"


def test_numbers_may_come_as_text_also_where_others_follow_from_them() -> None:
    assert resolve_config("smoke", polar=False, tile_size="0") == resolve_config("smoke", polar=False, tile_size=0)
    assert resolve_config("smoke", polar=False, tile_size="96").aerial_size == (96, 96)
    with pytest.raises(ConfigError, match="tile_size"):
        resolve_config("smoke", polar=False, tile_size="large")
