"""Saving and loading: round trips, and one clear line for every file that does not fit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from permissions import unreadable

from geodtr_lib.checkpoints import (
    load_checkpoint,
    load_released_checkpoint,
    load_tensors,
    released_parameters,
    save_model,
    save_released_checkpoint,
    save_tensors,
)
from geodtr_lib.config import resolve_config
from geodtr_lib.errors import CheckpointError
from geodtr_lib.models import GeoDTR, build_model
from geodtr_lib.study.trained import open_trained


@pytest.fixture(autouse=True)
def _leave_no_weights(tmp_path) -> Iterator[None]:
    """A released model has 100 MB, and pytest keeps the folders of three runs."""
    yield
    for file in tmp_path.rglob("*.pth"):
        file.unlink()


RELEASABLE = dict(aerial_size=(32, 64), ground_size=(48, 64), n_desc=2, ffn_width=32)


def images(size: tuple[int, int]) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def outputs(model: GeoDTR) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return tuple(model.eval()(images(model.aerial_size), images(model.ground_size)))


def same(first: GeoDTR, second: GeoDTR) -> bool:
    return all(torch.equal(a, b) for a, b in zip(outputs(first), outputs(second), strict=True))


# --- tensors in files -------------------------------------------------------------------------------------------------------------


def test_tensors_come_back_equal_whatever_their_memory(tmp_path) -> None:
    shared = torch.randn(2, 3, 4, 5)
    tensors = {
        "channels_last": shared.to(memory_format=torch.channels_last),
        "view": shared[0],
        "again": shared[0],
        "half": shared.to(torch.bfloat16),
        "count": torch.tensor(7),
    }
    save_tensors(tmp_path / "a" / "t.safetensors", tensors, {"step": "3"})
    loaded, metadata = load_tensors(tmp_path / "a" / "t.safetensors")
    assert metadata == {"step": "3"}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], value) and loaded[key].dtype == value.dtype for key, value in tensors.items())


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_file_cut_short_is_an_error(tmp_path, kept: int) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"a": torch.randn(100)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"t\.safetensors is damaged"):
        load_tensors(path)


def test_a_missing_file_is_an_error(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"t\.safetensors does not exist"):
        load_tensors(tmp_path / "t.safetensors")


# --- our run folders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gle", ["v1", "v2"])
def test_a_run_folder_gives_the_model_back(tmp_path, gle: str) -> None:
    config = resolve_config("smoke", gle=gle, n_desc=3)
    model = build_model(config).to(memory_format=torch.channels_last)
    model.train()(images((16, 64)), images((16, 64)))  # moves the batch-norm statistics
    save_model(tmp_path, model, config.to_dict())
    state = torch.get_rng_state()
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    expected = model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert same(model.to(memory_format=torch.contiguous_format), loaded)


def test_a_second_set_of_weights_lies_beside_the_first(tmp_path) -> None:
    config = resolve_config("smoke")
    first, second = build_model(config), build_model(config)
    save_model(tmp_path, first, config.to_dict())
    save_model(tmp_path, second, config.to_dict(), name="best")
    assert same(load_checkpoint(tmp_path), first)
    assert same(load_checkpoint(tmp_path, "best"), second)


def test_restoring_a_pretrained_model_needs_no_hub(tmp_path, monkeypatch) -> None:
    config = resolve_config("smoke", pretrained=True)
    model = build_model(config.replace(pretrained=False))
    save_model(tmp_path, model, config.to_dict())
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: pytest.fail("asked the hub for weights"))
    assert same(load_checkpoint(tmp_path), model)


def test_what_is_missing_in_a_run_folder_is_named(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"no run folder: it has no config\.json"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(resolve_config("smoke").to_dict()))
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist"):
        load_checkpoint(tmp_path)


def test_a_run_folder_may_be_named_from_home_and_one_that_may_not_be_read_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = resolve_config("smoke")
    model = build_model(config)
    save_model(tmp_path / "run", model, config.to_dict())
    assert same(load_checkpoint("~/run"), model)
    assert open_trained("~/run").path == str(tmp_path / "run" / "model.safetensors")
    for path in (tmp_path / "run", tmp_path / "run" / "model.safetensors"):
        with unreadable(path), pytest.raises(CheckpointError, match=r"run(/model\.safetensors)? cannot be read: permission denied"):
            load_checkpoint(tmp_path / "run")


def test_weights_of_another_architecture_list_their_keys(tmp_path) -> None:
    config = resolve_config("smoke")
    save_model(tmp_path, build_model(config.replace(backbone="resnet18:stride4", n_desc=4)), config.to_dict())
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "60 missing (aerial_branch.backbone.net.layer2.0.conv1.weight, " in message
    assert message.count("layer2") == 5
    assert "mis-shaped (aerial_branch.layout_extractor.position (1, 64, 64) instead of (1, 16, 128), " in message
    assert ", ...)" in message
    assert "unexpected" not in message


# --- the authors' files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Iterator[tuple[GeoDTR, Path]]:
    """A GeoDTR+ and its file in the authors' format."""
    torch.manual_seed(0)
    model = GeoDTR(**RELEASABLE)
    path = tmp_path_factory.mktemp("released") / "model.pth"
    save_released_checkpoint(model, path)
    yield model, path
    path.unlink()


def tampered(released: tuple[GeoDTR, Path], folder: Path, change) -> Path:
    """A copy of the file with another state dict, and the same parameter file."""
    content = torch.load(released[1], weights_only=True)
    change(content["model_state_dict"])
    torch.save(content, folder / "model.pth")
    (folder / "model_parameter.json").write_text(released[1].with_name("model_parameter.json").read_text())
    return folder / "model.pth"


def test_round_trip_is_bit_equal(released: tuple[GeoDTR, Path]) -> None:
    model, path = released
    state = torch.get_rng_state()
    loaded = load_released_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    assert (loaded.backbone, loaded.gle, loaded.n_desc, loaded.heads) == ("convnext_tiny", "v2", 2, 4)
    assert same(model, loaded)
    expected = model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in loaded.parameters())


@pytest.mark.parametrize(
    "settings",
    [dict(bottleneck=False, heads=8), dict(gle="v1", heads=2, aerial_size=(64, 64), ground_size=(32, 128))],
    ids=["without-bottleneck", "v1"],
)
def test_round_trip_of_a_folder(tmp_path, settings: dict) -> None:
    torch.manual_seed(1)
    model = GeoDTR(**{**RELEASABLE, "backbone": "resnet34", **settings})
    model.train()(images(model.aerial_size), images(model.ground_size))  # batch-norm statistics and counters
    save_released_checkpoint(model, tmp_path, epoch=7)
    file = tmp_path / "epoch_7" / "epoch_7.pth"
    content = torch.load(file, weights_only=True)
    assert content["epoch"] == 7
    assert all(key.startswith("module.") for key in content["model_state_dict"])
    assert int(content["model_state_dict"]["module.backbone_sat.layers.1.num_batches_tracked"]) == 1
    assert ("module.GLE_grd.w1" in content["model_state_dict"]) == (model.gle == "v2")
    loaded = load_released_checkpoint(tmp_path)
    assert (loaded.heads, loaded.activation) == (model.heads, model.activation)
    assert same(model, loaded)


def test_a_bare_state_dict_needs_only_what_tensors_do_not_tell(released: tuple[GeoDTR, Path], tmp_path) -> None:
    model, path = released
    state = {key.removeprefix("module."): value for key, value in torch.load(path, weights_only=True)["model_state_dict"].items()}
    torch.save(state, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"8 positions; give aerial_size="):
        load_released_checkpoint(tmp_path / "bare.pth")
    sizes = dict(aerial_size=model.aerial_size, ground_size=model.ground_size)
    assert same(load_released_checkpoint(tmp_path / "bare.pth", **sizes), model)
    assert load_released_checkpoint(tmp_path / "bare.pth", **sizes, bottleneck=False).bottleneck is False


def test_keys_that_do_not_fit_are_listed(released: tuple[GeoDTR, Path], tmp_path) -> None:
    def change(state: dict) -> None:
        del state["module.backbone_grd.net.5.8.block.3.weight"]
        state["module.GLE_sat.extra"] = torch.zeros(1)
        state["module.GLE_sat.w1"] = torch.zeros(2, 8, 5)

    with pytest.raises(CheckpointError) as caught:
        load_released_checkpoint(tampered(released, tmp_path, change))
    assert "1 missing (backbone_grd.net.5.8.block.3.weight)" in str(caught.value)
    assert "1 unexpected (GLE_sat.extra)" in str(caught.value)
    assert "1 mis-shaped (GLE_sat.w1 (2, 8, 5) instead of (2, 8, 4))" in str(caught.value)


def test_a_parameter_file_of_another_checkpoint_is_refused(released: tuple[GeoDTR, Path], tmp_path) -> None:
    path = tampered(released, tmp_path, lambda state: None)
    parameters = json.loads((tmp_path / "model_parameter.json").read_text())
    for key, value, message in (
        ("descriptors", 8, "descriptors=8 but the tensors have 2"),
        ("backbone", "resnet", "backbone='resnet' but the tensors have 'convnext'"),
        ("orthogonalize", True, "orthogonalize"),
    ):
        (tmp_path / "model_parameter.json").write_text(json.dumps({**parameters, key: value}))
        with pytest.raises(CheckpointError, match=message):
            load_released_checkpoint(path)
    (tmp_path / "model_parameter.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"model_parameter\.json is not readable as JSON"):
        load_released_checkpoint(path)


def test_a_parameter_file_with_impossible_values_names_the_key(released: tuple[GeoDTR, Path], tmp_path) -> None:
    path = tampered(released, tmp_path, lambda state: None)
    parameters = json.loads((tmp_path / "model_parameter.json").read_text())
    number, size = "it must be a whole number of at least 1", r"it must be \[height, width\] in pixels"
    for key, value, told in (
        ("tr_heads", "x", f"tr_heads='x'; {number}"),
        ("tr_heads", None, f"tr_heads=None; {number}"),
        ("tr_heads", 2.5, rf"tr_heads=2\.5; {number}"),
        ("tr_heads", 0, f"tr_heads=0; {number}"),
        ("aerial", ["a", "b"], rf"aerial=\['a', 'b'\]; {size}"),
        ("ground", [32, 64.5], rf"ground=\[32, 64\.5\]; {size}"),
        ("aerial", [32], rf"aerial=\[32\]; {size}"),
    ):
        (tmp_path / "model_parameter.json").write_text(json.dumps({**parameters, key: value}))
        with pytest.raises(CheckpointError, match=rf"model\.pth: the parameter file says {told}"):
            load_released_checkpoint(path)


def test_the_authors_download_is_taken_at_any_level_that_names_one_model(tmp_path, monkeypatch) -> None:
    for folder in ("weights/CVUSA_PT/epoch_9", "weights/CVUSA_PT/epoch_10", "weights/CVACT/epoch_3"):
        (tmp_path / folder).mkdir(parents=True)
        name = folder.rpartition("/")[2]
        torch.save({"a": torch.zeros(1)}, tmp_path / folder / f"{name}.pth")  # no model: the message tells which file was read
    (tmp_path / "weights" / "CVUSA_PT" / "x_parameter.json").write_text('{"dataset": "CVUSA"}')
    for above, inside in ((tmp_path, "weights/CVACT, weights/CVUSA_PT"), (tmp_path / "weights", "CVACT, CVUSA_PT")):
        with pytest.raises(CheckpointError, match=rf"holds no epoch_<N>/epoch_<N>\.pth; give one of its folders that do: {inside}$"):
            load_released_checkpoint(above)
    one = tmp_path / "weights" / "CVUSA_PT" / "epoch_9"
    with pytest.raises(CheckpointError, match=r"epoch_9\.pth is no released GeoDTR"):
        load_released_checkpoint(one)
    assert released_parameters(one) == {"dataset": "CVUSA"}, "of the folder that it is in"
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"epoch_10\.pth is no released GeoDTR"):
        load_released_checkpoint("~/weights/CVUSA_PT")
    (tmp_path / "weights.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"weights\.zip is an archive; unpack it and give the folder"):
        load_released_checkpoint(tmp_path / "weights.zip")
    for path in (one, one / "epoch_9.pth"):
        with unreadable(path), pytest.raises(CheckpointError, match="cannot be read: permission denied"):
            load_released_checkpoint(path)


def test_the_largest_epoch_of_a_folder_is_taken(tmp_path) -> None:
    for name in ("epoch_9", "epoch_10", "epoch_last", "other"):
        (tmp_path / name).mkdir()
        torch.save({"a": torch.zeros(1)}, tmp_path / name / f"{name}.pth")  # no model: the message tells which file was read
    with pytest.raises(CheckpointError, match=r"epoch_10\.pth is no released GeoDTR"):
        load_released_checkpoint(tmp_path)
    for epoch in (9, "last"):
        with pytest.raises(CheckpointError, match=rf"epoch_{epoch}\.pth is no released GeoDTR"):
            load_released_checkpoint(tmp_path, epoch=epoch)
    with pytest.raises(CheckpointError, match="no epoch 3; it has 9, 10, last"):
        load_released_checkpoint(tmp_path, epoch=3)
    for name in ("epoch_9", "epoch_10"):
        (tmp_path / name / f"{name}.pth").unlink()
    with pytest.raises(CheckpointError, match=r"epoch_last\.pth is no released"):
        load_released_checkpoint(tmp_path)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path) -> None:
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-run"),)

    torch.save({"model_state_dict": {"a": Code()}}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"bad\.pth is not loaded: .*could run code \(posix\.mkdir\)"):
        load_released_checkpoint(tmp_path / "bad.pth")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0, 60, 700, -30])
def test_a_released_file_cut_short_is_an_error(tmp_path, kept: int, legacy: bool) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"a": torch.randn(1000)}, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"cut\.pth is (not loaded: it is )?damaged"):
        load_released_checkpoint(path)


def test_files_that_are_no_checkpoint_say_so(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_released_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no epoch_"):
        load_released_checkpoint(tmp_path)
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="neither a state dict"):
        load_released_checkpoint(tmp_path / "list.pth")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"no released GeoDTR.*has conv\.weight"):
        load_released_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(backbone="resnet18_small"), "knows no backbone 'resnet18_small'"),
        (dict(activation="hardtanh"), "v2 does not know activation='hardtanh'"),
        (dict(gle="v1", aerial_size=(48, 48)), "even number of positions"),
    ],
)
def test_models_that_the_authors_code_cannot_build_are_not_written(tmp_path, settings: dict, message: str) -> None:
    with torch.device("meta"):
        model = GeoDTR(**{**RELEASABLE, **settings})
    with pytest.raises(CheckpointError, match=message):
        save_released_checkpoint(model, tmp_path / "model.pth")
    assert list(tmp_path.iterdir()) == []
