"""The other methods: aggregators against closed forms and naive loops, whole models, and published sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.errors import CheckpointError, ConfigError
from geodtr_lib.losses import info_nce_of
from geodtr_lib.models import MODELS, build_model
from geodtr_lib.models.base import share_parameters
from geodtr_lib.models.baselines.cvft import Transport, sinkhorn
from geodtr_lib.models.baselines.cvm_net import CvmNet, NetVlad
from geodtr_lib.models.baselines.dsm import Dsm, correlate, window_norm
from geodtr_lib.models.baselines.l2ltr import L2ltr
from geodtr_lib.models.baselines.liu_li import Halving, LiuLi, generalised_mean, panorama_orientation, tile_orientation
from geodtr_lib.models.baselines.safa import Safa, SpatialAttention
from geodtr_lib.models.baselines.tokens import Layer
from geodtr_lib.models.baselines.transgeo import TransGeo, load_deit
from geodtr_lib.models.geodtr import count_parameters

BASELINES = sorted(set(MODELS) - {"geodtr"})
SIZE = (32, 64)


def config(model: str, **values: Any) -> RunConfig:
    given = dict(model=model, backbone="resnet18_small", ground_size=SIZE, n_desc=2, heads=2, dropout=0.0, device="cpu", tile_size=32)
    return resolve_config("smoke", **{**given, **values})


def built(model: str, **values: Any) -> Any:
    torch.manual_seed(0)
    return build_model(config(model, **values))


def images(count: int = 3, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Whole models


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("view", [dict(fov=180.0), dict(fov=70.0), dict(polar=False)], ids=str)
def test_unit_embeddings_for_every_view(name: str, view: dict[str, Any]) -> None:
    if name == "dsm" and "polar" in view:
        pytest.skip("DSM takes unrolled tiles only")
    model = built(name, **view).eval()
    width = round(SIZE[1] * view.get("fov", 360) / 360)
    out = model(images(2, (32, 32) if "polar" in view else SIZE), images(2, (SIZE[0], width), seed=1))
    assert out.aerial.dtype == out.ground.dtype == torch.float32
    for embedding in (out.aerial, out.ground):
        assert embedding.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    similarity = model.similarity(out.aerial, out.ground)
    assert similarity.shape == (2, 2)
    assert similarity.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize("name", BASELINES)
def test_one_by_one_as_in_a_batch_and_each_branch_alone(name: str) -> None:
    model = built(name).eval()
    aerial, ground = images(), images(seed=1)
    with torch.no_grad():
        out = model(aerial, ground)
        assert torch.allclose(torch.cat([model.encode_aerial(image[None]) for image in aerial]), out.aerial, atol=1e-5)
        assert torch.allclose(torch.cat([model.encode_ground(image[None]) for image in ground]), out.ground, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_bfloat16_autocast_gives_float32_embeddings_of_unit_length_close_to_float32(name: str) -> None:
    model = built(name).eval()
    aerial, ground = images(), images(seed=1)
    with torch.no_grad():
        exact = model(aerial, ground)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(aerial, ground)
    for view, reference in zip(half, exact, strict=True):
        if view.ndim == 2:  # an embedding
            assert view.dtype == torch.float32
            torch.testing.assert_close(view.norm(dim=1), torch.ones(3), rtol=0, atol=1e-5)
            assert F.cosine_similarity(view, reference).min() > 0.998, name


@pytest.mark.parametrize("name", BASELINES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = built(name)
    aerial, ground = model.describe_aerial(images()), model.describe_ground(images(seed=1))
    similarity = model.similarity(aerial.embedding, ground.embedding)
    loss = info_nce_of(similarity, 0.1 if model.temperature is None else model.temperature)
    if name == "vigor":
        loss = loss + model.offset(aerial, ground).square().mean()
    loss.backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    # timm's ResNets begin with blocks that add nothing, which have no gradient to pass on.
    silent = [key for key, parameter in model.named_parameters() if "trunk" not in key and not parameter.grad.any()]
    assert silent == []


@pytest.mark.parametrize("name", BASELINES)
def test_the_embedding_says_which_image_it_is_of(name: str) -> None:
    """Not the same for every image, which a forgotten term could make it."""
    model = built(name).eval()
    with torch.no_grad():
        found = model.encode_ground(images(2))
    assert (found[0] - found[1]).abs().max() > 1e-6


def test_only_methods_that_share_do() -> None:
    shared = {name for name in BASELINES if share_parameters(*_parts(built(name)))}
    assert shared == {"cvm_net", "cvm_net_ii", "sample4geo"}


def _parts(model: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """What each branch runs, told by the gradients."""
    parts = []
    for describe in (model.describe_aerial, model.describe_ground):
        model.zero_grad(set_to_none=True)
        describe(images()).embedding.square().sum().backward()
        part = torch.nn.Module()
        for number, parameter in enumerate(parameter for parameter in model.parameters() if parameter.grad is not None):
            part.register_parameter(str(number), parameter)
        parts.append(part)
    return parts[0], parts[1]


def test_what_a_method_cannot_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="heading: 'random' .*'liu_li'"):
        build_model(config("liu_li", heading="random"))
    with pytest.raises(ConfigError, match="polar: False .*'dsm'"):
        build_model(config("dsm", polar=False))
    with pytest.raises(ConfigError, match="'safaa' is not known; allowed: geodtr, cvm_net"):
        build_model(config("safaa"))
    with pytest.raises(ConfigError, match="reduce: 'min'"):
        SpatialAttention(2, 2, reduce="min")
    with pytest.raises(ConfigError, match="variant: 'III'"):
        CvmNet("resnet18_small", variant="III")
    with pytest.raises(ConfigError, match="keep: 0"):
        TransGeo("patch16", SIZE, SIZE, keep=0.0)
    with pytest.raises(ConfigError, match="pretrained: there are no weights of 'patch16' for 'l2ltr'"):
        build_model(config("l2ltr", backbone="patch16", pretrained=True))
    monkeypatch.setitem(MODELS, "transgeo", lambda _: TransGeo("patch16", SIZE, SIZE))  # DeiT's weights are on a hub
    with pytest.raises(ConfigError, match="frozen_stride: 'patch16' has no levels to freeze"):
        build_model(config("transgeo", backbone="patch16", pretrained=True, frozen_stride=2))
    assert not resolve_config("paper", model="l2ltr", backbone="patch16").pretrained, "the preset's weights are of other trunks"
    assert resolve_config("small", pretrained="False").frozen_stride == 0, "also as text"
    with pytest.raises(ConfigError, match="heads: 5 do not divide the 384"):
        TransGeo("patch16", SIZE, SIZE, heads=5)


# CVM-Net


def test_netvlad_is_a_double_loop() -> None:
    torch.manual_seed(0)
    vlad = NetVlad(5, 3).double()
    features = draw(2, 5, 2, 4)
    expected = []
    for image in features:
        local = F.normalize(image.flatten(1).T, dim=1)  # N x C
        total = torch.zeros(3, 5, dtype=torch.float64)
        for x in local:
            share = (vlad.assignment.weight[:, :, 0, 0] @ x + vlad.assignment.bias).softmax(0)
            for k in range(3):
                total[k] += share[k] * (x - vlad.centres[k])
        total = total / total.norm(dim=1, keepdim=True)
        expected.append(total.flatten() / total.norm())
    assert torch.allclose(vlad(features), torch.stack(expected), atol=1e-12)


def test_netvlad_with_one_cluster_is_the_mean_minus_its_centre_and_knows_no_order() -> None:
    vlad = NetVlad(4, 1).double()
    features = draw(1, 4, 3, 5)
    mean = F.normalize(features, dim=1).mean((2, 3)) - vlad.centres
    assert torch.allclose(vlad(features), F.normalize(mean, dim=1), atol=1e-12)
    several = NetVlad(4, 6).double()
    assert torch.allclose(several(features), several(features.roll(2, 3).flip(2)), atol=1e-12)


@pytest.mark.parametrize(
    ("variant", "vlads", "convolutions"),
    [("I", 2, 0), ("II", 1, 3)],  # both have one projection; II one NetVLAD for both views behind 1x1 convolutions
)
def test_cvm_net_has_the_parameters_of_its_layers(variant: str, vlads: int, convolutions: int) -> None:
    with torch.device("meta"):
        model = CvmNet("vgg16:stride16", variant=variant)
    count = count_parameters(model)
    expected = vlads * (64 * 513 + 64 * 512) + 32768 * 4096 + 4096 + convolutions * (512 * 512 + 512)
    assert count.whole - count.backbones == expected
    assert count.backbones == 2 * 14_714_688  # VGG-16 without its classifier


# SAFA


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_safa_is_a_loop_over_maps(reduce: str) -> None:
    attention = SpatialAttention(2, 4, maps=3, reduce=reduce).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    features = draw(2, 5, 2, 4)
    maps = attention(features)
    for b in range(2):
        reduced = (features[b].amax(0) if reduce == "max" else features[b].mean(0)).flatten()
        for k in range(3):
            expected = (reduced @ attention.w1[:, k] + attention.b1[k]) @ attention.w2[k] + attention.b2[k]
            assert torch.allclose(maps[b, k].flatten(), expected, atol=1e-12)


def test_safa_begins_as_average_pooling() -> None:
    torch.manual_seed(0)
    maps = SpatialAttention(4, 20)(torch.rand(2, 6, 4, 20))
    assert torch.allclose(maps, torch.full_like(maps, 0.1), atol=0.05)
    assert maps.std(dim=(2, 3)).max() < 0.03


def test_safa_with_vgg_has_the_paper_s_sizes() -> None:
    with torch.device("meta"):
        model = Safa("vgg16:stride16", (112, 616), (112, 616))
        branch = model.aerial_branch
        height, width = branch.trunk.feature_size((112, 616))
        positions, hidden = height * width, height * width // 2
    per_branch = 8 * (positions * hidden + hidden + hidden * positions + positions)
    count = count_parameters(model)
    assert count.whole - count.backbones == 2 * per_branch
    assert 8 * branch.trunk.channels == 4096


# CVFT


def test_sinkhorn_gives_a_plan_whose_rows_and_columns_sum_to_one() -> None:
    plan = sinkhorn(draw(3, 6, 6).float() * 0.05, iterations=200)
    assert torch.allclose(plan.sum(1), torch.ones(3, 6), atol=1e-5)
    assert torch.allclose(plan.sum(2), torch.ones(3, 6), atol=1e-3)
    assert (plan >= 0).all()


def test_sinkhorn_is_the_naive_iteration() -> None:
    cost = draw(2, 4, 4).float() * 0.1
    naive = torch.exp(-10 * cost)
    for _ in range(20):
        naive = naive / naive.sum(2, keepdim=True)
        naive = naive / naive.sum(1, keepdim=True)
    assert torch.allclose(sinkhorn(cost, 10.0, 20), naive, atol=1e-5)


def test_a_sharp_plan_is_the_cheapest_permutation() -> None:
    order = torch.tensor([2, 0, 3, 1])
    cost = 1 - torch.eye(4)[order]
    assert torch.allclose(sinkhorn(cost[None])[0], torch.eye(4)[order], atol=1e-6)


def test_transport_moves_features_where_the_plan_says() -> None:
    transport = Transport(3, (2, 2))
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        transport.cost.weight.zero_()
        transport.cost.bias.copy_((1 - torch.eye(4)[order]).flatten())
    features = draw(2, 3, 2, 2).float()
    assert torch.allclose(transport(features).flatten(2), features.flatten(2)[:, :, order], atol=1e-5)


def test_transport_begins_by_spreading_every_feature_over_the_others() -> None:
    transport = Transport(3, (2, 2))
    with torch.no_grad():
        transport.cost.weight.zero_()
    assert torch.allclose(transport.plan(draw(1, 3, 2, 2).float())[0], (1 - torch.eye(4)) / 3, atol=1e-6)


# Liu and Li


def test_orientation_maps_look_where_the_image_does() -> None:
    panorama = panorama_orientation((4, 8))
    assert panorama[0, 0].tolist() == pytest.approx([-0.875, -0.625, -0.375, -0.125, 0.125, 0.375, 0.625, 0.875])
    assert panorama[1, :, 0].tolist() == pytest.approx([0.75, 0.25, -0.25, -0.75])
    assert panorama_orientation((4, 2), fov=90.0)[0, 0].tolist() == pytest.approx([-0.125, 0.125])
    tile = tile_orientation((5, 5))
    north, east, south, west = tile[:, 0, 2], tile[:, 2, 4], tile[:, 4, 2], tile[:, 2, 0]
    assert [side[0].item() for side in (north, east)] == pytest.approx([0, 0.5])
    assert abs(south[0].item()) == pytest.approx(1)
    assert west[0].item() == pytest.approx(-0.5)
    assert tile[1, 2, 2].item() == -1
    assert tile[1].argmax().item() in (0, 4, 20, 24)


def test_a_quarter_turn_of_the_tile_adds_90_degrees_to_its_orientation() -> None:
    tile = tile_orientation((6, 6))
    turned = torch.rot90(tile, 1, (1, 2))  # counter-clockwise: what was in the east is in the north
    difference = (turned[0] - tile[0]) % 2
    assert torch.allclose(difference, torch.full((6, 6), 0.5), atol=1e-5)
    assert torch.allclose(turned[1], tile[1], atol=1e-6)


def test_generalised_mean_lies_between_mean_and_maximum() -> None:
    features = draw(2, 3, 4, 4).abs() + 0.1
    assert torch.allclose(generalised_mean(features, 1.0), features.mean((2, 3)).float(), atol=1e-5)
    assert torch.allclose(generalised_mean(features, 40.0), features.amax((2, 3)).float(), rtol=0.08)
    constant = torch.full((1, 2, 3, 3), 0.7)
    assert generalised_mean(constant).tolist()[0] == pytest.approx([0.7, 0.7])


def test_the_published_encoder_halves_seven_times_and_gives_1536_values() -> None:
    with torch.device("meta"):
        model = LiuLi("orientation7", (256, 256), (112, 616), polar=False)
        out = model(torch.empty(1, 3, 256, 256), torch.empty(1, 3, 112, 616))
        assert out.aerial.shape == out.ground.shape == (1, 1536)
        assert model.aerial_branch(torch.empty(1, 3, 256, 256)).features.shape == (1, 512, 8, 8)
        assert Halving(2, 2)(torch.empty(1, 2, 7, 1)).shape == (1, 2, 4, 1)


def test_a_trunk_of_three_colours_starts_from_the_colours_alone() -> None:
    torch.manual_seed(0)
    model = LiuLi("resnet18_small", SIZE, SIZE).eval()
    branch = model.ground_branch
    x = images(2)
    assert torch.allclose(branch(x).features, branch.trunk(x), atol=1e-5)


# DSM


def test_correlation_is_a_triple_loop() -> None:
    aerial, ground = draw(2, 3, 2, 6).float(), draw(4, 3, 2, 4, seed=1).float()
    fit = correlate(aerial, ground)
    assert fit.shape == (2, 4, 6)
    for a in range(2):
        for g in range(4):
            for slide in range(6):
                columns = [(j + slide) % 6 for j in range(4)]
                assert fit[a, g, slide].item() == pytest.approx((aerial[a][..., columns] * ground[g]).sum().item(), abs=1e-4)
    length = window_norm(aerial, 4)
    assert length[1, 5].item() == pytest.approx(aerial[1][..., [5, 0, 1, 2]].norm().item(), rel=1e-5)


@pytest.mark.parametrize("fov", [360.0, 180.0, 90.0])
@pytest.mark.parametrize("turn", [0, 1, 3, 7])
def test_correlation_finds_a_known_roll_at_similarity_one(fov: float, turn: int) -> None:
    seen = round(64 * fov / 360)
    with torch.device("meta"):
        model = Dsm("resnet18_small", SIZE, (32, seen), channels=4)
    channels, rows, columns = model.aerial_map
    kept = model.ground_map[2]
    aerial = F.normalize(draw(5, channels * rows, columns).float(), dim=1).view(5, channels, rows, columns)  # no column outweighs another
    start = (columns - kept) // 2 + turn  # a camera that looks `turn` columns clockwise of north
    ground = aerial.roll(-start, 3)[..., :kept]
    embeddings = [F.normalize(maps.flatten(1), dim=1) for maps in (aerial, ground)]
    similarity, heading = model.similarity(*embeddings), model.heading(*embeddings)
    assert torch.allclose(similarity.diagonal(), torch.ones(5), atol=1e-5)
    assert heading.diagonal().tolist() == pytest.approx([turn * 360 / columns] * 5)
    assert (similarity - 2 * torch.eye(5)).max() < 0.999, "other places do not fit as well"


def test_turning_the_panorama_changes_no_similarity_to_any_tile() -> None:
    model = built("dsm").eval()
    step = SIZE[1] // model.ground_map[2]  # pixels of one column of the map
    with torch.no_grad():
        aerial, ground = model.encode_aerial(images()), model.encode_ground(images(seed=1))
        columns = ground.unflatten(1, model.ground_map).roll(-2, 3).flatten(1)
        assert torch.allclose(model.similarity(aerial, columns), model.similarity(aerial, ground), atol=1e-5)
        assert torch.equal((model.heading(aerial, columns) - model.heading(aerial, ground)) % 360, torch.full((3, 3), 2 * 360 / 8))
    assert step == 8


def test_the_map_of_a_rolled_closed_image_is_the_rolled_map_away_from_the_trunk_s_edges() -> None:
    """The convolutions behind the trunk wrap around exactly; the trunk sees one more column on either side."""
    torch.manual_seed(0)
    branch = Dsm("resnet18_small", SIZE, SIZE).eval().aerial_branch
    features = torch.randn(1, branch.trunk.channels, 4, 8)
    trunk, branch.trunk = branch.trunk, torch.nn.Identity()
    branch.trunk.stride = 1
    with torch.no_grad():
        plain, rolled = branch(features).features, branch(features.roll(3, 3)).features
    assert torch.allclose(plain.roll(3, 3), rolled, atol=1e-6)
    assert trunk.stride == 8


def test_dsm_has_the_paper_s_map() -> None:
    with torch.device("meta"):
        model = Dsm("vgg16:stride8", (128, 512), (128, 512))
    assert model.aerial_map == model.ground_map == (16, 4, 64)
    assert math.prod(model.aerial_map) == 4096


# Transformers


def test_a_layer_with_its_own_keys_is_timm_s_block() -> None:
    torch.manual_seed(0)
    block = timm.models.vision_transformer.Block(24, 4, qkv_bias=True).double().eval()
    layer = Layer(24, 4, 96).double().eval()
    layer.load_state_dict(block.state_dict())
    block.norm1.eps = block.norm2.eps = 1e-6
    tokens = draw(2, 7, 24)
    assert torch.allclose(layer(tokens), block(tokens), atol=1e-10)


def test_keys_come_from_the_layer_before() -> None:
    torch.manual_seed(0)
    layer = Layer(8, 2, 16).double().eval()
    tokens, before = draw(1, 5, 8), draw(1, 5, 8, seed=1)
    weights, biases = layer.attn.qkv.weight.chunk(3), layer.attn.qkv.bias.chunk(3)
    now, then = layer.norm1(tokens), layer.norm1(before)
    query, key, value = now @ weights[0].T + biases[0], then @ weights[1].T + biases[1], now @ weights[2].T + biases[2]
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        attention = (query[0][:, head] @ key[0][:, head].T / 2).softmax(1)
        heads.append(attention @ value[0][:, head])
    attended = tokens + layer.attn.proj(torch.cat(heads, dim=1))
    expected = attended + layer.mlp(layer.norm2(attended))
    assert torch.allclose(layer(tokens, before), expected, atol=1e-10)
    assert torch.allclose(layer(tokens, tokens), layer(tokens), atol=1e-10)


def test_transgeo_on_patches_is_deit_to_the_digit() -> None:
    torch.manual_seed(0)
    deit = timm.create_model("deit_small_distilled_patch16_224").eval()
    model = TransGeo("patch16", (224, 224), (224, 224)).eval()
    load_deit(model, deit.state_dict())
    x = images(2, (224, 224))
    with torch.no_grad():
        expected = F.normalize(deit(x), dim=1)
        assert torch.allclose(model.encode_aerial(x), expected, atol=1e-5)
        # The attention of the last layer, by timm's own projection.
        tokens = deit._pos_embed(deit.patch_embed(x))
        for block in deit.blocks[:-1]:
            tokens = block(tokens)
        last = deit.blocks[-1]
        query, key, _ = last.attn.qkv(last.norm1(tokens)).unflatten(2, (3, 6, 64)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.mT / 8).softmax(3)[:, :, 0, 2:].mean(1)
    assert torch.allclose(model.aerial_branch.attention(x).flatten(1), weights, atol=1e-6)


def test_deit_s_weights_that_do_not_fit_are_refused() -> None:
    state = timm.create_model("deit_tiny_distilled_patch16_224").state_dict()
    with pytest.raises(CheckpointError, match="do not fit this TransGeo"):
        load_deit(TransGeo("patch16", (32, 32), (32, 32), layers=1), state)


def test_published_parameter_counts() -> None:
    """Table VII of GeoDTR+, and timm's own counts of the same transformers."""
    with torch.device("meta"):
        transgeo = count_parameters(TransGeo("patch16", (256, 256), (112, 616))).whole
        deit = sum(p.numel() for p in timm.create_model("deit_small_distilled_patch16_224").parameters())
        tokens = L2ltr("resnetv2_50x1_bit:stage3", (128, 512), (128, 512))
        hybrid = timm.create_model("vit_base_r50_s16_224", num_classes=0)
    grids = 16 * 16 + 7 * 38 - 2 * 14 * 14
    assert transgeo == 2 * deit + grids * 384
    assert transgeo == pytest.approx(44.0e6, rel=0.025)
    # timm's trunk of the hybrid has three more blocks in its last stage than a ResNet-50 cut there.
    trunk = sum(p.numel() for p in hybrid.patch_embed.backbone.parameters())
    count = count_parameters(tokens)
    branch = (count.whole - count.backbones) // 2
    assert branch == sum(p.numel() for p in hybrid.parameters()) - trunk + (8 * 32 - 14 * 14) * 768
    assert 2 * (branch + trunk) == pytest.approx(195.9e6, rel=0.005)


def test_zooming_keeps_the_patches_with_most_attention_in_their_order() -> None:
    model = built("transgeo_zoom", backbone="patch8", aerial_size=(32, 32), polar=False).eval()
    branch = model.aerial_branch
    attention = torch.zeros(1, 4, 4)
    attention[0, 1, 2] = 1.0
    kept = branch.chosen(attention, (5, 5))[0]
    assert len(kept) == round(0.64 * 25)
    assert kept.tolist() == sorted(set(kept.tolist()))
    closest = F.interpolate(attention[None], (5, 5), mode="bilinear", align_corners=False).flatten().argmax()
    assert closest in kept
    x = images(2, (32, 32))
    seen = branch.attention(x)
    assert seen.shape == (2, 4, 4)
    assert (seen.sum((1, 2)) < 1).all(), "the class tokens have a share too"


def test_zooming_by_one_and_keeping_all_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = TransGeo("patch8", (32, 32), (32, 32), width=16, heads=2, layers=2, ffn_width=32).eval()
    zooming = TransGeo("patch8", (32, 32), (32, 32), width=16, heads=2, layers=2, ffn_width=32, zoom=1.25, keep=1.0).eval()
    zooming.load_state_dict(plain.state_dict())
    x = images(2, (32, 32))
    larger = F.interpolate(x, (40, 40), mode="bilinear", align_corners=False)
    assert torch.allclose(zooming.encode_aerial(x), plain.encode_aerial(larger), atol=1e-6)
    assert torch.equal(zooming.encode_ground(x), plain.encode_ground(x))


def test_every_weight_of_a_zooming_transgeo_is_trained_under_autocast() -> None:
    """The first look has no gradient: what it casts must not be kept for the second."""
    torch.manual_seed(0)
    model = TransGeo("patch8", (32, 32), (32, 32), width=16, heads=2, layers=2, ffn_width=32, zoom=1.25, keep=0.64)
    kept: list[bool] = []
    model.aerial_branch.blocks[0].register_forward_pre_hook(lambda *_: kept.append(torch.is_autocast_cache_enabled()))  # type: ignore[index]
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images(4, (32, 32)), images(4, (32, 32), seed=1))
        assert model.aerial_branch.head.weight.dtype == torch.float32
        loss = model.similarity(out.aerial, out.ground).diagonal().sum()
    loss.backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert kept == [False, True], "of both looks"


# Sample4Geo


def test_sample4geo_is_one_trunk_whatever_the_view_and_its_position() -> None:
    model = built("sample4geo").eval()
    x = images()
    assert torch.equal(model.encode_aerial(x), model.encode_ground(x))
    with torch.no_grad():
        features = model.trunk(x).double().numpy()
    pooled = features.mean((2, 3))
    normalised = (pooled - pooled.mean(1, keepdims=True)) / np.sqrt(pooled.var(1, keepdims=True) + 1e-6)
    expected = normalised / np.linalg.norm(normalised, axis=1, keepdims=True)
    assert model.encode_ground(x).detach().numpy() == pytest.approx(expected, abs=1e-5)
