"""The published implementations' own numbers, through the loading of released checkpoints (tests/reference/README.md)."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from geodtr_lib.checkpoints import load_released_checkpoint
from geodtr_lib.models import GeoDTR
from geodtr_lib.models.geodtr import count_parameters
from geodtr_lib.models.released import infer_settings, to_released

REFERENCE = Path(__file__).parent / "reference"
CASES = json.loads((REFERENCE / "models.json").read_text())
TOLERANCE = dict(rtol=1e-3, atol=1e-4)


def tensor(key: str, shape: list[int], offset: float, scale: float) -> torch.Tensor:
    """The tensor of a key, as the reference generates it."""
    values = offset + scale * np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    return torch.tensor(np.asarray(values), dtype=torch.float32 if scale else torch.int64)


def images(seed: int, size: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((2, 3, *size)).astype(np.float32))


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> tuple[str, GeoDTR]:
    """A case as the authors' folder, loaded."""
    folder = tmp_path_factory.mktemp(request.param)
    described = CASES[request.param]
    parameters = {key: described[key] for key in ("backbone", "polar", "dataset", "descriptors", "tr_heads", "tr_layers", "tr_dim")}
    (folder / "1650000000_parameter.json").write_text(json.dumps({**parameters, "data_dir": "/data", "lr": 1e-4}))
    (folder / "epoch_12").mkdir()
    state = {f"module.{key}": tensor(key, *spec) for key, spec in described["state_dict"].items()}
    torch.save({"epoch": 12, "model_state_dict": state, "optimizer_state_dict": {}}, folder / "epoch_12" / "epoch_12.pth")
    model = load_released_checkpoint(folder)
    shutil.rmtree(folder)  # 120 to 200 MB
    return request.param, model


def test_embeddings_and_descriptors_agree(case: tuple[str, GeoDTR]) -> None:
    name, model = case
    expected = np.load(REFERENCE / f"{name}.npz")
    with torch.no_grad():
        output = model(images(1, CASES[name]["aerial"]), images(2, CASES[name]["ground"]))
    np.testing.assert_allclose(output.aerial, expected["aerial_embedding"], **TOLERANCE)
    np.testing.assert_allclose(output.ground, expected["ground_embedding"], **TOLERANCE)
    compared = [view for view in ("aerial", "ground") if f"{view}_descriptors" in expected]
    assert len(compared) == (2 if name.startswith("plus") else 0)
    for view in compared:
        descriptors = getattr(output, f"{view}_descriptors").flatten(2).transpose(1, 2)  # 2 x N x K
        np.testing.assert_allclose(descriptors, expected[f"{view}_descriptors"], **TOLERANCE)


def test_sizes_and_parameter_counts_agree(case: tuple[str, GeoDTR]) -> None:
    name, model = case
    assert not model.training
    assert [list(model.aerial_size), list(model.ground_size)] == [CASES[name]["aerial"], CASES[name]["ground"]]
    assert count_parameters(model).whole == CASES[name]["parameters"]


@pytest.mark.parametrize("name", CASES)
def test_our_tensors_have_the_released_names_and_shapes(name: str) -> None:
    described = CASES[name]
    with torch.device("meta"):
        model = GeoDTR(
            "convnext_tiny" if described["backbone"] == "convnext" else "resnet34",
            gle=name.split("_")[0].replace("plus", "v2"),
            n_desc=described["descriptors"],
            aerial_size=described["aerial"],
            ground_size=described["ground"],
            ffn_width=described["tr_dim"],
        )
    released = to_released(model)
    assert {key: list(value.shape) for key, value in released.items()} == {key: spec[0] for key, spec in described["state_dict"].items()}


@pytest.mark.parametrize(
    "settings",
    [
        dict(backbone="convnext_tiny", aerial_size=(256, 256), ground_size=(122, 671), n_desc=4),
        dict(backbone="convnext_tiny", aerial_size=(320, 320), ground_size=(320, 640)),
        dict(backbone="resnet34", aerial_size=(320, 320), ground_size=(320, 640), layers=1, ffn_width=64),
        dict(backbone="resnet34", aerial_size=(122, 671), ground_size=(122, 671), n_desc=2),
        dict(backbone="resnet34", gle="v1", aerial_size=(256, 256), ground_size=(122, 671), ffn_width=2048),
    ],
    ids=["square", "vigor", "vigor-resnet", "polar-resnet", "v1-square"],
)
def test_settings_are_told_by_the_tensors_alone(settings: dict) -> None:
    with torch.device("meta"):
        model = GeoDTR(**settings)
        state = to_released(model)
    told = infer_settings(state, {}, "state")
    assert settings.items() <= told.items()
    with torch.device("meta"):
        again = to_released(GeoDTR(**told))
    assert {key: value.shape for key, value in again.items()} == {key: value.shape for key, value in state.items()}
