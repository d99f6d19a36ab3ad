"""From the choices that a reader makes to the picture and the sentence that answer them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from geodtr_lib.data.scenes import Weather
from geodtr_lib.errors import ConfigError
from geodtr_lib.explore.overlays import overlay
from geodtr_lib.explore.session import Curve, Look, Pose, Session
from geodtr_lib.plots.exploring import Exploration, Found, Turning, exploration, lay_over

TILES = 5


@dataclass(frozen=True)
class Choice:
    """What is looked at.

    Attributes:
        place: query of the data set; its true tile is known.
        own: a picture of one's own in its place, uint8 3 x H x W on a panorama's canvas; its true tile is not known.
        weather: None shows the data set's own picture.
        pose: how it is turned and cropped.
        descriptor: laid over the pictures, counted from 1; 0 = none.
    """

    place: int = 0
    own: Tensor | None = field(default=None, compare=False)
    weather: Weather | None = None
    pose: Pose = field(default_factory=Pose)
    descriptor: int = 0


def picture_of(session: Session, choice: Choice) -> Tensor:
    """The panorama that is chosen, whole and looking north, uint8 3 x H x W.

    Raises:
        ConfigError: no such place.
        DatasetError: other weather for a data set of photographs.
    """
    if choice.own is not None:
        return choice.own
    own = session.panorama(choice.place)
    return own if choice.weather is None else session.scenes.panorama(choice.place, choice.weather)


def ask(session: Session, choice: Choice, picture: Tensor) -> tuple[Look, Curve]:
    """What a run makes of a choice; ``picture`` as of :func:`picture_of`, of this session or of another on the same places."""
    return session.look(picture, choice.pose, _positive(session, choice), TILES), turned(session, choice, picture)


def turned(session: Session, choice: Choice, picture: Tensor) -> Curve:
    """The part of :func:`ask` that is the same whichever way the picture is turned, and remembered."""
    return session.curve(picture, choice.pose.fov, _positive(session, choice))


def _positive(session: Session, choice: Choice) -> int | None:
    return None if choice.own is not None else int(session.dataset.positive[choice.place])


def answer(session: Session, choice: Choice, picture: Tensor | None = None, limits: tuple[float, float] | None = None) -> Exploration:
    """What a run makes of a choice, ready to be drawn.

    Args:
        session: a run on an area.
        choice: what is looked at.
        picture: see :func:`picture_of`, of this session or of another on the same places; by default its own.
        limits: of the distances' axis; by default those of the curve.

    Raises:
        ConfigError: no such place or descriptor.
    """
    if not 0 <= choice.descriptor <= session.n_desc:
        raise ConfigError(f"there is no descriptor {choice.descriptor}; there are {session.n_desc}, counted from 1")
    picture = picture_of(session, choice) if picture is None else picture
    look, curve = ask(session, choice, picture)
    index = int(look.index[0]) if look.positive is None else look.positive
    tile, (given, descriptors) = session.tile(index), session.aerial(index)
    polar = session.config.polar
    pictures = [look.shown, given if polar else session.unroll(given), tile]
    if choice.descriptor:
        number, size = choice.descriptor - 1, (look.shown.shape[-2], look.shown.shape[-1])
        laid = overlay(look.descriptors[number], descriptors[number], size, tile.shape[-1], polar)
        pictures = [lay_over(some, values) for some, values in zip(pictures, laid, strict=True)]
    found = [
        Found(session.tile(int(i)), _caption(distance, metres), None if look.positive is None else bool(i == look.positive))
        for i, distance, metres in zip(look.index, look.distance, look.metres, strict=True)
    ]
    turning = Turning(curve.angle, curve.distance, choice.pose.heading, choice.pose.mirrored, limits or distance_limits([curve]))
    compared = "nearest" if look.positive is None else "true"
    sentence = describe(session, choice, look, curve)
    return Exploration(session.name, pictures[0], pictures[1], pictures[2], compared, found, turning, choice.descriptor, sentence)


def draw(session: Session, choice: Choice) -> Figure:
    """The answer as a figure; see :func:`answer`."""
    return exploration(answer(session, choice))


def distance_limits(curves: list[Curve]) -> tuple[float, float]:
    """Limits of an axis that all curves fit in, so that two runs are compared on one scale."""
    values = np.concatenate([curve.distance.ravel() for curve in curves])
    margin = 0.08 * max(float(np.ptp(values)), 0.05)
    return max(0.0, float(values.min()) - margin), float(values.max()) + margin


def describe(session: Session, choice: Choice, look: Look, curve: Curve) -> str:
    """What :func:`ask` gave, in one sentence, also for those who do not see the figure."""
    pose, n = choice.pose, len(session.reference)
    if look.positive is not None:
        place = f"true tile is number {look.rank} of {n}, distance {look.to_positive:.2f}"
    else:
        place = f"nearest of {n} tiles has distance {look.distance[0]:.2f}"
    estimate = round(curve.estimated_heading(pose.heading, pose.mirrored))
    return f"{place}; turned to {pose.heading:g}°{', mirrored' if pose.mirrored else ''}, estimated {estimate}°"


def _caption(distance: float, metres: float) -> str:
    return f"{distance:.2f}" + ("" if np.isnan(metres) else f", {metres:.0f} m")
