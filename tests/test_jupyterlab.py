"""The notebooks in a real JupyterLab in a real browser: sliders move, pictures change, and nothing complains.

Screenshots are left in ``build/jupyterlab``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import papermill
import pytest
from PIL import Image
from small_town import make_run, make_town

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.notebooks,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')")

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SHOTS = NOTEBOOKS.parent / "build" / "jupyterlab"
ERROR = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'  # tracebacks, and warnings
PANORAMA = 'img[alt^="panorama"]'
TO_TOP = "slider => slider.closest('.jp-OutputArea-output').scrollIntoView()"
PATIENCE = 240_000  # milliseconds, for a machine that is busy with something else
# What the browser says of itself and of JupyterLab's own optional parts.
NOISE = ("favicon", "WebGL", "GPU", "extension", "listings", "translation", "service worker", "Source map", "DevTools", "404", "403")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab that serves both notebooks, with a small town and an untrained model for parameters."""
    folder = tmp_path_factory.mktemp("lab")
    town = make_town(folder)
    runs = [str(make_run(folder / name, town, sampling, seed)) for seed, (name, sampling) in enumerate((("chsg", "L+S"), ("raw", "raw")))]
    common = {"run_dir": runs[0], "data_root": str(town), "n_test": 24}
    explore = {"compared_dir": runs[1], "area": "osm:gridtown", "n_queries": 4, "place": 1}
    localize = {"areas": ["gridtown"], "spacing": 40.0, "query": 1}
    for name, values in (("explore", explore), ("localize", localize)):
        papermill.execute_notebook(NOTEBOOKS / f"{name}.ipynb", folder / f"{name}.ipynb", {**common, **values}, prepare_only=True)
    settings = {
        "notebook-extension/tracker": '{"windowingMode": "none"}',  # cells out of sight are there all the same
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }
    for name, text in settings.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}"]
    options += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    options += ['--ServerApp.tornado_settings={"websocket_max_message_size": 536870912}']  # as make explore
    own = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "JUPYTER_CONFIG_DIR": "config"}
    own = {name: str(folder / path) for name, path in (own | {"JUPYTER_DATA_DIR": "data"}).items()}
    own |= {"PYTHONPATH": str(NOTEBOOKS.parent), "GEODTR_PRESET": "smoke"}
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=os.environ | own, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            if server.poll() is not None:
                pytest.fail((folder / "lab.log").read_text()[-2000:])
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=2)
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=CHROMIUM, args=["--headless=new", "--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


def opened(browser: Any, address: str, notebook: str, complaints: list[str]) -> Any:
    """The notebook with all its cells run, on a laptop's screen."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}/lab/tree/{notebook}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # cells that run before the kernel is there raise a question
    page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    # A cell that has not been run has an empty prompt, one that waits has a star.
    done = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every(cell => /\\[\\d+\\]/.test(cell.textContent))"
    page.wait_for_function(f"{done} || document.querySelector(`{ERROR}`)")
    assert page.locator(ERROR).all_text_contents() == []
    return page


def no_complaints(page: Any, complaints: list[str]) -> None:
    assert [text for text in complaints if not any(word.lower() in text.lower() for word in NOISE)] == []
    assert page.locator(ERROR).all_text_contents() == []
    assert page.get_by_text("Error displaying widget").count() == 0


def record(line: str) -> None:
    """Keep a measurement beside the screenshots."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    with open(SHOTS / "response.txt", "a") as file:
        file.write(f"{line}\n")


def press_until_changed(page: Any, slider: Any, key: str, picture: str) -> float:
    """Press a key on a focused slider; the milliseconds until the picture that it drives is another."""
    slider.focus()
    before = page.locator(picture).first.get_attribute("src")
    began = time.monotonic()
    slider.press(key)
    changed = "([where, before]) => document.querySelector(where)?.getAttribute('src') !== before"
    page.wait_for_function(changed, arg=[picture, before], timeout=30_000)
    return 1000 * (time.monotonic() - began)


def slider_of(page: Any, label: str) -> Any:
    """The handle of the slider with this label, as the keyboard reaches it."""
    return page.locator(".widget-slider", has=page.get_by_text(label, exact=True)).locator("[role=slider], .noUi-handle").first


def test_a_slider_of_explore_turns_the_panorama(served: str, browser: Any, tmp_path: Path) -> None:
    complaints: list[str] = []
    page = opened(browser, served, "explore", complaints)
    for label in ("panorama", "turned to (°)", "descriptor", "sees (°)"):
        key = "ArrowLeft" if "sees" in label else "ArrowRight"
        record(f"{label}: {press_until_changed(page, slider_of(page, label), key, PANORAMA):.0f} ms from key to picture")
    assert page.get_by_text("turned to 10°").count() >= 1
    before = page.locator(PANORAMA).first.get_attribute("src")
    page.get_by_label("light").first.select_option(label="night")
    page.wait_for_function("([where, before]) => document.querySelector(where)?.getAttribute('src') !== before", arg=[PANORAMA, before])
    path = page.get_by_label("or file")
    own = page.locator(".jupyter-widget-Collapse-header", has_text="A panorama or photo of your own")
    own.click()
    before = page.locator(PANORAMA).first.get_attribute("src")
    path.fill("/no/such/photo.jpg")
    path.press("Enter")
    page.get_by_role("alert").wait_for()
    assert "does not exist; give the path of a photo" in page.get_by_role("alert").inner_text()
    assert page.locator(PANORAMA).first.get_attribute("src") == before, "the panel goes on as it was"
    large = tmp_path / "large.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (2000, 4000, 3), np.uint8)).save(large, quality=98)
    assert large.stat().st_size > 10 * 2**20, "more than Jupyter's server takes by itself"
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload").click()
    chooser.value.set_files(str(large))
    page.get_by_text("nearest of 24 tiles").first.wait_for()
    page.get_by_role("button", name="Put away").click()
    page.get_by_text("true tile is number").first.wait_for()
    own.click()
    slider_of(page, "turned to (°)").evaluate(TO_TOP)
    page.screenshot(path=str(SHOTS / "explore.png"))
    no_complaints(page, complaints)


def test_a_slider_of_localize_moves_the_map(served: str, browser: Any) -> None:
    complaints: list[str] = []
    page = opened(browser, served, "localize", complaints)
    milliseconds = press_until_changed(page, slider_of(page, "panorama"), "ArrowRight", 'img[alt="the panorama"]')
    record(f"panorama: {milliseconds:.0f} ms from key to map")
    candidate = page.locator('svg g[aria-label^="candidate 1"]').last
    candidate.focus()
    assert "m from where the panorama was taken" in (candidate.get_attribute("aria-label") or "")
    slider_of(page, "panorama").evaluate(TO_TOP)
    page.screenshot(path=str(SHOTS / "localize.png"))
    no_complaints(page, complaints)
