"""A street map with candidates as SVG: what a widget shows. Streets and buildings are the extract's own; nothing comes from a network.

Every candidate can be reached with the tabulator key and says what it is; the figure of a static notebook is
:func:`geodtr_lib.plots.maps.candidates_map`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape

import numpy as np
from PIL import Image, ImageDraw

from geodtr_lib.data.osm_map import CREDIT, StreetMap
from geodtr_lib.explore.page import data_uri
from geodtr_lib.plots.maps import BUILDING, FOUND, GREEN, LAND, STREET, TRUTH, WATER, round_length, within

Box = tuple[tuple[float, float], tuple[float, float]]
_OVERVIEW = 900  # pixels of the overview's longer side


def map_page(
    town: StreetMap, candidates: np.ndarray, truth: np.ndarray | None = None, metres: np.ndarray | None = None, window: float = 150.0
) -> str:
    """The whole town, and the surroundings of the truth (or of the first candidate), as HTML.

    Args:
        town: the area.
        candidates: k x 2 metres east and north, best first.
        truth: 2 metres, or None.
        metres: k, from the truth to each candidate.
        window: half of the side of the second map, metres.
    """
    east, north = town.size
    centre = np.asarray(candidates[0] if truth is None else truth)
    around: Box = ((centre[0] - window, centre[0] + window), (centre[1] - window, centre[1] + window))
    corner, side = f'x="{around[0][0]:.0f}" y="{-around[1][1]:.0f}"', f'width="{2 * window:.0f}" height="{2 * window:.0f}"'
    frame = f'<rect {corner} {side} fill="none" stroke="black" stroke-width="{max(town.size) / 400:.1f}"/>'
    overview = _svg(((0.0, east), (0.0, north)), _picture(town) + frame, candidates, truth, metres, "whole area")
    detail = _svg(around, _shapes(town, around), candidates, truth, metres, f"{2 * window:.0f} m around")
    share = min(1.6, max(0.6, east / north))
    return (
        f'<div style="display:flex;gap:14px;flex-wrap:wrap;line-height:1.3;font-family:sans-serif;align-items:flex-start">'
        f'<div style="flex:{share:.2f} 1 260px;max-width:{round(480 * min(1.0, share))}px">{overview}</div>'
        f'<div style="flex:1 1 320px;max-width:480px">{detail}</div></div>{_legend(truth is not None)}'
    )


def _svg(
    box: Box, ground: str, candidates: np.ndarray, truth: np.ndarray | None, metres: np.ndarray | None, name: str
) -> str:  # fmt: skip
    """A map of a box ((west, east), (south, north)) in metres; y points down in SVG, so north is negative."""
    (west, east), (south, north) = box
    unit = max(east - west, north - south) / 480  # metres per pixel or so
    parts = [ground]
    if truth is not None:
        (x0, y0), (x1, y1) = truth.tolist(), candidates[0].tolist()
        line = f'stroke="{FOUND}" stroke-width="{1.8 * unit:.2f}" stroke-dasharray="{7 * unit:.2f} {4 * unit:.2f}"'
        parts.append(f'<line x1="{x0:.1f}" y1="{-y0:.1f}" x2="{x1:.1f}" y2="{-y1:.1f}" {line}/>')
    for number in reversed(range(len(candidates))):  # the best on top
        x, y = candidates[number].tolist()
        label = f"candidate {number + 1}"
        if metres is not None and np.isfinite(metres[number]):
            label += f", {metres[number]:.0f} m from where the panorama was taken"
        fill, text = (FOUND, "white") if number == 0 else ("white", "black")
        parts.append(
            f'<g tabindex="0" role="img" aria-label="{label}"><title>{label}</title>'
            f'<circle cx="{x:.1f}" cy="{-y:.1f}" r="{8.5 * unit:.2f}" fill="{fill}" stroke="{FOUND}" stroke-width="{2 * unit:.2f}"/>'
            f'<text x="{x:.1f}" y="{-y + 4.2 * unit:.1f}" text-anchor="middle" font-weight="bold" font-size="{11.5 * unit:.2f}" '
            f'fill="{text}">{number + 1}</text></g>'
        )
    if truth is not None:
        parts.append(_star(truth, 11 * unit))
    length = round_length((east - west) / 4)
    x, y = west + 14 * unit, -south - 14 * unit
    bar = f'<line x1="{x:.1f}" x2="{x + length:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="black" stroke-width="{3 * unit:.2f}"/>'
    halo = f'paint-order="stroke" stroke="white" stroke-width="{3 * unit:.2f}"'
    bar += f'<text x="{x:.1f}" y="{y - 5 * unit:.1f}" font-size="{12 * unit:.2f}" {halo}>{length:g} m</text>'
    view = f"{west:.1f} {-north:.1f} {east - west:.1f} {north - south:.1f}"
    return (
        f'<svg role="group" aria-label="map, {escape(name)}" viewBox="{view}" '
        f'style="width:100%;max-height:480px;background:{LAND};border:1px solid #888">{"".join(parts)}{bar}</svg>'
    )


def _star(place: np.ndarray, radius: float) -> str:
    angle = np.pi / 5 * np.arange(10)
    reach = np.where(np.arange(10) % 2 == 0, radius, radius * 0.42)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(place[0] + reach * np.sin(angle), -place[1] - reach * np.cos(angle), strict=True))
    style = f'fill="{TRUTH}" stroke="white" stroke-width="{radius / 8:.2f}"'
    return f'<g tabindex="0" role="img" aria-label="taken here"><title>taken here</title><polygon points="{points}" {style}/></g>'


def _legend(known: bool) -> str:
    parts = [f'<b style="color:{FOUND}">●</b> found first', f'<b style="color:{FOUND}">○</b> found next']
    if known:
        parts.insert(0, f'<b style="color:{TRUTH}">★</b> taken here')
    return f'<p style="font:13px sans-serif;margin:4px 0">{" &#160; ".join(parts)} &#160; north is up; map data {escape(CREDIT)}</p>'


def _shapes(town: StreetMap, box: Box) -> str:
    """What lies in a box, as SVG."""
    parts = []
    for shapes, colour in ((town.green, GREEN), (town.water, WATER), (town.buildings, BUILDING)):
        outline = 'stroke="#8c8c8c" stroke-width="0.4"' if colour == BUILDING else ""
        parts += [f'<polygon points="{_points(shape)}" fill="{colour}" {outline}/>' for shape in within(shapes, box)]
    for lines, width in ((town.paths, 0.6), (town.streets, 2.0)):
        style = f'fill="none" stroke="{STREET}" stroke-width="{width}"'
        parts += [f'<polyline points="{_points(line)}" {style}/>' for line in within(lines, box)]
    return "".join(parts)


def _points(shape: Sequence[Sequence[float]] | np.ndarray) -> str:
    return " ".join(f"{x:.1f},{-y:.1f}" for x, y in shape)


@lru_cache(maxsize=4)
def _picture(town: StreetMap) -> str:
    """The whole town as one small picture, drawn once."""
    east, north = town.size
    scale = 2 * _OVERVIEW / max(east, north)  # drawn at twice the size, for smooth edges
    size = (round(east * scale), round(north * scale))
    image = Image.new("RGB", size, LAND)
    pen = ImageDraw.Draw(image)

    def pixels(shape: np.ndarray) -> list[tuple[float, float]]:
        return [(x * scale, (north - y) * scale) for x, y in shape.tolist()]

    for shapes, colour in ((town.green, GREEN), (town.water, WATER), (town.buildings, BUILDING)):
        for shape in shapes:
            pen.polygon(pixels(shape), fill=colour)
    for line in town.streets:
        pen.line(pixels(line), fill=STREET, width=max(2, round(2.5 * scale)))
    small = image.resize((size[0] // 2, size[1] // 2), Image.Resampling.BOX).quantize(32)
    return f'<image x="0" y="{-north:.1f}" width="{east:.1f}" height="{north:.1f}" href="{data_uri(small)}"/>'
