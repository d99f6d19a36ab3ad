"""Draw a world from above (aerial tiles) and from the street (panoramas), with the truth of every pixel.

Conventions: aerial tiles have north up; the panorama's left edge is south, its middle north, azimuth grows to the right (clockwise) by
``360 / W`` degrees per column, and the rows are evenly spaced in elevation with the horizon in the middle.
"""

from geodtr_lib.data.aerial_view import Orthophoto, TileChance, TileSampler, orthophoto
from geodtr_lib.data.street_scene import CAMERA_HEIGHT, FARTHEST, N_RANGES, NEAREST, VERTICAL_FOV, StreetScene, street_scene
from geodtr_lib.data.street_view import Chance, draw_chance, panoramas

__all__ = [
    "CAMERA_HEIGHT", "FARTHEST", "NEAREST", "N_RANGES", "VERTICAL_FOV", "Chance", "Orthophoto", "StreetScene", "TileChance", "TileSampler",
    "draw_chance", "orthophoto", "panoramas", "street_scene",
]  # fmt: skip
