"""Longitude and latitude to local metres and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pyproj import Transformer


@dataclass(frozen=True)
class Projection:
    """Azimuthal equidistant projection of WGS84 about an area's centre, its origin moved to the area's south-west corner.

    Distances from the centre are exact; within ten kilometres of it all lengths are, to a few parts in a million.

    Attributes:
        longitude, latitude: the centre, degrees.
        offset: metres east and north that are added to positions relative to the centre.
    """

    longitude: float
    latitude: float
    offset: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def _transformer(self) -> Transformer:
        local = f"+proj=aeqd +lon_0={self.longitude!r} +lat_0={self.latitude!r} +datum=WGS84 +units=m"
        return Transformer.from_crs("EPSG:4326", local, always_xy=True)

    def to_metres(self, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Metres east (x) and north (y) of the origin; arrays of any shape."""
        x, y = self._transformer.transform(longitude, latitude)
        return np.asarray(x) + self.offset[0], np.asarray(y) + self.offset[1]

    def to_lonlat(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude in degrees of positions in metres; arrays of any shape."""
        x, y = np.asarray(x) - self.offset[0], np.asarray(y) - self.offset[1]
        longitude, latitude = self._transformer.transform(x, y, direction="INVERSE")
        return np.asarray(longitude), np.asarray(latitude)

    @classmethod
    def of_box(cls, west: float, south: float, east: float, north: float) -> tuple[Projection, tuple[float, float]]:
        """The projection of a box in degrees, and the box's extent east and north in metres."""
        centred = cls((west + east) / 2, (south + north) / 2)
        middle = centred.longitude
        # Seen from the centre the box is a trapezoid; its corners and middles hold the extremes.
        x, y = centred.to_metres(np.array([west, east, middle, west, east, middle]), np.array([south, south, south, north, north, north]))
        origin, far = (float(x.min()), float(y.min())), (float(x.max()), float(y.max()))
        return cls(centred.longitude, centred.latitude, (-origin[0], -origin[1])), (far[0] - origin[0], far[1] - origin[1])
