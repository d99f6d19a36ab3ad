"""An answer as HTML: what a widget shows. Pictures keep their pixels and the browser enlarges them, so a slider waits for kilobytes only.

Everything that is seen is also text: pictures have alternative texts, the curve a title, and nothing is told by colour alone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image
from torch import Tensor

from geodtr_lib.plots.exploring import MARKS, TURNED, Exploration, whole_turn
from geodtr_lib.plots.style import COLOURS

_WIDTH, _HEIGHT = 560, 150  # of the curve's drawing, in units that the browser scales
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 8, 34
_DASHES = ("", "7 4")
_CAPTION = "font-size:13px;line-height:1.35;margin:0"
_PIXELS = "display:block;width:100%;image-rendering:pixelated"


def page(answers: Sequence[Exploration]) -> str:
    """Answers of one run, or of several side by side, as HTML."""
    parts = "".join(f'<section style="flex:1 1 420px;min-width:0;max-width:640px">{_one(answer)}</section>' for answer in answers)
    return f'<div style="display:flex;flex-wrap:wrap;gap:20px;font-family:sans-serif;line-height:1.25">{parts}</div>'


def data_uri(picture: Tensor | Image.Image) -> str:
    """A picture, uint8 3 x H x W or Pillow's, as a PNG in a URI."""
    if isinstance(picture, Tensor):
        picture = Image.fromarray(np.ascontiguousarray(picture.movedim(0, -1).numpy()))
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def message(text: str, problem: bool = False) -> str:
    """One line for the reader, announced by screen readers; a problem has a sign and a frame, not only a colour."""
    if not text:
        return ""
    style = "border-left:4px solid #D55E00;padding-left:8px" if problem else "color:var(--jp-ui-font-color1, #333)"
    return f'<p role="{"alert" if problem else "status"}" style="{_CAPTION};{style}">{"⚠ " if problem else ""}{escape(text)}</p>'


def _one(answer: Exploration) -> str:
    over = f", descriptor {answer.descriptor} laid over (dark low, bright high)" if answer.descriptor else ""
    strips = "".join(
        f'<p style="{_CAPTION}">{escape(name)}</p><img src="{data_uri(picture)}" alt="{escape(name)}" style="{_PIXELS};height:88px">'
        for name, picture in ((f"panorama{over}", answer.panorama), (f"{answer.compared} tile, unrolled{over}", answer.unrolled))
    )
    compass = "".join(f"<span>{name}</span>" for name in "SWNES")
    tiles = _tile(answer.tile, f"{answer.compared} tile", "", "transparent") + "".join(
        _tile(found.tile, f"{number + 1} {MARKS[found.right][1]}", found.caption, MARKS[found.right][0], found.right is False)
        for number, found in enumerate(answer.found)
    )
    return (
        f'<p style="font-size:14px;margin:0 0 2px"><b>{escape(answer.title)}</b></p>'
        f'<p role="status" style="{_CAPTION};min-height:1.4em">{escape(answer.sentence)}</p>{strips}'
        f'<div aria-hidden="true" style="display:flex;justify-content:space-between;font-size:12px">{compass}</div>'
        f'<div style="display:flex;gap:6px;margin:4px 0 6px">{tiles}</div>{_curve(answer)}'
    )


def _tile(tile: Tensor, title: str, caption: str, colour: str, dashed: bool = False) -> str:
    colour = "#666" if colour == "0.4" else colour
    text = colour if colour != "transparent" else "inherit"
    return (
        f'<figure style="flex:1 1 0;margin:0;min-width:0;text-align:center">'
        f'<figcaption style="font-size:12px;font-weight:bold;white-space:nowrap;color:{text}">{escape(title)}</figcaption>'
        f'<img src="{data_uri(tile)}" alt="{escape(f"tile {title}: {caption}" if caption else title)}" '
        f'style="{_PIXELS};box-sizing:border-box;border:3px {"dashed" if dashed else "solid"} {colour}">'
        f'<figcaption style="font-size:11px;white-space:nowrap">{escape(caption)}</figcaption></figure>'
    )


def _curve(answer: Exploration) -> str:
    """The curve of turning as SVG."""
    turning = answer.turning
    low, high = turning.limits
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(angle: float) -> float:
        return _LEFT + (angle + 180) / 360 * inner_width

    def y(distance: float) -> float:
        return _TOP + (high - distance) / max(high - low, 1e-9) * inner_height

    parts = []
    for angle in range(-180, 181, 90):
        parts.append(f'<line x1="{x(angle):.1f}" x2="{x(angle):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#ddd"/>')
        anchor = "end" if angle == 180 else "middle"
        parts.append(f'<text x="{x(angle):.1f}" y="{_HEIGHT - _BOTTOM + 13}" text-anchor="{anchor}">{angle}°</text>')
    for value in np.linspace(low, high, 3):
        parts.append(f'<text x="{_LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for row, (name, distance) in enumerate(zip(TURNED, turning.distance, strict=True)):
        points = " ".join(f"{x(a):.1f},{y(d):.1f}" for a, d in zip(*whole_turn(turning.angle, distance), strict=True))
        width = 2.4 if row == int(turning.mirrored) else 1.2
        style = f'stroke="{COLOURS[row]}" stroke-width="{width}" stroke-dasharray="{_DASHES[row]}"'
        parts.append(f'<polyline points="{points}" fill="none" {style}/>')
        left = _LEFT + 4 + 88 * row
        parts.append(f'<line x1="{left}" x2="{left + 22}" y1="{_HEIGHT - 6}" y2="{_HEIGHT - 6}" {style}/>')
        parts.append(f'<text x="{left + 26}" y="{_HEIGHT - 2}">{name}</text>')
    current = turning.distance[int(turning.mirrored)]
    best = int(current.argmin())
    tip_x, tip_y = x(turning.angle[best]), y(current[best])
    colour = COLOURS[int(turning.mirrored)]
    parts.append(f'<path d="M{tip_x:.1f} {tip_y - 1:.1f} l-6 -9 h12 z" fill="{colour}"/>')
    now = x((turning.heading + 180) % 360 - 180)
    dotted = 'stroke="black" stroke-width="2" stroke-dasharray="2 3"'
    parts.append(f'<line x1="{now:.1f}" x2="{now:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" {dotted}/>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 2}" text-anchor="end">▼ best match &#160; ┊ shown now</text>')
    smallest = f"smallest at {turning.angle[best]:.0f}°"
    title = f"Squared distance to the {answer.compared} tile against the angle that the panorama is turned to; {smallest}"
    return (
        f'<p style="{_CAPTION}">squared distance to the {answer.compared} tile, panorama turned to …</p>'
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {_WIDTH} {_HEIGHT}" style="width:100%;background:white" '
        f'font-size="12" font-family="sans-serif"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
