"""The panel of ``explore.ipynb``."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread
from time import sleep
from typing import Any

import ipywidgets as ipw
from matplotlib.figure import Figure
from torch import Tensor

from geodtr_lib.data.scenes import Weather
from geodtr_lib.errors import RunError
from geodtr_lib.explore.background import BackgroundTraining, larger
from geodtr_lib.explore.page import message, page
from geodtr_lib.explore.runs import Run, areas_of, open_run
from geodtr_lib.explore.session import Pose, Session
from geodtr_lib.explore.show import Choice, answer, distance_limits, picture_of, turned
from geodtr_lib.paths import shown
from geodtr_lib.plots.exploring import Exploration, exploration
from geodtr_lib.study.trained import open_trained
from geodtr_lib.widgets.parts import OwnPhoto, Panel, labelled

_LIGHTS = [("as it was", ""), *[(name.replace("_", " "), name) for name in ("clear", "overcast", "low_sun", "night", "rain")]]
_SEASONS = [("as it was", ""), *[(name, name) for name in ("spring", "summer", "autumn", "winter", "snow")]]
_HAZE = [("as it was", 0.0), *[(f"{metres} m", float(metres)) for metres in (800, 400, 200, 100, 50, 25, 12)]]


class Explorer(Panel):
    """Choose runs, an area and a panorama; turn it, mirror it, narrow it, see it in other light; see what is found and what breaks.

    Args:
        runs: to choose from.
        run, compared: which are open at first; ``compared`` None shows one run alone.
        area: ``dataset:area``; empty = where the run was trained.
        given: values that evaluation can choose, such as ``n_test``.
        place: query that is shown at first.

    Raises:
        RunError: no runs.
    """

    def __init__(
        self, runs: Sequence[Run], run: Run | None = None, compared: Run | None = None, area: str = "", given: dict[str, Any] | None = None,
        place: int = 0,
    ) -> None:  # fmt: skip
        runs = [*(some for some in (run, compared) if some is not None and some not in runs), *runs]
        if not runs:
            raise RunError("there are no trained runs; train one: python -m geodtr_lib.explore train dataset=osm")
        self._given, self._quiet = given or {}, True
        self._sessions: dict[Any, Session] = {}
        self._opened: list[Session] = []
        self._own: list[Tensor | None] = []  # a picture of one's own, as each of the shown runs takes it
        first = run or runs[0]
        options = [(some.label, some) for some in runs]
        self.run = labelled(ipw.Dropdown, "run", "the trained model", options=options, value=first, width="380px")
        second = [("(none)", None), *options]
        self.compared = labelled(
            ipw.Dropdown, "beside it", "a second run on the same places", options=second, value=compared, width="380px"
        )  # fmt: skip
        areas = areas_of(first.config)
        areas += [area] if area and area not in areas else []
        self.area = labelled(ipw.Dropdown, "area", "where the panoramas and tiles are from", options=areas, value=area or areas[0])
        self.place = labelled(ipw.IntSlider, "panorama", "number of the query in the area's test set", min=0, max=1)
        self.descriptor = labelled(ipw.IntSlider, "descriptor", "laid over the pictures; 0 = none", min=0, max=first.config.n_desc)
        self.heading = labelled(ipw.IntSlider, "turned to (°)", "azimuth of its middle, clockwise from north", min=-180, max=180, step=10)
        self.fov = labelled(ipw.IntSlider, "sees (°)", "field of view", min=30, max=360, step=10, value=360)
        self.mirrored = labelled(ipw.Checkbox, "mirrored", "exchange east and west", value=False, indent=True)
        self.light = labelled(ipw.Dropdown, "light", "the panorama's light", options=_LIGHTS, value="")
        self.season = labelled(ipw.Dropdown, "season", "the panorama's season", options=_SEASONS, value="")
        self.haze = labelled(ipw.SelectionSlider, "haze, sight", "how far one sees", options=_HAZE, value=0.0, continuous_update=False)
        self.picture = ipw.HTML(layout={"overflow": "hidden"})
        self.own = OwnPhoto(self, self._take_own)
        own = ipw.Accordion([self.own.box], titles=("A panorama or photo of your own",), selected_index=None)
        rows = [
            [self.run, self.compared, self.area],
            [self.place, self.heading, self.mirrored, self.descriptor],
            [self.fov, self.light, self.season, self.haze],
        ]
        self.train = ipw.Button(description="Train a larger run", tooltip="in another process; minutes", layout={"width": "170px"})
        self.training = ipw.HTML()
        self.train.on_click(lambda _: self.train_larger())
        controls = [ipw.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        super().__init__(controls, [self.picture, own, ipw.HBox([self.train, self.training])])
        self._open()
        self.place.value = min(place, self.place.max)
        self._quiet = False
        for control in (self.run, self.compared, self.area):
            control.observe(self._reopened, "value")
        for control in (self.place, self.descriptor, self.heading, self.fov, self.mirrored, self.light, self.season, self.haze):
            control.observe(self._changed, "value")
        self.show()

    @property
    def session(self) -> Session:
        """The run that is looked into."""
        return self._opened[0]

    @property
    def sessions(self) -> dict[str, Session]:
        """The runs that are shown, by name."""
        names = [session.name for session in self._opened]
        if len(set(names)) < len(names):
            names = [f"{session.name} ({session.trained.folder.name})" for session in self._opened]
        return dict(zip(names, self._opened, strict=True))

    def choice(self) -> Choice:
        """What the controls say."""
        weather = None
        if self.light.value or self.season.value or self.haze.value:
            weather = Weather(self.light.value or "clear", self.season.value, self.haze.value or None)
        pose = Pose(float(self.heading.value), self.mirrored.value, float(self.fov.value))
        return Choice(self.place.value, self._own[0], weather, pose, self.descriptor.value)

    def show(self) -> None:
        """Ask the runs and show what they answer."""
        self.picture.value = page(self._answers())
        self.say("")

    def _answers(self) -> list[Exploration]:
        choice = self.choice()
        if choice.weather is not None and "scenes" not in vars(self.session):
            self.say("drawing the area's streets and houses, once …")
        shown = picture_of(self.session, choice)
        pictures = [shown if own is None else own for own in self._own]
        asked = list(zip(self._opened, pictures, strict=True))
        limits = distance_limits([turned(session, choice, picture) for session, picture in asked])  # one scale for both
        return [answer(session, choice, picture, limits) for session, picture in asked]

    def figures(self) -> list[Figure]:
        """The runs' answers as figures."""
        return [exploration(some) for some in self._answers()]

    def train_larger(self) -> BackgroundTraining:
        """Train a larger run on the shown run's area in another process; the list of runs has it when it is finished."""
        training = BackgroundTraining(larger(self.session.trained.config))
        self.train.disabled = True
        Thread(target=self._follow, args=(training,), daemon=True).start()
        return training

    def _follow(self, training: BackgroundTraining, seconds: float = 2.0) -> None:
        while training.running:
            self.training.value = message(f"training in {shown(training.folder)}: {training.last_line()}")
            sleep(seconds)
        if training.succeeded:
            run = open_run(training.folder)
            for control in (self.run, self.compared):
                control.options = [*control.options, (run.label, run)]
            self.training.value = message(f"trained: choose {run.label} as run")
        else:
            self.training.value = message(training.last_line(), problem=True)
        self.train.disabled = False

    def _open(self) -> None:
        """The sessions of what is chosen; those opened before are kept."""
        first = self._session(self.run.value, None)
        others = [] if self.compared.value is None else [self._session(self.compared.value, first)]
        self._place_own([first, *others])
        self.place.max = len(first.dataset) - 1
        self.descriptor.max = min(session.n_desc for session in self._opened)

    def _session(self, run: Run, beside: Session | None) -> Session:
        """A run on the chosen area; one that stands beside another looks at the other's pairs."""
        key = (run.folder, self.area.value, beside and beside.dataset.hash)
        if key not in self._sessions:
            self.say(f"opening {run.label} on {self.area.value} …")
            dataset = beside.dataset if beside else None
            self._sessions[key] = Session(open_trained(run.folder), self.area.value, self._given, dataset=dataset)
        return self._sessions[key]

    def _reopened(self, change: Any) -> None:
        if self._quiet:
            return
        self._quiet = True  # what follows from one choice is shown once
        try:
            with self.answering():
                try:
                    if change["owner"] is self.run:
                        areas = areas_of(change["new"].config)
                        kept = self.area.value if self.area.value in areas else areas[0]
                        self.area.options, self.area.value = areas, kept
                    self._open()
                    self.show()
                except Exception:
                    change["owner"].value = change["old"]  # what is shown and what the controls say stay the same
                    raise
        finally:
            self._quiet = False

    def _changed(self, change: Any) -> None:
        if not self._quiet:
            with self.answering():
                self.show()

    def _take_own(self) -> None:
        self._place_own(self._opened)
        self.show()

    def _place_own(self, opened: list[Session]) -> None:
        """Place one's own picture as these runs take it: each has its size, its colour of the unseen and its vertical span."""
        own = [self.own.canvas(session.trained.config) for session in opened]  # a picture that will not do leaves all as it was
        self._opened, self._own = opened, own
        for control in (self.place, self.light, self.season, self.haze):
            control.disabled = self._own[0] is not None or (control is not self.place and not self.session.config.embedded)
