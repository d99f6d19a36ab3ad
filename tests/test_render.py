"""The renderer against geometry that is known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geodtr_lib.data import environment, parallel, pixel_lists, render, street_view, world
from geodtr_lib.data.world import CLASSES, GRASS, ROAD, ROOF, SKY, TREE, WALL, Facades, World

SIZE, RESOLUTION = 400, 0.5  # pixels, metres per pixel
CENTRE = SIZE * RESOLUTION / 2
CLEAR = environment.Environment(direct=(0, 0), exposure=(1, 1), haze=(1e6, 1e6 + 1), vegetation=(0, 1, 0, 0), noise=0)


def plain() -> World:
    """Flat grass without anything on it."""
    zeros = np.zeros((SIZE, SIZE), np.float32)
    looks = np.zeros((2, 3), np.float32)
    facades = Facades(looks + 200, looks, *(np.full(2, value, np.float32) for value in (3, 3, 0, 0, 0)))
    rgb = np.full((SIZE, SIZE, 3), 100, np.uint8)
    return World(
        RESOLUTION, zeros, zeros, zeros, zeros.astype(np.int32), np.full((SIZE, SIZE), GRASS, np.uint8), rgb, zeros, zeros, rgb, facades,
        np.zeros((0, 3), np.float32),
    )  # fmt: skip


def with_block(base: World, east: tuple[float, float], north: tuple[float, float], height: float) -> World:
    """A flat-roofed building over these metres relative to the centre."""
    rows = slice(int(SIZE / 2 - north[1] / RESOLUTION), int(SIZE / 2 - north[0] / RESOLUTION))
    columns = slice(int(SIZE / 2 + east[0] / RESOLUTION), int(SIZE / 2 + east[1] / RESOLUTION))
    solid, label, building = base.solid.copy(), base.label.copy(), base.building.copy()
    solid[rows, columns], label[rows, columns], building[rows, columns] = height, ROOF, 1
    return replace(base, solid=solid, eaves=solid, label=label, building=building)


def look(
    scene_world: World, size: tuple[int, int] = (64, 256), x: float = CENTRE, y: float = CENTRE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scene = render.street_scene(scene_world, rng)
    captures = environment.draw_captures(CLEAR, 1, rng)
    image, depth, label = render.panoramas(scene, np.array([x]), np.array([y]), CLEAR, captures, size, torch.Generator().manual_seed(0))
    return image[0].numpy(), depth[0].float().numpy(), label[0].numpy()


def elevations(height: int) -> np.ndarray:
    """Degrees above the horizon of each pixel row."""
    return (height / 2 - np.arange(height) - 0.5) * render.VERTICAL_FOV / height


def test_a_plain_is_grass_below_the_horizon_and_sky_above() -> None:
    _, depth, label = look(plain())
    assert (label[:32] == SKY).all()
    assert (label[34:] == GRASS).all()  # the row just below the horizon sees farther than rays go
    # Distance to flat ground along the ray is h / sin(-elevation).
    below = elevations(64)[36:]
    expected = render.CAMERA_HEIGHT / np.sin(np.deg2rad(-below))
    assert np.abs(depth[36:] / expected[:, None] - 1).max() < 0.03


@pytest.mark.parametrize(("direction", "column"), [("north", 128), ("east", 192), ("west", 64), ("south", 0)])
def test_a_building_stands_where_the_compass_says(direction: str, column: int) -> None:
    spans = {"north": ((-5, 5), (20, 30)), "south": ((-5, 5), (-30, -20)), "east": ((20, 30), (-5, 5)), "west": ((-30, -20), (-5, 5))}
    _, depth, label = look(with_block(plain(), *spans[direction], height=12.0))
    seen = (label == WALL).any(0)
    half = np.rad2deg(np.arctan(5 / 20)) * 256 / 360  # columns to either side
    turned = np.roll(seen, 128 - column)  # the building comes to the middle
    assert turned[int(128 - half + 1) : int(128 + half - 1)].all()
    assert not turned[: int(128 - half - 2)].any()
    assert not turned[int(128 + half + 2) :].any()
    # The wall is 20 m away, and ends at its height.
    middle = np.roll(label, 128 - column, axis=1)[:, 128]
    top = elevations(64)[np.flatnonzero(middle == WALL)[0]]
    # The roof's edge is met at the next of the log-spaced ranges, so a building may look lower by one of their steps, never higher.
    step = (render.FARTHEST / render.NEAREST) ** (1 / (render.N_RANGES - 1))
    row = render.VERTICAL_FOV / 64
    lowest, highest = (np.rad2deg(np.arctan((height - render.CAMERA_HEIGHT) / far)) for height, far in ((11.8, 20 * step), (12, 20)))
    assert lowest - row <= top <= highest
    on_wall = np.roll(depth, 128 - column, axis=1)[31, 128]
    assert abs(on_wall - 20) < 0.4


def test_a_near_building_hides_a_far_one() -> None:
    near = with_block(plain(), (-6, 6), (15, 20), height=10.0)
    both = with_block(near, (-6, 6), (40, 45), height=11.0)
    _, depth, label = look(both)
    assert np.nanmax(depth[28:32, 128][label[28:32, 128] == WALL]) < 16
    tall = with_block(near, (-6, 6), (40, 45), height=60.0)
    _, depth, label = look(tall)
    column = depth[:, 128][label[:, 128] == WALL]
    assert column.min() < 16 < 39 < column.max()


def test_rays_pass_under_a_crown_and_stop_at_it() -> None:
    top, base, rgb = world.stamp_crowns(
        (SIZE, SIZE),
        RESOLUTION,
        np.array([CENTRE]),
        np.array([CENTRE + 10.0]),
        np.array([3.0]),
        np.array([9.0]),
        np.array([4.0]),
        np.full((1, 3), 90.0),
    )
    _, depth, label = look(replace(plain(), canopy_top=top, canopy_base=base, canopy_rgb=rgb))
    column, up = label[:, 128], elevations(64)
    inside = (up > np.rad2deg(np.arctan((4.3 - render.CAMERA_HEIGHT) / 7.5))) & (
        up < np.rad2deg(np.arctan((8 - render.CAMERA_HEIGHT) / 10))
    )
    assert (column[inside] == TREE).all()
    assert (depth[:, 128][inside] < 13.5).all()
    assert (depth[:, 128][inside] > 6.5).all()
    assert not (column[up < 5] == TREE).any()  # below the crown's base
    assert (column[40:] == GRASS).all()


def test_the_camera_stands_on_the_terrain() -> None:
    hill = replace(plain(), terrain=np.full((SIZE, SIZE), 37.0, np.float32))
    assert np.array_equal(look(hill)[2], look(plain())[2])


def test_turning_the_world_rolls_the_panorama() -> None:
    """Rotate-then-render equals render-then-roll: a quarter turn of all rasters about the camera."""
    base = with_block(with_block(plain(), (10, 22), (14, 30), 9.0), (-40, -25), (-12, 3), 15.0)
    turned = replace(base, **{name: np.rot90(getattr(base, name)).copy() for name in ("solid", "eaves", "building", "label")})
    before, after = look(base)[2], look(turned)[2]
    # Counter-clockwise by 90 degrees: what was in the north is now in the west, a quarter to the left.
    assert (np.roll(before, -64, axis=1) == after).mean() > 0.995


def test_mirroring_the_world_mirrors_the_panorama() -> None:
    base = with_block(with_block(plain(), (10, 22), (14, 30), 9.0), (-40, -25), (-12, 3), 15.0)
    mirrored = replace(base, **{name: np.fliplr(getattr(base, name)).copy() for name in ("solid", "eaves", "building", "label")})
    assert (look(base)[2][:, ::-1] == look(mirrored)[2]).mean() > 0.995


def test_tiles_are_centred_with_north_up() -> None:
    base = with_block(plain(), (4, 10), (4, 10), 5.0)
    photo = render.Orthophoto(base, np.repeat(base.label[..., None], 3, -1), base.label)
    image, label = render.TileSampler(photo, CLEAR, 40.0, 40)(np.array([CENTRE]), np.array([CENTRE]), torch.Generator().manual_seed(0))
    roof = label[0].numpy() == ROOF
    assert roof[10:16, 24:30].all()  # north-east of the centre: above and to the right
    assert roof.sum() == 36
    assert image.shape == (1, 3, 40, 40)


def test_shadows_fall_away_from_the_sun() -> None:
    top = with_block(plain(), (-2, 2), (-2, 2), 10.0).solid
    shadow = world.cast_shadows(top, RESOLUTION, sun_azimuth=180.0, sun_altitude=45.0)
    rows = np.flatnonzero(shadow[:, SIZE // 2])
    assert rows.max() < SIZE / 2  # northwards
    assert abs((SIZE / 2 - 4) - rows.min() - 10 / RESOLUTION) <= 2  # as long as the building is high
    assert not world.cast_shadows(plain().solid, RESOLUTION, 180.0, 45.0).any()


def test_walls_face_outwards() -> None:
    building = with_block(plain(), (-10, 10), (-10, 10), 10.0).building
    direction = world.wall_directions(building).astype(float) * 360 / 256
    middle, low, high = SIZE // 2, SIZE // 2 - 20, SIZE // 2 + 19
    for (row, column), expected in {(low, middle): 0, (middle, high): 90, (high, middle): 180, (middle, low): 270}.items():
        assert abs((direction[row, column] - expected + 180) % 360 - 180) < 3


@pytest.mark.parametrize("name", sorted(environment.ENVIRONMENTS))
def test_every_environment_renders(name: str) -> None:
    env = environment.environment(name)
    rng = np.random.default_rng(1)
    scene = render.street_scene(with_block(plain(), (10, 20), (10, 20), 9.0), rng)
    image, depth, label = render.panoramas(
        scene,
        np.full(3, CENTRE),
        np.full(3, CENTRE),
        env,
        environment.draw_captures(env, 3, rng),
        (16, 64),
        torch.Generator().manual_seed(0),
    )
    assert image.dtype == torch.uint8
    assert image.shape == (3, 3, 16, 64)
    assert torch.isinf(depth[label == SKY]).all()
    assert torch.isfinite(depth[label != SKY]).all()
    assert int(label.max()) < len(CLASSES)


def test_night_is_darker_and_fog_hides_the_distance() -> None:
    scene_world = with_block(plain(), (-10, 10), (60, 70), 30.0)
    rng = np.random.default_rng(0)
    scene = render.street_scene(scene_world, rng)
    seen = {}
    for name in ("clear", "night", "fog"):
        env = replace(environment.environment(name), noise=0.0)
        captures = environment.draw_captures(env, 8, np.random.default_rng(5))
        seen[name] = render.panoramas(
            scene, np.full(8, CENTRE), np.full(8, CENTRE), env, captures, (32, 128), torch.Generator().manual_seed(0)
        )
    assert seen["night"][0].float().mean() < 0.5 * seen["clear"][0].float().mean()
    wall = seen["clear"][2] == WALL
    contrast = {name: seen[name][0].float().mean(1)[wall].std() for name in ("clear", "fog")}
    assert contrast["fog"] < 0.7 * contrast["clear"]


def scattered(n: int) -> tuple[render.StreetScene, np.ndarray, np.ndarray]:
    """A world with a house, a tree and n places in it."""
    top, base, rgb = world.stamp_crowns(
        (SIZE, SIZE), RESOLUTION, np.array([CENTRE, 60.0]), np.array([CENTRE + 9, 70.0]), np.array([3.0, 2.0]), np.array([8.0, 6.0]),
        np.array([3.0, 2.0]), np.full((2, 3), 90.0),
    )  # fmt: skip
    built = replace(with_block(plain(), (12, 25), (-10, 15), 12.0), canopy_top=top, canopy_base=base, canopy_rgb=rgb)
    rng = np.random.default_rng(3)
    return render.street_scene(built, rng), rng.uniform(60, 110, n), rng.uniform(60, 140, n)


def test_a_picture_does_not_depend_on_those_drawn_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    n, size = 7, (16, 60)
    scene, x, y = scattered(n)
    env = environment.environment("clear")
    captures = environment.draw_captures(env, n, np.random.default_rng(0))
    together = render.panoramas(scene, x, y, env, captures, size, torch.Generator().manual_seed(5))
    assert len({WALL, TREE, GRASS, SKY} & set(together[2].unique().tolist())) == 4
    monkeypatch.setattr(street_view, "_PART_PIXELS", 1)
    alone = render.panoramas(scene, x, y, env, captures, size, torch.Generator().manual_seed(5))
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("box_metres", [0.5, 1.0, 1.5, 2.0])
def test_tiles_show_the_mean_of_what_falls_on_a_pixel(box_metres: float) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    photo = render.Orthophoto(plain(), rgb, plain().label)
    side = 32
    cut = render.TileSampler(photo, CLEAR, box_metres * side, side)
    still = (torch.zeros(1), None)
    got = cut(np.array([CENTRE]), np.array([CENTRE]), still)[0][0].permute(1, 2, 0).numpy()
    box = round(box_metres / RESOLUTION)
    for i, j in ((0, 0), (5, 17), (31, 31)):
        row, column = (int(SIZE / 2 + ((k + 0.5) / side - 0.5) * box * side) for k in (i, j))
        around = rgb[row - box // 2 : row - box // 2 + box, column - box // 2 : column - box // 2 + box].astype(float)
        assert np.abs(got[i, j] - around.mean((0, 1))).max() < 2  # rounded down along each axis


def test_shadows_and_walls_have_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    base = with_block(with_block(plain(), (-20, -5), (3, 30), 25.0), (8, 22), (-30, -4), 9.0)

    def seen() -> list[np.ndarray]:
        flight = environment.draw_captures(CLEAR, 1, np.random.default_rng(1))
        photo = render.orthophoto(base, environment.environment("low_sun"), flight, np.random.default_rng(2))
        return [photo.rgb, photo.label, world.wall_directions(base.building), world.cast_shadows(base.solid, RESOLUTION, 130.0, 30.0)]

    whole = seen()
    monkeypatch.setattr(parallel, "_BLOCK_PIXELS", 7 * SIZE)
    assert all(np.array_equal(a, b) for a, b in zip(whole, seen(), strict=True))


def test_crowns_are_stamped_as_by_a_loop_over_trees() -> None:
    rng = np.random.default_rng(0)
    n, shape = 300, (60, 80)
    x, y = rng.uniform(-2, 42, n), rng.uniform(-2, 32, n)
    top, rgb = rng.uniform(4, 12, n), rng.uniform(0, 255, (n, 3))
    radius, base = top * rng.uniform(0.2, 0.4, n), top * 0.3
    found_top, found_base, _ = world.stamp_crowns(shape, RESOLUTION, x, y, radius, top, base, rgb)
    expected_top, expected_base = np.zeros(shape), np.zeros(shape)
    rows, columns = (np.mgrid[:60, :80] + 0.5) * RESOLUTION
    for i in np.argsort(top):
        distance = np.hypot(rows - (shape[0] * RESOLUTION - y[i]), columns - x[i]) / radius[i]
        inside = distance < 1
        expected_top[inside] = (base[i] + (top[i] - base[i]) * (0.35 + 0.65 * np.sqrt(np.clip(1 - distance**2, 0, None))))[inside]
        expected_base[inside] = base[i]
    assert np.allclose(found_top, expected_top, atol=1e-5)
    assert np.allclose(found_base, expected_base, atol=1e-5)


def test_choosing_by_bits_is_choosing() -> None:
    rng = np.random.default_rng(0)
    a, b, mask = rng.normal(size=99).astype(np.float32), rng.normal(size=99).astype(np.float32), rng.random(99) < 0.5
    a[:3], b[3:6] = np.inf, -0.0
    assert np.array_equal(pixel_lists.select(mask, a, b), np.where(mask, a, b))


def test_unknown_environment_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="night"):
        environment.environment("dusk")


def test_road_class_survives_packing() -> None:
    base = replace(plain(), label=np.full((SIZE, SIZE), ROAD, np.uint8))
    assert (look(base)[2][40:] == ROAD).all()


def test_a_campaign_narrows_its_environment() -> None:
    env = environment.environment("clear")
    drawn = [environment.draw_campaign(env, np.random.default_rng(seed)) for seed in range(20)]
    for one in drawn:
        for name in ("sun_altitude", "sun_azimuth", "direct", "exposure", "haze", "warmth", "saturation"):
            low, high = getattr(one, name)
            outer_low, outer_high = getattr(env, name)
            assert outer_low <= low <= high <= outer_high
            assert high - low < 0.6 * (outer_high - outer_low)
        assert sorted(one.vegetation) == [0, 0, 0, 1]
    assert len({one.vegetation for one in drawn}) > 1
    tints = environment.draw_captures(drawn[0], 50, np.random.default_rng(0)).tint
    assert tints.std(0).max() < 0.05  # one season
