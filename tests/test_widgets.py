"""Every control of the panels, without a browser: set a value, read what is shown."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
from PIL import Image
from small_town import make_run, make_town

from geodtr_lib import explore, study
from geodtr_lib.data.photos import KEPT_WIDTH, mean_colour
from geodtr_lib.errors import RunError
from geodtr_lib.explore import background
from geodtr_lib.study.trained import open_trained
from geodtr_lib.widgets import Explorer, Locator


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_town(tmp_path_factory.mktemp("widgets"))


@pytest.fixture(scope="module")
def runs(town: Path) -> list[explore.Run]:
    folder = town.parent
    return [explore.open_run(make_run(folder / name, town, name, seed)) for seed, name in enumerate(("L+S", "raw"))]


@pytest.fixture(scope="module")
def opened(runs: list[explore.Run]) -> Explorer:
    return Explorer(runs, runs[0], runs[1], place=2)


@pytest.fixture
def panel(opened: Explorer) -> Explorer:
    """The panel, with nothing chosen."""
    for control in (opened.light, opened.season):
        control.value = ""
    opened.haze.value, opened.heading.value, opened.fov.value, opened.descriptor.value, opened.mirrored.value = 0.0, 0, 360, 0, False
    opened.place.value = 2
    return opened


def controls(box: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    inside = [control for child in getattr(box, "children", ()) for control in controls(child)]
    return inside or [box]


def photo(width: int, height: int, mode: str = "RGB", kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def upload(panel: Explorer | Locator, content: bytes, name: str = "own.png") -> None:
    item = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": datetime.now(UTC)}
    panel.own.upload.value = (item,)


# Explore


def test_every_control_has_a_label_and_a_tooltip(panel: Explorer) -> None:
    for control in controls(panel):
        if not isinstance(control, ipywidgets.HTML):
            assert control.description, control
            assert control.tooltip, control


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("place", 5), ("heading", 60), ("fov", 120), ("descriptor", 2), ("mirrored", True), ("light", "night"), ("season", "snow"),
        ("haze", 50.0),
    ],
)
def test_every_control_changes_the_picture_and_back(panel: Explorer, name: str, value: object) -> None:
    control, before, shown = getattr(panel, name), getattr(panel, name).value, panel.picture.value
    control.value = value
    assert panel.picture.value != shown
    assert panel.said.value == ""
    control.value = before
    assert panel.picture.value == shown, "the same choice shows the same"


def test_two_runs_stand_side_by_side_and_one_alone(panel: Explorer, runs: list[explore.Run]) -> None:
    assert panel.picture.value.count("<section") == 2
    assert "CHSG, trained on gridtown" in panel.picture.value
    assert "raw, trained on gridtown" in panel.picture.value
    assert list(panel.sessions) == ["CHSG, trained on gridtown", "raw, trained on gridtown"]
    panel.compared.value = None
    assert panel.picture.value.count("<section") == 1
    panel.compared.value = runs[1]
    assert panel.picture.value.count("<section") == 2
    first, second = panel.sessions.values()
    assert first.dataset is second.dataset, "the same places"


def test_an_area_that_cannot_be_opened_leaves_the_panel_as_it_was(panel: Explorer) -> None:
    shown, area = panel.picture.value, panel.area.value
    panel.area.options = [*panel.area.options, "osm:atlantis"]
    panel.area.value = "osm:atlantis"
    assert "⚠" in panel.said.value
    assert "atlantis" in panel.said.value
    assert 'role="alert"' in panel.said.value
    assert panel.area.value == area
    assert panel.picture.value == shown
    panel.heading.value = 30
    assert panel.picture.value != shown, "it goes on"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (photo(300, 400), "300 x 400 pixels; a panorama of the whole horizon is at least twice as wide"),  # a portrait photo
        (photo(400, 200)[:500], "cannot be decoded"),
        (b"hello", "is no image that can be read"),
    ],
    ids=["portrait", "cut short", "text"],
)
def test_a_photo_that_will_not_do_is_one_line_and_the_panel_goes_on(panel: Explorer, content: bytes, told: str) -> None:
    shown = panel.picture.value
    upload(panel, content)
    assert told in panel.said.value
    assert panel.picture.value == shown
    panel.heading.value = 30
    assert panel.picture.value != shown
    assert panel.said.value == ""


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "PNG"), ("CMYK", "JPEG"), ("L", "PNG"), ("RGBA", "PNG")])
def test_a_picture_of_one_s_own_is_compared_and_put_away(panel: Explorer, mode: str, kind: str) -> None:
    shown = panel.picture.value
    upload(panel, photo(400, 200, mode, kind))
    assert panel.said.value == ""
    assert "nearest of 24 tiles" in panel.picture.value
    assert panel.place.disabled
    panel.own.kind.value = False  # a photo
    as_photo = panel.picture.value
    panel.own.heading.value = 90.0
    assert panel.picture.value != as_photo
    panel.own.kind.value = True
    panel.own.heading.value = 0.0
    panel.own.put_away()
    assert panel.picture.value == shown
    assert not panel.place.disabled


@pytest.mark.parametrize("panorama", [True, False])
def test_a_picture_of_one_s_own_follows_the_run(runs: list[explore.Run], town: Path, tmp_path: Path, panorama: bool) -> None:
    """Each run has its own size and colour of the unseen; the picture is placed for each as if it had been opened first."""
    wide = {"ground_size": [24, 96], "aerial_size": [24, 96], "normalisation": "half"}
    other = explore.open_run(make_run(tmp_path / "wide", town, "raw", 2, **wide))
    content = photo(400, 50 if panorama else 200)
    panel, fresh = Explorer([*runs, other], runs[0], runs[1]), Explorer([*runs, other], other, runs[0])
    for some in (panel, fresh):
        some.own.kind.value = panorama
        upload(some, content)
    panel.run.value, panel.compared.value = other, runs[0]
    assert panel.said.value == ""
    assert panel.picture.value == fresh.picture.value
    assert [answer.panorama.shape for answer in panel._answers()] == [(3, 24, 96), (3, 16, 64)]
    unseen = [answer.panorama[:, 0, 0].tolist() for answer in panel._answers()]
    assert unseen == [mean_colour("half").tolist(), mean_colour("imagenet").tolist()]
    assert panel.light.disabled
    panel.run.value = runs[1]
    assert panel.light.disabled, "one's own picture has no other light, whatever run is opened"
    panel.own.put_away()
    assert not panel.light.disabled


def test_a_picture_that_will_not_do_keeps_the_run_that_is_shown(runs: list[explore.Run]) -> None:
    panel = Explorer(runs, runs[0])
    panel.own.kind.value = False
    upload(panel, photo(300, 400))
    shown = panel.picture.value
    panel.own.kind.value = True
    panel.compared.value = runs[1]
    assert "at least twice as wide" in panel.said.value
    assert (panel.compared.value, panel.picture.value) == (None, shown)
    panel.own.kind.value = False
    panel.compared.value = runs[1]
    assert panel.said.value == ""
    assert panel.picture.value.count("<section") == 2


def test_a_file_on_disk_may_be_named_from_home(panel: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.png").write_bytes(photo(400, 200))
    panel.own.path.value = "~/own.png"
    assert panel.said.value == ""
    assert "nearest of 24 tiles" in panel.picture.value
    panel.own.put_away()


def test_a_file_on_disk_may_be_larger_than_an_upload(panel: Explorer, tmp_path: Path) -> None:
    Image.new("RGB", (2 * KEPT_WIDTH, KEPT_WIDTH), (90, 120, 60)).save(tmp_path / "large.jpg")
    panel.own.path.value = str(tmp_path / "large.jpg")
    assert panel.said.value == ""
    assert "nearest of 24 tiles" in panel.picture.value
    panel.own.path.value = str(tmp_path / "none.jpg")
    assert "does not exist" in panel.said.value
    assert "nearest of 24 tiles" in panel.picture.value, "the one before stays"
    panel.own.put_away()


def test_a_viewer_without_widgets_gets_a_picture(panel: Explorer) -> None:
    bundle = panel._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    assert len(data["image/png"]) > 10_000


def test_stripping_keeps_the_picture_of_a_widget(tmp_path: Path) -> None:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    picture = {"image/png": "iVBORw0KGgo="}
    outputs = [{"output_type": "display_data", "data": data, "metadata": {}} for data in (widget, {**widget, **picture})]
    cell = {"cell_type": "code", "id": "a", "source": "", "execution_count": 1, "metadata": {}, "outputs": outputs}
    content = {"cells": [cell], "metadata": {"widgets": {}}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "n.ipynb").write_text(json.dumps(content))
    assert study.strip(tmp_path / "n.ipynb")
    (kept,) = json.loads((tmp_path / "n.ipynb").read_text())["cells"][0]["outputs"]
    assert list(kept["data"]) == ["image/png"]


def test_without_runs_the_command_that_makes_one_is_told() -> None:
    with pytest.raises(RunError, match="train one: python -m geodtr_lib.explore train dataset=osm"):
        Explorer([])


def test_a_larger_run_is_trained_in_another_process(panel: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = background.larger(panel.session.trained.config)
    assert (values["n_desc"], values["sampling"], values["train_area"]) == (8, "L+S", "gridtown")
    monkeypatch.setattr(background.sys, "executable", "/bin/false")
    training = background.BackgroundTraining({**values, "run_dir": str(tmp_path / "run")})
    training.process.wait()
    panel._follow(training)
    assert "⚠" in panel.training.value
    assert not panel.train.disabled
    assert not training.succeeded


# Localize


@pytest.fixture(scope="module")
def locator(runs: list[explore.Run], tmp_path_factory: pytest.TempPathFactory) -> Locator:
    path = tmp_path_factory.mktemp("gallery") / "g.parquet"
    return Locator([explore.Localizer(open_trained(runs[0].folder), "gridtown", spacing=40.0, path=path)], query=1)


@pytest.mark.parametrize(("name", "value"), [("query", 4), ("k", 3), ("window", 300)])
def test_every_control_moves_the_map_and_back(locator: Locator, name: str, value: int) -> None:
    control, before, shown = getattr(locator, name), getattr(locator, name).value, locator.map.value
    control.value = value
    assert locator.map.value != shown
    control.value = before
    assert locator.map.value == shown


def test_the_map_is_reached_by_keyboard_and_says_what_it_shows(locator: Locator) -> None:
    metres = locator.localizer.locate(1).metres
    assert f'aria-label="candidate 1, {metres[0]:.0f} m from where the panorama was taken"' in locator.map.value
    assert locator.map.value.count('tabindex="0"') == 2 * 6, "five candidates and the truth, on two maps"
    assert "OpenStreetMap contributors" in locator.map.value
    assert "http" not in locator.map.value, "nothing is fetched"


def test_a_picture_of_one_s_own_is_located_without_a_truth(locator: Locator) -> None:
    shown = locator.map.value
    upload(locator, photo(400, 200))
    assert "taken here" not in locator.map.value
    assert locator.query.disabled
    upload(locator, photo(100, 200))
    assert "at least twice as wide" in locator.said.value
    locator.own.put_away()
    assert locator.map.value == shown
    assert not locator.query.disabled
    assert len(locator._repr_mimebundle_()["image/png"]) > 10_000


def test_a_locator_of_limited_view_shows_what_is_seen_and_looks_where_the_photo_looks(town: Path, tmp_path: Path) -> None:
    trained = open_trained(make_run(tmp_path / "narrow", town, fov=90.0))
    panel = Locator([explore.Localizer(trained, "gridtown", spacing=40.0)], query=1)
    assert panel.localizer.panorama(1).shape == (3, 16, 16)
    upload(panel, photo(400, 200))
    shown = []
    panel.own.kind.value = False
    for heading in (0.0, 90.0):
        panel.own.heading.value = heading
        located = panel.localizer.locate(panel.own.canvas(trained.config), 5, heading)
        shown.append([f"{value:.4f}" for value in located.candidates.distance])
    assert panel.said.value == ""
    assert shown[0] == shown[1], "the photo is in the middle of what the model is given, wherever it looks"
