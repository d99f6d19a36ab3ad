from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geodtr_lib.geometry import (
    LAYOUTS,
    apply_layout,
    azimuth_to_column,
    column_to_azimuth,
    compose_layouts,
    crop_field_of_view,
    heading_shifts,
    invert_layout,
    layout_aerial,
    layout_ground,
    polar_transform,
    roll_heading,
    turn_aerial,
    turn_ground,
)

layouts = st.sampled_from(LAYOUTS)
quarters = st.integers(2, 12).map(lambda quarter: 4 * quarter)  # widths on which a quarter turn is exact


def smooth_tile(seed: int, side: int = 96) -> Tensor:
    """Two random low frequencies per channel, in [0, 1]: 1 x 3 x S x S. Bilinear sampling of it is accurate."""
    random = torch.Generator().manual_seed(seed)
    frequency = (torch.rand(3, 2, 2, generator=random) * 4 - 2) * 2 * math.pi / side
    phase = torch.rand(3, 2, generator=random) * 2 * math.pi
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = torch.sin(frequency[..., 0, None, None] * row + frequency[..., 1, None, None] * column + phase[..., None, None])
    return (waves.mean(1) / 2 + 0.5)[None]


def as_tensors(*pair: tuple[bool, int]) -> tuple[Tensor, Tensor]:
    return torch.tensor([flip for flip, _ in pair]), torch.tensor([turns for _, turns in pair])


# Polar transform


def test_polar_transform_equals_a_loop_over_pixels() -> None:
    side, height, width = 11, 9, 13  # S < 2H: corners beyond the tile count as 0
    image = torch.rand(1, 1, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = polar_transform(image, (height, width))[0, 0]
    for i in range(height):
        for j in range(width):
            radius = side / 2 * (height - 1 - i) / height
            x, y = side / 2 + radius * math.cos(2 * math.pi * j / width), side / 2 - radius * math.sin(2 * math.pi * j / width)
            value = 0.0
            for r, weight_r in ((int(x), int(x) + 1 - x), (int(x) + 1, x - int(x))):
                for c, weight_c in ((int(y), int(y) + 1 - y), (int(y) + 1, y - int(y))):
                    if r < side and c < side:
                        value += weight_r * weight_c * image[0, 0, r, c].item()
            assert found[i, j].item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("size", [(122, 671), (32, 128), (16, 64)])
def test_a_compass_tile_puts_its_directions_at_the_right_columns(size: tuple[int, int]) -> None:
    side, (height, width) = 128, size
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    azimuth = torch.rad2deg(torch.atan2(column + 0.0 - side / 2, side / 2 - row)) % 360
    for direction in (0, 90, 180, 270):
        distance = (azimuth - direction + 180) % 360 - 180
        wedge = (distance.abs() < 10).float()[None, None]
        line = polar_transform(wedge, size)[0, 0, height // 4]  # W
        angle = 2 * math.pi * torch.arange(width) / width
        centre = math.atan2((line * angle.sin()).sum().item(), (line * angle.cos()).sum().item()) / (2 * math.pi) * width % width
        expected = azimuth_to_column(direction, width)
        assert abs((centre - expected + width / 2) % width - width / 2) < 1.0


def test_the_bottom_row_is_the_centre_of_the_tile() -> None:
    tile = smooth_tile(0, 64)
    assert torch.equal(polar_transform(tile, (12, 40))[0, :, -1], tile[0, :, 32, 32][:, None].expand(3, 40))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), turns=st.integers(0, 3), flip=st.booleans(), height=st.integers(2, 12), quarter=quarters)
def test_unrolling_a_tile_turned_about_its_centre_is_rolling_exactly(seed: int, turns: int, flip: bool, height: int, quarter: int) -> None:
    """About S/2, the transform's centre: the pixels from 1 to S-1 lie symmetrically around it, and with S >= 2H no other is read."""
    tile = torch.rand(1, 2, 25, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    turned = tile.clone()
    turned[..., 1:, 1:] = layout_aerial(tile[..., 1:, 1:], flip, turns)
    unrolled = polar_transform(tile, (height, quarter))
    if flip:
        unrolled = unrolled.flip(-1).roll(1, -1)  # column j to W - j
    assert torch.allclose(polar_transform(turned, (height, quarter)), turn_ground(unrolled, turns), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), layout=layouts)
def test_unrolling_a_turned_tile_is_rolling_the_unrolled_tile(seed: int, layout: tuple[bool, int]) -> None:
    """With rot90 and flip themselves, within what their offsets allow: one pixel of the tile, and a mirror's one column of the panorama."""
    tile = smooth_tile(seed)
    steepest = 0.5 * 2**0.5 * 4 * math.pi / 96  # of smooth_tile, per pixel
    turned = polar_transform(layout_aerial(tile, *layout), (24, 96))
    rolled = layout_aerial(polar_transform(tile, (24, 96)), *layout, polar=True)
    column = 2 * math.pi / 96 * 48  # pixels of the tile, at the horizon
    assert (turned - rolled).abs().max() < steepest * (2**0.5 + layout[0] * column)


def test_a_quarter_turn_clockwise_rolls_right() -> None:
    tile = smooth_tile(3)
    turned = polar_transform(tile.rot90(-1, (2, 3)), (24, 96))
    unrolled = polar_transform(tile, (24, 96))
    errors = [(turned - unrolled.roll(shift, -1)).abs().mean().item() for shift in range(96)]
    assert errors.index(min(errors)) == 24


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_polar_transform_keeps_the_dtype_and_computes_in_float32_or_better(dtype: torch.dtype) -> None:
    tile = smooth_tile(1, 64).to(dtype)
    found = polar_transform(tile, (16, 32))
    exact = polar_transform(tile.double(), (16, 32))
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() <= torch.finfo(dtype).eps + 1e-6


def test_polar_transform_of_a_batch_is_that_of_each_image() -> None:
    tiles = torch.randint(0, 256, (5, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for size in ((20, 36), (500, 700)):  # the larger in parts
        each = torch.cat([polar_transform(tile[None], size) for tile in tiles])
        assert torch.equal(polar_transform(tiles, size), each)


def test_polar_transform_has_a_gradient_also_after_inference_mode() -> None:
    with torch.inference_mode():
        polar_transform(torch.rand(1, 1, 20, 20), (9, 21))
    tile = torch.rand(1, 1, 20, 20, dtype=torch.float64, requires_grad=True)
    polar_transform(tile.float(), (9, 21)).sum().backward()
    assert tile.grad is not None
    assert torch.autograd.gradcheck(lambda x: polar_transform(x, (3, 7)), torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 8, 9), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.int64)])
def test_polar_transform_refuses_what_it_cannot_unroll(images: Tensor) -> None:
    with pytest.raises(ValueError, match="polar_transform needs"):
        polar_transform(images, (4, 8))


# Layouts


@given(first=layouts, second=layouts, quarter=quarters)
@settings(max_examples=60, deadline=None)
def test_composition_is_one_layout_after_the_other(first: tuple[bool, int], second: tuple[bool, int], quarter: int) -> None:
    aerial, ground = torch.arange(36).view(1, 1, 6, 6), torch.arange(quarter).view(1, 1, 1, quarter)
    flip, turns = compose_layouts(*as_tensors(first), *as_tensors(second))
    for polar in (False, True):
        view = ground if polar else aerial
        twice = apply_layout(*apply_layout(view, ground, *first, polar=polar), *second, polar=polar)
        once = apply_layout(view, ground, flip, turns, polar=polar)
        assert torch.equal(twice[0], once[0])
        assert torch.equal(twice[1], once[1])


def test_the_layouts_are_a_group_of_eight() -> None:
    products = set()
    for first in LAYOUTS:
        for second in LAYOUTS:
            flip, turns = compose_layouts(*as_tensors(first), *as_tensors(second))
            products.add((first, second, bool(flip), int(turns)))
            assert (bool(flip), int(turns)) in LAYOUTS
        flip, turns = invert_layout(*as_tensors(first))
        back = compose_layouts(*as_tensors(first), flip, turns)
        assert (bool(back[0]), int(back[1])) == LAYOUTS[0]
    assert all(len({(f, t) for a, _, f, t in products if a == first}) == 8 for first in LAYOUTS)
    images = {tuple(layout_aerial(torch.arange(9).view(1, 1, 3, 3), *layout).flatten().tolist()) for layout in LAYOUTS}
    assert len(images) == 8


@given(layout=layouts, quarter=quarters)
@settings(max_examples=30, deadline=None)
def test_the_inverse_undoes(layout: tuple[bool, int], quarter: int) -> None:
    aerial, ground = torch.rand(1, 2, 5, 5), torch.rand(1, 2, 3, quarter)
    inverse = tuple(value.item() for value in invert_layout(*as_tensors(layout)))
    back = apply_layout(*apply_layout(aerial, ground, *layout), *inverse)
    assert torch.equal(back[0], aerial)
    assert torch.equal(back[1], ground)


def test_left_and_right_are_inverse_at_width_671_but_back_is_one_pixel_short() -> None:
    ground = torch.arange(671).view(1, 1, 1, 671)
    assert torch.equal(turn_ground(turn_ground(ground, 1), 3), ground)
    assert torch.equal(turn_ground(turn_ground(ground, 2), 2), ground.roll(1, -1))


@given(layout=layouts)
@settings(max_examples=16, deadline=None)
def test_both_views_turn_the_same_way(layout: tuple[bool, int]) -> None:
    """A tile whose value is the azimuth, and its panorama, still agree after any layout."""
    side, width = 65, 64
    row, column = torch.meshgrid(torch.arange(side) - side // 2, torch.arange(side) - side // 2, indexing="ij")
    azimuth = torch.atan2(column.double(), -row.double())  # north up, east right
    aerial = torch.stack([azimuth.sin(), azimuth.cos()])[None]  # 1 x 2 x S x S
    looks = torch.deg2rad(torch.stack([torch.as_tensor(column_to_azimuth(j + 0.5, width), dtype=torch.float64) for j in range(width)]))
    ground = torch.stack([looks.sin(), looks.cos()])[None, :, None]  # 1 x 2 x 1 x W
    aerial, ground = apply_layout(aerial, ground, *layout)
    for j in range(width):
        direction = math.radians(column_to_azimuth(j + 0.5, width))
        r, c = side // 2 - round(30 * math.cos(direction)), side // 2 + round(30 * math.sin(direction))
        assert torch.allclose(aerial[0, :, r, c], ground[0, :, 0, j], atol=0.04)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("polar", [False, True])
def test_layouts_per_sample_equal_those_one_by_one(dtype: torch.dtype, polar: bool) -> None:
    random = torch.Generator().manual_seed(0)
    aerial = torch.randint(0, 256, (8, 3, 6, 11 if polar else 6), generator=random).to(dtype)
    ground = torch.randint(0, 256, (8, 3, 4, 13), generator=random).to(dtype)
    flip, turns = as_tensors(*LAYOUTS)
    together = apply_layout(aerial, ground, flip, turns, polar=polar)
    each = [apply_layout(aerial[i : i + 1], ground[i : i + 1], *layout, polar=polar) for i, layout in enumerate(LAYOUTS)]
    assert torch.equal(together[0], torch.cat([pair[0] for pair in each]))
    assert torch.equal(together[1], torch.cat([pair[1] for pair in each]))
    assert together[0].dtype == dtype


def test_layouts_agree_with_flip_rot90_and_roll() -> None:
    aerial, ground = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 4, 16)
    for flip, turns in LAYOUTS:
        mirrored = (aerial.flip(-1), ground.flip(-1)) if flip else (aerial, ground)
        expected = mirrored[0].rot90(turns, (2, 3)), mirrored[1].roll(-4 * turns, -1)
        found = apply_layout(aerial, ground, flip, turns - 8)  # turns are modulo 4, also below 0
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    assert torch.equal(turn_aerial(aerial, 3), aerial.rot90(-1, (2, 3)))


def test_a_tile_that_is_not_square_makes_half_turns_only() -> None:
    tile = torch.rand(2, 3, 4, 8)
    assert torch.equal(turn_aerial(tile, 2), tile.flip(-1, -2))
    with pytest.raises(ValueError, match="4 x 8 cannot make a quarter turn"):
        turn_aerial(tile, torch.tensor([0, 1]))


def test_layouts_pass_gradients() -> None:
    aerial, ground = torch.rand(8, 1, 4, 4, requires_grad=True), torch.rand(8, 1, 2, 8, requires_grad=True)
    moved = apply_layout(aerial, ground, *as_tensors(*LAYOUTS))
    (moved[0].sum() + moved[1].sum()).backward()
    assert torch.equal(aerial.grad, torch.ones_like(aerial))  # a layout moves every pixel once
    assert torch.equal(ground.grad, torch.ones_like(ground))


# Azimuth, heading and field of view


def test_azimuths_and_columns() -> None:
    assert [azimuth_to_column(azimuth, 64) for azimuth in (180, 270, 0, 90, 360)] == [0, 16, 32, 48, 32]


@given(azimuth=st.floats(0, 359.999), width=st.integers(4, 2000))
def test_azimuth_to_column_and_back(azimuth: float, width: int) -> None:
    column = azimuth_to_column(azimuth, width)
    assert 0 <= column < width or column == pytest.approx(width)
    assert (column_to_azimuth(column, width) - azimuth + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)


def test_a_turn_is_a_heading_of_90_degrees() -> None:
    ground = torch.rand(2, 3, 2, 64)
    assert torch.equal(turn_ground(ground, 1), crop_field_of_view(ground, 360, 90))
    assert torch.equal(roll_heading(ground, 16), ground.roll(-16, -1))
    assert torch.equal(roll_heading(ground, torch.tensor([-3, 70])), torch.stack([ground[0].roll(3, -1), ground[1].roll(-70, -1)]))


@given(fov=st.sampled_from([70.0, 90.0, 180.0, 360.0]), azimuth=st.sampled_from([0.0, 45.0, 90.0, 225.0]))
@settings(max_examples=16, deadline=None)
def test_the_crop_is_centred_where_the_camera_looks(fov: float, azimuth: float) -> None:
    width = 720
    looks = torch.tensor([column_to_azimuth(j + 0.5, width) for j in range(width)]).view(1, 1, 1, width)
    seen = crop_field_of_view(looks, fov, azimuth).flatten()
    offset = (seen - azimuth + 180) % 360 - 180
    assert len(seen) == round(width * fov / 360)
    assert offset.mean().abs() <= 0.51
    assert offset.abs().max() <= fov / 2 + 0.51
    assert (offset.diff() > 0).all()  # azimuth grows to the right


def test_crops_per_sample() -> None:
    ground = torch.rand(3, 2, 4, 40)
    shift = torch.tensor([0.0, 90.0, 351.0])
    each = torch.cat([crop_field_of_view(ground[i : i + 1], 90, shift[i].item()) for i in range(3)])
    assert torch.equal(crop_field_of_view(ground, 90, shift), each)


@pytest.mark.parametrize("fov", [0, -10, 361])
def test_an_impossible_field_of_view_is_refused(fov: float) -> None:
    with pytest.raises(ValueError, match="field of view"):
        crop_field_of_view(torch.rand(1, 1, 2, 8), fov)


def test_headings_are_seeded_and_uniform() -> None:
    shift = heading_shifts(20_000, seed=4)
    assert torch.equal(shift, heading_shifts(20_000, seed=4))
    assert not torch.equal(shift, heading_shifts(20_000, seed=5))
    assert 0 <= shift.min() < shift.max() < 360
    assert torch.allclose(torch.histc(shift, 8, 0, 360) / 20_000, torch.full((8,), 1 / 8, dtype=shift.dtype), atol=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_geometry_is_the_same_on_a_gpu() -> None:
    tiles = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    ground = torch.rand(8, 3, 8, 37)
    assert torch.equal(polar_transform(tiles.cuda(), (16, 60)).cpu(), polar_transform(tiles, (16, 60)))
    flip, turns = as_tensors(*LAYOUTS)
    for there, here in zip(apply_layout(tiles.cuda(), ground.cuda(), flip, turns), apply_layout(tiles, ground, flip, turns), strict=True):
        assert torch.equal(there.cpu(), here)
    assert torch.equal(layout_ground(ground.cuda(), flip.cuda(), turns.cuda()).cpu(), layout_ground(ground, flip, turns))
