"""What distinguishes the styles of procedural cities: measures of plan, building and green, and colours."""

from __future__ import annotations

from dataclasses import dataclass

from geodtr_lib.data.environment import Environment
from geodtr_lib.data.world import BARE, GRASS, PAVEMENT, PLAZA
from geodtr_lib.errors import DatasetError

Palette = tuple[tuple[int, int, int], ...]

BRICK: Palette = ((150, 84, 66), (128, 66, 54), (170, 108, 82), (112, 72, 62), (184, 142, 112))
PASTEL: Palette = ((226, 206, 150), (232, 190, 160), (206, 214, 196), (214, 196, 204), (238, 228, 206), (188, 200, 210), (204, 150, 116))
CONCRETE: Palette = ((168, 166, 160), (142, 144, 148), (190, 186, 176), (120, 124, 130), (204, 202, 198))
GLASS: Palette = ((96, 122, 146), (74, 96, 116), (130, 150, 160), (60, 72, 86), (112, 140, 138))
WOOD: Palette = ((214, 208, 196), (178, 146, 110), (150, 168, 176), (196, 190, 150), (170, 96, 76), (122, 134, 112), (232, 230, 224))
METAL: Palette = ((176, 180, 184), (132, 146, 160), (196, 190, 172), (110, 126, 118), (158, 116, 92))
TILES: Palette = ((172, 92, 64), (150, 74, 54), (188, 116, 84), (132, 84, 66), (110, 96, 88))
SLATE: Palette = ((92, 94, 100), (116, 112, 108), (76, 78, 84), (134, 126, 118), (104, 82, 74))
FLAT: Palette = ((150, 148, 142), (122, 122, 122), (178, 174, 166), (96, 98, 100), (196, 192, 184), (136, 120, 106))
FOLIAGE: Palette = (
    (66, 98, 48), (84, 112, 56), (52, 84, 48), (100, 120, 60), (72, 92, 66), (92, 104, 44), (128, 92, 60), (140, 134, 62), (124, 146, 72),
)  # fmt: skip
# What streets, pavements, lawns and yards are made of; a street or a lot has one each.
ASPHALTS: Palette = ((84, 86, 90), (66, 67, 70), (112, 112, 114), (98, 91, 85), (128, 125, 120))
PAVINGS: Palette = ((152, 148, 142), (178, 166, 146), (160, 118, 98), (126, 124, 122), (192, 186, 178), (138, 128, 112))
LAWNS: Palette = ((96, 124, 62), (78, 110, 52), (122, 132, 72), (112, 116, 84), (90, 138, 72))
YARDS: Palette = ((150, 132, 104), (172, 156, 130), (132, 112, 92), (148, 140, 130))
CYCLE_LANES: Palette = ((150, 82, 70), (84, 122, 88))


@dataclass(frozen=True)
class Style:
    """What distinguishes one kind of city. Lengths in metres, ranges as (low, high), probabilities 0-1."""

    block_u: tuple[float, float]
    block_v: tuple[float, float]
    warp: float  # amplitude of the streets' bending
    missing: float  # probability that a street segment is absent
    road: tuple[float, float]  # half width of the carriageway
    avenue_every: int
    pavement: tuple[float, float]
    lot: tuple[float, float]  # lot width
    plan: str  # 'lots' (houses), 'perimeter' (closed blocks), 'towers', 'sheds'
    setback: tuple[float, float]
    side: tuple[float, float]  # gap to the neighbour
    depth: tuple[float, float]
    floors: tuple[int, int]
    floor_height: tuple[float, float]
    pitched: float  # probability of a pitched roof
    walls: Palette
    roofs: Palette
    flat_roofs: Palette
    windows: tuple[float, float]  # part of the bay
    bay: tuple[float, float]
    glass_wall: float  # probability of a curtain wall
    shops: float
    empty: float  # probability of an empty lot
    park: float  # probability of a park block
    square: float  # probability of a square or car park
    water: float
    hedges: float
    ground: int  # class between buildings
    street_trees: float  # probability per place along the kerb
    garden_trees: float  # trees per 100 m2 of open ground inside blocks
    tree_height: tuple[float, float]
    hills: float  # amplitude of the terrain
    kerb_parking: float
    climate: Environment  # clear days as they are here, seen by the cameras used here


STYLES: dict[str, Style] = {
    "midrise": Style(
        block_u=(70, 120), block_v=(55, 90), warp=6, missing=0.10, road=(3.5, 6), avenue_every=4, pavement=(2.5, 4.5), lot=(14, 30),
        plan="lots", setback=(0, 5), side=(0, 3), depth=(12, 22), floors=(3, 7), floor_height=(3.0, 3.6), pitched=0.25,
        walls=BRICK + CONCRETE[:2] + PASTEL[:3], roofs=TILES[:2] + SLATE, flat_roofs=FLAT, windows=(0.35, 0.6), bay=(2.2, 3.6),
        glass_wall=0.05, shops=0.4, empty=0.10, park=0.06, square=0.07, water=0.01, hedges=0.15,
        ground=PAVEMENT, street_trees=0.35, garden_trees=0.35,
        tree_height=(6, 12), hills=4, kerb_parking=0.6,
        climate=Environment(sun_altitude=(30, 60), direct=(0.2, 0.7), haze=(300, 900)),
    ),
    "suburb": Style(
        block_u=(110, 190), block_v=(60, 90), warp=26, missing=0.22, road=(2.8, 4), avenue_every=6, pavement=(1.2, 2.2), lot=(16, 28),
        plan="lots", setback=(5, 11), side=(2.5, 6), depth=(8, 14), floors=(1, 2), floor_height=(2.7, 3.1), pitched=0.92,
        walls=WOOD, roofs=SLATE + TILES, flat_roofs=FLAT, windows=(0.25, 0.45), bay=(2.6, 4.2), glass_wall=0.0,
        shops=0.0, empty=0.08, park=0.07, square=0.01, water=0.02, hedges=0.55, ground=GRASS, street_trees=0.25, garden_trees=0.9,
        tree_height=(5, 14), hills=10, kerb_parking=0.2,
        climate=Environment(
            sun_altitude=(35, 70), direct=(0.3, 0.8), haze=(400, 1200), warmth=(0, 0.1),
            saturation=(1, 1.3), vegetation=(0.2, 0.7, 0.1, 0),
        ),
    ),
    "highrise": Style(
        block_u=(95, 150), block_v=(85, 130), warp=2, missing=0.06, road=(6, 10), avenue_every=3, pavement=(4, 7), lot=(34, 55),
        plan="towers", setback=(2, 8), side=(3, 10), depth=(24, 38), floors=(8, 34), floor_height=(3.2, 3.9), pitched=0.0,
        walls=CONCRETE + GLASS[:3], roofs=SLATE, flat_roofs=FLAT, windows=(0.5, 0.85), bay=(1.6, 3.2), glass_wall=0.45,
        shops=0.7, empty=0.10, park=0.05, square=0.12, water=0.02, hedges=0.05, ground=PLAZA, street_trees=0.4, garden_trees=0.25,
        tree_height=(5, 10), hills=2, kerb_parking=0.35,
        climate=Environment(sun_altitude=(18, 45), direct=(0, 0.5), haze=(120, 350), warmth=(-0.14, -0.02), saturation=(0.65, 0.95)),
    ),
    "oldtown": Style(
        block_u=(38, 75), block_v=(34, 62), warp=15, missing=0.18, road=(1.8, 3.4), avenue_every=5, pavement=(0.8, 1.8), lot=(6, 15),
        plan="perimeter", setback=(0, 0), side=(0, 0), depth=(9, 13), floors=(2, 5), floor_height=(2.8, 3.5), pitched=0.95,
        walls=PASTEL, roofs=TILES, flat_roofs=FLAT, windows=(0.3, 0.45), bay=(1.8, 2.8), glass_wall=0.0,
        shops=0.5, empty=0.05, park=0.03, square=0.08, water=0.01, hedges=0.05, ground=PAVEMENT, street_trees=0.05, garden_trees=0.5,
        tree_height=(4, 9), hills=9, kerb_parking=0.15,
        climate=Environment(
            sun_altitude=(45, 78), direct=(0.5, 0.9), exposure=(1, 1.3), warmth=(0.04, 0.16),
            vegetation=(0.1, 0.4, 0.5, 0),
        ),
    ),
    "industrial": Style(
        block_u=(130, 230), block_v=(110, 170), warp=9, missing=0.15, road=(4, 6.5), avenue_every=5, pavement=(0.8, 2), lot=(45, 95),
        plan="sheds", setback=(8, 20), side=(5, 14), depth=(28, 55), floors=(1, 3), floor_height=(3.6, 5.0), pitched=0.3,
        walls=METAL + CONCRETE[:2] + BRICK[:2], roofs=METAL + SLATE[:2], flat_roofs=FLAT + METAL[:2], windows=(0.15, 0.5), bay=(3.5, 7),
        glass_wall=0.05, shops=0.1, empty=0.15, park=0.03, square=0.12, water=0.04, hedges=0.25,
        ground=BARE, street_trees=0.12, garden_trees=0.15,
        tree_height=(5, 11), hills=2, kerb_parking=0.25,
        climate=Environment(
            sun_altitude=(15, 50), direct=(0, 0.35), exposure=(0.7, 1), haze=(150, 500), saturation=(0.5, 0.85),
            vegetation=(0.2, 0.2, 0.3, 0.3),
        ),
    ),
}  # fmt: skip


def style(name: str) -> Style:
    """A style by name.

    Raises:
        DatasetError: unknown name.
    """
    if name not in STYLES:
        raise DatasetError(f"city area {name!r} is not known; allowed: {', '.join(STYLES)}")
    return STYLES[name]
