"""How European buildings of each kind look, and what building materials look like."""

from __future__ import annotations

from dataclasses import dataclass

from geodtr_lib.data.city_styles import BRICK, CONCRETE, FLAT, GLASS, METAL, PASTEL, SLATE, TILES, WOOD, Palette

STONE: Palette = ((196, 188, 174), (170, 162, 152), (208, 198, 178), (150, 142, 134), (182, 158, 140))
COPPER: Palette = ((120, 158, 140), (138, 166, 150))
GOLD: Palette = ((206, 172, 84),)


@dataclass(frozen=True)
class BuildingStyle:
    """What buildings of some kinds have in common; ranges are (low, high), probabilities 0-1."""

    walls: Palette
    levels: tuple[int, int]  # where neither the building nor a neighbour is mapped
    storey: tuple[float, float]  # metres
    windows: tuple[float, float]  # part of a bay
    pitched: float  # probability of a pitched roof on a narrow house
    curtain: float = 0.0  # probability of a glass wall
    shops: float = 0.0
    as_neighbours: bool = False  # as high as buildings around


TOWN_HOUSE = BuildingStyle(
    PASTEL + PASTEL + STONE + BRICK[:2], (3, 6), (3.0, 3.5), (0.3, 0.5), 0.7, curtain=0.02, shops=0.35, as_neighbours=True
)
_OFFICE = BuildingStyle(STONE + CONCRETE + PASTEL[:3], (3, 6), (3.3, 3.9), (0.4, 0.7), 0.4, curtain=0.2, shops=0.5, as_neighbours=True)
_HOUSE = BuildingStyle(WOOD + PASTEL + BRICK[:3], (1, 2), (2.7, 3.1), (0.25, 0.4), 1.0)
_HALL = BuildingStyle(METAL + CONCRETE[:3] + BRICK[:2], (1, 2), (4.2, 6.0), (0.15, 0.4), 0.3)
_SACRED = BuildingStyle(STONE + PASTEL[:1] + BRICK[:2], (3, 5), (3.6, 5.0), (0.15, 0.25), 1.0)
_SHED = BuildingStyle(WOOD + CONCRETE + METAL[:2], (1, 1), (2.5, 3.4), (0.0, 0.15), 0.3)

# By value of the tag ``building``; every other kind is a town house.
STYLES: dict[str, BuildingStyle] = {
    **dict.fromkeys(("office", "commercial", "retail", "hotel", "university", "college", "hospital", "school"), _OFFICE),
    **dict.fromkeys(("public", "government", "civic", "museum"), _OFFICE),
    **dict.fromkeys(("house", "detached", "semidetached_house", "bungalow", "terrace", "villa", "farm", "cabin"), _HOUSE),
    **dict.fromkeys(("industrial", "warehouse", "hangar", "manufacture", "supermarket", "barn"), _HALL),
    **dict.fromkeys(("sports_hall", "sports_centre", "stadium", "train_station"), _HALL),
    **dict.fromkeys(("church", "chapel", "cathedral", "mosque", "synagogue", "temple", "monastery", "castle"), _SACRED),
    **dict.fromkeys(("shed", "garage", "garages", "carport", "kiosk", "hut", "service", "utility", "roof", "toilets"), _SHED),
    **dict.fromkeys(("greenhouse", "glasshouse", "container", "ruins"), _SHED),
}

# By value of ``building:material`` and ``roof:material``.
WALL_MATERIALS: dict[str, Palette] = {
    "brick": BRICK, "stone": STONE, "granite": STONE[1:4], "sandstone": ((204, 180, 142),), "limestone": STONE[2:3],
    "marble": ((222, 218, 210),), "wood": WOOD, "glass": GLASS, "mirror": GLASS, "concrete": CONCRETE, "metal": METAL, "steel": METAL,
    "plaster": PASTEL, "gold": GOLD,
}  # fmt: skip
ROOF_MATERIALS: dict[str, Palette] = {
    "roof_tiles": TILES, "tile": TILES, "slate": SLATE, "copper": COPPER, "metal": METAL, "zinc": METAL[:2], "tar_paper": FLAT[3:4],
    "concrete": FLAT[:3], "gravel": FLAT[4:5], "glass": GLASS, "wood": WOOD[1:2], "thatch": ((150, 126, 84),), "grass": ((104, 126, 72),),
    "gold": GOLD,
}  # fmt: skip
