"""A town and a model that are made in a second: what the tests of exploring and localizing look into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from osm_town import Town, rectangle

from geodtr_lib import resolve_config
from geodtr_lib.checkpoints import save_model
from geodtr_lib.files import write_json
from geodtr_lib.models import build_model

SIDE = 900.0  # metres


def make_town(folder: Path) -> Path:
    """A grid of streets with houses and a pond, as ``gridtown.osm.pbf``."""
    made = Town(frame=SIDE)
    for k in range(-400, 401, 100):
        made.way([(k, -440), (k, 440)], {"highway": "residential"})
        made.way([(-440, k), (440, k)], {"highway": "residential"})
        for j in range(-350, 351, 100):
            if k < 400:
                made.area(rectangle(k + 50, j, 40 - k / 40, 30), {"building": "yes", "building:levels": str(2 + (k + j) // 50 % 5)})
    made.area(rectangle(20, 30, 30, 25), {"natural": "water"})
    return made.write(folder / "gridtown.osm.pbf")


def make_run(folder: Path, town: Path, sampling: str = "L+S", seed: int = 0, **values: Any) -> Path:
    """The folder of a finished run of an untrained model; ``values`` are of its configuration."""
    config = resolve_config(
        "smoke", dataset="osm", data_root=str(town), sampling=sampling, n_desc=3, n_test=24, run_dir=str(folder),
        options={"resolution": 1.0}, **values,
    )  # fmt: skip
    torch.manual_seed(seed)
    save_model(folder, build_model(config), config.to_dict())
    write_json(folder / "metrics.json", {"config": config.to_dict(), "evaluation": {}})
    return folder
