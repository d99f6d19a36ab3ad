"""Which ground cover an OpenStreetMap area is, and what each ground cover looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geodtr_lib.data.world import BARE, GRASS, HEDGE, MARKING, PAVEMENT, PLAZA, RAIL, ROAD, ROOF, SURFACE_RGB, WALL, WATER


@dataclass(frozen=True)
class Material:
    """What a pixel of ground is made of: class, colour before light (0-255), trees per square metre that grow unmapped."""

    label: int
    rgb: tuple[int, int, int]
    trees: float = 0.0


# The raster of materials holds positions in this table. The first is ground of which the map says nothing.
MATERIALS: dict[str, Material] = {
    "open": Material(GRASS, SURFACE_RGB[GRASS]),
    "grass": Material(GRASS, SURFACE_RGB[GRASS], 1 / 900),
    "garden": Material(GRASS, (90, 120, 60), 1 / 130),
    "park": Material(GRASS, (100, 132, 66), 1 / 200),
    "meadow": Material(GRASS, (124, 132, 74), 1 / 1500),
    "forest": Material(GRASS, (78, 92, 50), 1 / 40),
    "pitch": Material(GRASS, (84, 132, 70)),
    "scrub": Material(HEDGE, (82, 104, 56)),
    "hedge": Material(HEDGE, SURFACE_RGB[HEDGE]),
    "bare": Material(BARE, SURFACE_RGB[BARE]),
    "sand": Material(BARE, (206, 190, 152)),
    "rock": Material(BARE, (150, 146, 138)),
    "playground": Material(BARE, (172, 130, 104)),
    "court": Material(PLAZA, (146, 140, 132), 1 / 450),  # paved ground inside a block
    "yard": Material(PAVEMENT, (122, 120, 118), 1 / 900),  # asphalt ground inside a block
    "plaza": Material(PLAZA, SURFACE_RGB[PLAZA]),
    "pavement": Material(PAVEMENT, SURFACE_RGB[PAVEMENT]),
    "path": Material(PAVEMENT, (142, 136, 126)),
    "gravel": Material(BARE, (168, 156, 136)),
    "asphalt": Material(ROAD, SURFACE_RGB[ROAD]),
    "cobbles": Material(ROAD, (112, 106, 102)),
    "paving": Material(PLAZA, (156, 148, 140)),
    "marking": Material(MARKING, SURFACE_RGB[MARKING]),
    "ballast": Material(RAIL, SURFACE_RGB[RAIL]),
    "steel": Material(RAIL, (92, 90, 92)),
    "water": Material(WATER, SURFACE_RGB[WATER]),
    "pool": Material(WATER, (86, 164, 186)),
    "pier": Material(PAVEMENT, (164, 158, 148)),
    "wall": Material(WALL, (150, 142, 130)),
    "roof": Material(ROOF, (140, 138, 134)),  # replaced by the building's own colour
}
MATERIAL_INDEX: dict[str, int] = {name: index for index, name in enumerate(MATERIALS)}

# Surface kinds are names of materials. The first key that an area has decides.
_KINDS: tuple[tuple[str, dict[str, str]], ...] = (
    ("leisure", {
        "park": "park", "golf_course": "park", "garden": "garden", "nature_reserve": "meadow", "common": "grass", "dog_park": "grass",
        "pitch": "pitch", "track": "playground", "playground": "playground", "swimming_pool": "pool", "outdoor_seating": "plaza",
    }),
    ("natural", {
        "water": "water", "wood": "forest", "scrub": "scrub", "heath": "meadow", "grassland": "meadow", "wetland": "meadow",
        "fell": "meadow", "beach": "sand", "sand": "sand", "shingle": "gravel", "scree": "gravel", "bare_rock": "rock", "rock": "rock",
        "mud": "bare",
    }),
    ("waterway", {"riverbank": "water", "dock": "water", "boatyard": "bare"}),
    ("landuse", {
        "grass": "grass", "village_green": "grass", "recreation_ground": "grass", "meadow": "meadow", "farmland": "meadow",
        "greenfield": "meadow", "flowerbed": "garden", "orchard": "garden", "vineyard": "garden", "allotments": "garden",
        "plant_nursery": "garden", "forest": "forest", "cemetery": "park", "basin": "water", "reservoir": "water", "pond": "water",
        "railway": "gravel", "construction": "bare", "brownfield": "bare", "landfill": "bare", "quarry": "rock",
    }),
    ("amenity", {"parking": "asphalt", "motorcycle_parking": "asphalt", "grave_yard": "park", "fountain": "pool", "marketplace": "plaza"}),
    ("area:highway", {"footway": "pavement", "pedestrian": "plaza", "cycleway": "pavement"}),
    ("highway", {
        "pedestrian": "plaza", "footway": "pavement", "path": "pavement", "platform": "pavement", "steps": "pavement",
        "cycleway": "pavement", "service": "asphalt", "residential": "asphalt", "unclassified": "asphalt", "tertiary": "asphalt",
    }),
    ("railway", {"platform": "pavement"}),
    ("public_transport", {"platform": "pavement"}),
    ("man_made", {"pier": "pier", "quay": "pier", "breakwater": "pier", "groyne": "pier", "bridge": "pavement"}),
    ("place", {"square": "plaza"}),
    ("barrier", {"hedge": "hedge"}),
)  # fmt: skip
SURFACE_KINDS = tuple(sorted({kind for _, kinds in _KINDS for kind in kinds.values()}))
# Closed ways with these keys are rings, such as roundabouts, unless area=yes says otherwise.
_LINEAR_KEYS = ("highway", "barrier")
_GREEN = ("grass", "dirt", "ground", "earth")


def surface_kind(tags: Mapping[str, str], from_way: bool) -> str | None:
    """The kind of surface that an area shows, or None when it shows none (land use such as ``residential``)."""
    if tags.get("parking") in ("underground", "multi-storey", "rooftop"):
        return None
    for key, kinds in _KINDS:
        kind = kinds.get(tags.get(key, ""))
        if kind is None or (key in _LINEAR_KEYS and from_way and tags.get("area") != "yes"):
            continue
        if kind == "pitch" and tags.get("surface", "grass") not in (*_GREEN, "artificial_turf"):
            return "playground"
        return kind
    return None
