"""The panel of ``localize.ipynb``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as ipw
from matplotlib.figure import Figure
from torch import Tensor

from geodtr_lib.data.osm_map import CREDIT
from geodtr_lib.explore.localization import Localizer
from geodtr_lib.explore.map_page import map_page
from geodtr_lib.explore.page import data_uri
from geodtr_lib.plots.maps import candidates_map
from geodtr_lib.widgets.parts import OwnPhoto, Panel, labelled


class Locator(Panel):
    """Choose an area and a panorama; see on a map where it could have been taken, and where it was.

    Args:
        localizers: one for each area.
        query: shown at first.
    """

    def __init__(self, localizers: Sequence[Localizer], query: int = 0) -> None:
        self._own: Tensor | None = None
        options = [(f"{some.area} ({some.protocol}-area)", some) for some in localizers]
        self.area = labelled(ipw.Dropdown, "area", "where the panoramas are from and the tiles are", options=options, value=localizers[0])
        last = len(localizers[0].queries) - 1
        self.query = labelled(ipw.IntSlider, "panorama", "number of the held-out panorama", min=0, max=last, value=min(query, last))
        self.k = labelled(ipw.IntSlider, "candidates", "nearest tiles shown", min=1, max=10, value=5)
        self.window = labelled(ipw.IntSlider, "surroundings", "half of the second map's side, metres", min=50, max=500, step=25, value=150)
        self.map = ipw.HTML()
        self.own = OwnPhoto(self, self._take_own)
        own = ipw.Accordion([self.own.box], titles=("A panorama or photo of your own",), selected_index=None)
        controls = ipw.HBox([self.area, self.query, self.k, self.window], layout={"flex_flow": "row wrap"})
        super().__init__([controls], [self.map, own])
        self.area.observe(self._reopened, "value")
        for control in (self.query, self.k, self.window):
            control.observe(self._changed, "value")
        self.show()

    @property
    def localizer(self) -> Localizer:
        """The gallery that is asked."""
        localizer: Localizer = self.area.value
        return localizer

    def show(self) -> None:
        """Locate the panorama and draw the map."""
        here = self.localizer
        located = here.locate(self.query.value if self._own is None else self._own, self.k.value, self.own.heading.value)
        picture = here.panorama(self.query.value) if self._own is None else self._own
        truth = None if located.truth is None else here.map.metres(located.truth)
        candidates = here.map.metres(located.candidates.location)
        distances = ", ".join(f"{number + 1}: {value:.2f}" for number, value in enumerate(located.candidates.distance))
        found = "" if located.truth is None else f"The first candidate is {located.metres[0]:.0f} m from where it was taken. "
        self.map.value = (
            f'<img src="{data_uri(picture)}" alt="the panorama" '
            'style="display:block;width:100%;max-width:760px;height:110px;image-rendering:pixelated">'
            f'<p role="status" style="font:13px sans-serif;margin:4px 0">{found}Squared distances of {distances}</p>'
            + map_page(here.map, candidates, truth, located.metres, float(self.window.value))
        )
        self.say("")

    def figures(self) -> list[Figure]:
        """The map of a held-out panorama as a figure."""
        here = self.localizer
        located = here.locate(self.query.value, self.k.value)
        truth = None if located.truth is None else here.map.metres(located.truth)
        figure = candidates_map(
            here.map, here.map.metres(located.candidates.location), truth, located.metres, here.map.metres(here.gallery.location),
            float(self.window.value), f"{here.area}, panorama {self.query.value}", CREDIT,
        )  # fmt: skip
        return [figure]

    def _reopened(self, change: Any) -> None:
        self.query.max = len(change["new"].queries) - 1
        with self.answering():
            self._take_own()

    def _changed(self, change: Any) -> None:
        with self.answering():
            self.show()

    def _take_own(self) -> None:
        self._own = self.own.canvas(self.localizer.trained.config)
        self.query.disabled = self._own is not None
        self.show()
