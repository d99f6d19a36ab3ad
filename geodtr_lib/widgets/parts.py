"""What both panels are made of."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as ipw
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from geodtr_lib.config import RunConfig
from geodtr_lib.data.photos import panorama_canvas, photo_canvas, read_photo, vertical_fov
from geodtr_lib.errors import GeoDTRError
from geodtr_lib.explore.page import message

_WIDTH = "274px"  # four stand in a row on a laptop's screen


def labelled(control: type[ipw.Widget], description: str, tooltip: str, **options: Any) -> Any:
    """A control with its label beside it and a tooltip; all are reached with the tabulator key."""
    layout = {"width": options.pop("width", _WIDTH), "margin": "1px 6px 1px 0"}
    style = {"description_width": "88px"}
    return control(description=description, tooltip=tooltip, layout=layout, style=style, **options)


class Panel(ipw.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Controls, a line for messages, and what they change. In viewers that show no widgets its figures stand in its place."""

    def __init__(self, controls: list[ipw.Widget], shown: list[ipw.Widget]) -> None:
        self.said = ipw.HTML()
        super().__init__([*controls, self.said, *shown])

    def figures(self) -> list[Figure]:
        """What the panel shows, as figures that stand side by side."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        stream = io.BytesIO()
        _side_by_side(self.figures()).save(stream, "PNG")
        return {**bundle, "image/png": base64.b64encode(stream.getvalue()).decode()}

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A problem that the reader can act on becomes one line, and the panel goes on as it was."""
        try:
            yield
        except GeoDTRError as error:
            self.said.value = message(str(error), problem=True)

    def say(self, text: str) -> None:
        """Show one line."""
        self.said.value = message(text)


def _side_by_side(figures: list[Figure], gap: int = 24) -> Image.Image:
    """Figures as one picture, white where there is none."""
    pictures = []
    for figure in figures:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110)
        pictures.append(Image.open(stream).convert("RGB"))
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    page = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        page.paste(picture, (left, 0))
        left += picture.width + gap
    return page


class OwnPhoto:
    """Controls for a picture of one's own: an upload or a file, and where it looks.

    Args:
        panel: where problems are told.
        placed: called when there is a picture, when it is placed elsewhere and when it is put away; asks for :meth:`canvas`.
    """

    def __init__(self, panel: Panel, placed: Callable[[], None]) -> None:
        self._panel, self._placed = panel, placed
        self._image: Image.Image | None = None
        self._name = ""
        self.upload = ipw.FileUpload(
            description="Upload", accept="image/*", multiple=False, tooltip="a picture; beyond 10 MB with make explore, or by its path",
            layout={"width": "140px"},
        )  # fmt: skip
        self.path = labelled(ipw.Text, "or file", "path of a picture on this machine, of any size", continuous_update=False, width="420px")
        self.kind = labelled(
            ipw.Dropdown, "it is", "a whole horizon, or a part of it", options=[("a panorama (360°)", True), ("a photo", False)]
        )
        self.fov = labelled(ipw.FloatSlider, "sees (°)", "field of view of a photo, left to right", min=10, max=150, step=5, value=90)
        self.heading = labelled(ipw.FloatSlider, "looks to (°)", "azimuth of its middle, clockwise from north", min=-180, max=180, step=5)
        self.clear = ipw.Button(description="Put away", tooltip="back to the data set's own panoramas", layout={"width": "110px"})
        self.box = ipw.VBox([ipw.HBox([self.upload, self.path, self.clear]), ipw.HBox([self.kind, self.fov, self.heading])])
        self.upload.observe(self._uploaded, "value")
        self.path.observe(self._named, "value")
        for control in (self.kind, self.fov, self.heading):
            control.observe(lambda _: self.place(), "value")
        self.clear.on_click(lambda _: self.put_away())

    def _uploaded(self, change: Any) -> None:
        for item in change["new"]:
            with self._panel.answering():
                self._take(read_photo(bytes(item["content"]), str(item["name"])), str(item["name"]))

    def _named(self, change: Any) -> None:
        if change["new"].strip():
            with self._panel.answering():
                self._take(read_photo(change["new"].strip()), change["new"].strip())

    def _take(self, image: Image.Image, name: str) -> None:
        before = self._image, self._name
        self._image, self._name = image, name
        try:
            self._placed()
        except GeoDTRError:
            self._image, self._name = before
            raise

    def canvas(self, config: RunConfig) -> Tensor | None:
        """The picture as a run's panoramas are, uint8 3 x H x W; None where there is none.

        Args:
            config: of the run: size, normalisation (the colour of what is unseen) and the data set's vertical span.

        Raises:
            DatasetError: a picture that is not what the controls say.
        """
        if self._image is None:
            return None
        heading = self.heading.value
        size, normalisation, vertical = config.ground_size, config.normalisation, vertical_fov(config.dataset)
        if self.kind.value:
            return panorama_canvas(self._image, size, heading, normalisation, self._name, vertical)
        return photo_canvas(self._image, size, self.fov.value, heading, normalisation, vertical)

    def place(self) -> None:
        """Place the picture that there is again."""
        if self._image is not None:
            with self._panel.answering():
                self._placed()

    def put_away(self) -> None:
        """Back to the data set's own panoramas."""
        self._image = None
        self.upload.value, self.path.value = (), ""
        self._placed()
