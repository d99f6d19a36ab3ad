from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geodtr_lib.config import resolve_config
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.data.inputs import prepare_aerial, prepare_ground
from geodtr_lib.evaluation.descriptors import (
    alignment,
    between_images,
    class_maps,
    concentration,
    correlation,
    describe_pairs,
    nearness,
    truth_correlation,
    unroll_descriptors,
)
from geodtr_lib.geometry import polar_transform, turn_aerial, turn_ground
from geodtr_lib.models.geodtr import GeoDTR, ViewEmbedding
from geodtr_lib.study.probes import example_maps, probe


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=random(seed))


def test_correlation_equals_numpys() -> None:
    first, second = maps(3, 2, 4, 5), maps(3, 2, 4, 5, seed=1)
    found = correlation(first, second)
    for i in range(3):
        for k in range(2):
            expected = np.corrcoef(first[i, k].flatten().double(), second[i, k].flatten().double())[0, 1]
            assert found[i, k].item() == pytest.approx(expected)
    assert correlation(torch.ones(1, 4, 4), maps(1, 4, 4)).isnan().all()


def test_alignment_of_equal_and_of_unrelated_views() -> None:
    ground = maps(50, 3, 6, 10)
    same = alignment(ground, 2 * ground + 1, random())
    assert torch.allclose(same.matched, torch.ones(50, 3, dtype=torch.float64))
    assert same.shuffled.abs().mean() < 0.3
    assert same.shuffled.max() < 0.99  # nobody meets itself
    unrelated = alignment(ground, maps(50, 3, 6, 10, seed=9), random())
    assert (unrelated.matched.mean() - unrelated.shuffled.mean()).abs() < 0.05


def test_what_all_places_share_shows_in_matched_and_shuffled_alike() -> None:
    common = 5 * maps(1, 2, 6, 10)
    found = alignment(common + maps(40, 2, 6, 10, seed=1), common + maps(40, 2, 6, 10, seed=2), random())
    assert found.matched.mean() > 0.9
    assert (found.matched.mean() - found.shuffled.mean()).abs() < 0.02


def test_alignment_resizes_and_needs_another_place() -> None:
    assert alignment(maps(4, 2, 4, 8), maps(4, 2, 8, 16), random()).matched.shape == (4, 2)
    with pytest.raises(ValueError, match="at least two pairs"):
        alignment(maps(1, 2, 4, 8), maps(1, 2, 4, 8), random())


@pytest.mark.parametrize("side", [4, 16])
def test_each_edge_of_square_descriptors_is_seen_at_its_own_azimuth(side: int) -> None:
    """North in the middle of the result, east at three quarters, south at its ends, west at a quarter; the centre in the bottom row."""
    middle = side // 2 - 1  # to side // 2: the two in the middle
    tiles = torch.zeros(5, 1, side, side)
    tiles[0, 0, 0, middle : middle + 2] = 1
    tiles[1, 0, middle : middle + 2, -1] = 1
    tiles[2, 0, -1, middle : middle + 2] = 1
    tiles[3, 0, middle : middle + 2, 0] = 1
    tiles[4, 0, middle : middle + 2, middle : middle + 2] = 1
    unrolled = unroll_descriptors(tiles, (4, 16), 64, (32, 128))[:, 0]  # 5 x 4 x 16
    for edge, columns in enumerate([(7, 8), (11, 12), (0, 15), (3, 4)]):
        assert sorted(unrolled[edge].sum(0).topk(2).indices.tolist()) == list(columns), edge
        assert unrolled[edge].sum(1).argmax() == 0, "an edge is far away: in the top row"
    assert unrolled[4].sum(1).argmax() == 3
    some = maps(5, 2, side, side)
    turned, rolled = (unroll_descriptors(values, (4, 16), 64, (32, 128)) for values in (turn_aerial(some, 1), some))
    # The transform of the tile itself is half a pixel off its centre, an eighth of a position of noise here.
    assert correlation(turned, turn_ground(rolled, 1)).min() > 0.93, "a turned tile is a rolled panorama"


def test_descriptors_of_a_square_tile_unroll_as_the_tile_does() -> None:
    """A tile's own grey, averaged to the size of square descriptors, correlates with the unrolled tile nearly as its own average does."""
    smooth = F.interpolate(maps(20, 1, 4, 4), (64, 64), mode="bicubic", align_corners=False)
    square = F.interpolate(smooth, (8, 8), mode="area")
    exact = F.interpolate(polar_transform(smooth, (32, 128)), (4, 16), mode="area")
    assert correlation(unroll_descriptors(square, (4, 16), 64, (32, 128)), exact).min() > 0.95
    assert correlation(polar_transform(square, (4, 16)), exact).mean() < 0.8, "half a position off"


def test_the_share_between_images_is_0_of_fixed_maps_1_without_a_shape_and_between_of_a_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    shape, image = torch.randn(1, 1, 4, 5, generator=generator), torch.randn(400, 1, 4, 5, generator=generator)
    maps = torch.cat([shape.expand(400, -1, -1, -1), image - image.mean(0), shape + image, torch.ones_like(image)], 1)  # 400 x 4 x 4 x 5
    fixed, free, both, constant = between_images(maps).tolist()
    assert fixed == pytest.approx(0, abs=1e-9)
    assert free == pytest.approx(1, abs=1e-9)
    assert both == pytest.approx(1 / (1 + shape.var(correction=0).item()), abs=0.05)
    assert constant == 0
    torch.testing.assert_close(between_images(3 * maps[:, :3] - 1), between_images(maps[:, :3]))


def test_concentration_of_a_spot_of_half_and_of_everything() -> None:
    spot, half = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    spot[..., 3, 4] = 1
    half[..., :3, :] = -1  # less than half deviates from the median
    for value, entropy, area in ((spot, 0.0, 1 / 64), (half, math.log(24) / math.log(64), 24 / 64), (torch.ones(1, 1, 8, 8), 1.0, 1.0)):
        found = concentration(value)
        assert found.entropy.item() == pytest.approx(entropy, abs=1e-6)
        assert found.active_area.item() == pytest.approx(area)
        shifted = concentration(0.25 * value + 0.5)  # the range does not matter
        assert shifted.entropy.item() == pytest.approx(entropy, abs=1e-6)
        assert shifted.active_area.item() == pytest.approx(area)


def test_a_descriptor_that_is_a_truth_map_correlates_with_it_alone() -> None:
    labels = torch.randint(0, 3, (5, 16, 32), generator=random())
    depth = torch.where(labels == 0, torch.inf, 1.0 + 20 * maps(5, 16, 32))
    truth = torch.cat([nearness(depth), class_maps(labels, 4)], dim=1)  # 5 x 5 x 16 x 32
    assert truth.isfinite().all()
    followed = torch.nn.functional.avg_pool2d((labels == 1).float()[:, None], 2)  # 5 x 1 x 8 x 16
    found = truth_correlation(followed, truth)
    assert found.shape == (5, 1, 5)
    assert torch.allclose(found[:, 0, 2], torch.ones(5, dtype=torch.float64))
    assert (found[:, 0, [1, 3]] < -0.2).all()
    assert found[:, 0, 4].isnan().all()  # class 3 is nowhere


def test_nearness_falls_with_depth() -> None:
    assert nearness(torch.tensor([[[0.2, 1.0, 4.0, torch.inf]]])).flatten().tolist() == [1.0, 1.0, 0.25, 0.0]


@pytest.mark.parametrize("polar", [True, False])
def test_a_model_of_limited_view_is_measured_where_it_sees(polar: bool) -> None:
    """Descriptors that are the picture's own colours align fully when the tile's are narrowed to what the panorama shows."""

    class Colours(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def describe_ground(self, images: torch.Tensor) -> ViewEmbedding:
            return ViewEmbedding(self.encode_ground(images), F.avg_pool2d(images, 4), images)

        def encode_ground(self, images: torch.Tensor) -> torch.Tensor:
            return F.normalize(images.mean((2, 3)), dim=1)

        describe_aerial, encode_aerial = describe_ground, encode_ground

    config = resolve_config("smoke", polar=polar, fov=90.0)
    side = config.aerial_size[0] if not polar else 64
    smooth = F.interpolate(255 * maps(6, 3, 4, 4), (side, side), mode="bilinear", align_corners=False).to(torch.uint8)
    panoramas = polar_transform(smooth, config.ground_size)
    data = ArrayDataset("city", "a", "test", smooth.numpy(), panoramas.numpy(), "0")
    model = Colours()
    ground, _ = describe_pairs(model, data, range(6), config)
    assert ground.shape == (6, 3, 4, 4), "a quarter of 64 columns, in fours"
    row, _ = probe(model, data, config, places=6)
    assert row["alignment_matched"] > (0.999 if polar else 0.9)
    kept = np.load(io.BytesIO(example_maps(model, {"a": data}, config, 2)))
    assert kept["ground"].shape == (2, 3, 16, 16)
    assert kept["ground_descriptors"].shape == (2, 3, 4, 4)


@pytest.mark.parametrize("polar", [True, False])
def test_descriptors_of_pairs_are_the_models_own(polar: bool) -> None:
    config = resolve_config("smoke", polar=polar, n_desc=3)
    model = GeoDTR(
        config.backbone, n_desc=3, aerial_size=config.aerial_size, ground_size=config.ground_size, layers=1, ffn_width=64
    ).train()
    draw = np.random.default_rng(0)
    data = ArrayDataset(
        "city",
        "a",
        "test",
        draw.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8),
        draw.integers(0, 256, (6, 3, 16, 64), dtype=np.uint8),
        "0",
    )
    data.positive = data.positive[::-1].copy()
    ground, aerial = describe_pairs(model, data, [4, 0, 1], config, batch_size=2)
    assert model.training
    model.eval()
    with torch.inference_mode():
        expected = model.describe_ground(prepare_ground(data.ground([4, 0, 1]), config.ground_size)).descriptors
        assert torch.allclose(ground, expected, atol=1e-5)
        tiles = prepare_aerial(data.aerial([1, 5, 4]), config.aerial_size, polar)
        assert torch.allclose(aerial, model.describe_aerial(tiles).descriptors, atol=1e-5)
    assert aerial.shape[:2] == (3, 3)
