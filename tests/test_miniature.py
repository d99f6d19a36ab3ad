"""The miniature trees hold what real ones hold: both views of a pair show the same place, in each data set's conventions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from miniature import make_cvact, make_cvusa, make_vigor

from geodtr_lib.data import PairDataset, open_dataset
from geodtr_lib.data.vigor import open_vigor
from geodtr_lib.geometry import polar_transform

SIZE = (30, 120)


def recall_of_pixels(data: PairDataset, quarter_turns: int = 0) -> float:
    """Share of panoramas whose nearest unrolled tile, pixel by pixel, is their own."""
    everything = range(len(data))
    aerial = polar_transform(data.aerial(everything).float(), SIZE).flatten(1)
    ground = data.ground(everything).float().roll(quarter_turns * SIZE[1] // 4, -1).flatten(1)
    return (torch.cdist(ground, aerial).argmin(1) == torch.arange(len(data))).float().mean().item()


@pytest.mark.parametrize("name", ["cvusa", "cvact"])
def test_unrolled_tiles_look_like_their_panoramas_only_with_north_in_the_centre(tmp_path: Path, name: str) -> None:
    root = {"cvusa": make_cvusa, "cvact": make_cvact}[name](tmp_path, 40, 4)
    data = open_dataset(name, root, split="train", ground_size=SIZE, **({"keep_repeats": True} if name == "cvusa" else {}))
    assert recall_of_pixels(data) == 1
    for quarter_turns in (1, 2, 3):
        assert recall_of_pixels(data, quarter_turns) < 0.3


def test_offsets_lead_to_the_panoramas_place_in_each_tile(tmp_path: Path) -> None:
    root = make_vigor(tmp_path, 30, 4, cities=("Chicago",), tile_side=320, panorama_size=(256, 64))
    data = open_vigor(root, "Chicago", ground_size=(256, 64), aerial_size=(320, 320))
    assert data.offsets is not None
    here = data.ground(range(30))[..., -1, :].float().mean(-1)  # B x 3: the bottom row of a panorama is the place itself
    tiles = data.aerial(data.positive)
    # Offsets point from the panorama to the tile's centre, north and east, on a tile of 640 pixels.
    row, column = (torch.from_numpy(places // 2).long() for places in (320 + data.offsets[:, 0, 0], 320 - data.offsets[:, 0, 1]))
    found = tiles[torch.arange(30), :, row, column].float()  # B x 3
    mirrored = tiles[torch.arange(30), :, 319 - row, 319 - column].float()
    assert (found - here).abs().mean(1).median() < 5
    assert (mirrored - here).abs().mean(1).median() > 25
