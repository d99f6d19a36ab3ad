"""The same places in other light, season and haze: what one picture shows, and as recalls with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from geodtr_lib.data.scenes import Weather
from geodtr_lib.evaluation import recall_interval
from geodtr_lib.explore.session import Session
from geodtr_lib.plots.exploring import captioned_strips

WEATHERS: dict[str, Weather | None] = {
    "as it was": None,
    "overcast": Weather("overcast"),
    "low sun": Weather("low_sun"),
    "night": Weather("night"),
    "autumn": Weather(season="autumn"),
    "snow": Weather(season="snow"),
    "haze 50 m": Weather(visibility=50.0),
    "haze 12 m": Weather(visibility=12.0),
}


def weather_strip(session: Session, place: int) -> Figure:
    """One place in every weather, with the rank of its true tile and the distance to it."""
    pictures, captions = [], []
    for name, weather in WEATHERS.items():
        picture = session.panorama(place) if weather is None else session.scenes.panorama(place, weather)
        look = session.look(picture, positive=int(session.dataset.positive[place]), k=1)
        pictures.append(picture)
        captions.append(f"{name}: rank {look.rank}, distance {look.to_positive:.2f}")
    return captioned_strips(pictures, captions)


def weather_table(sessions: Mapping[str, Session], n: int = 64) -> pd.DataFrame:
    """R@1 in every weather; the tiles stay as they were photographed.

    Returns:
        One row per run and weather: ``run``, ``weather``, ``r1`` with ``low`` and ``high`` (Wilson's 95 %), ``chance``, ``n``.
    """
    rows = []
    for run, session in sessions.items():
        places = range(min(n, len(session.dataset)))
        for name, weather in WEATHERS.items():
            pictures = (session.panorama(place) if weather is None else session.scenes.panorama(place, weather) for place in places)
            looks = [session.look(picture, positive=int(session.dataset.positive[i]), k=1) for i, picture in enumerate(pictures)]
            r1 = float(np.mean([look.rank == 1 for look in looks]))
            low, high = recall_interval(r1, len(looks))
            row = {"run": run, "weather": name, "r1": r1, "low": low, "high": high, "chance": 1 / len(session.reference)}
            rows.append({**row, "n": len(looks)})
    return pd.DataFrame(rows)
