"""Agreement with the numbers of tests/reference/values.json, made by the authors' public code (see tests/reference/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodtr_lib.evaluation import retrieval_metrics
from geodtr_lib.geometry import apply_layout, layout_aerial, polar_transform
from geodtr_lib.schedule import learning_rate_factor

REFERENCE = Path(__file__).parent / "reference"
VALUES: dict[str, Any] = json.loads((REFERENCE / "values.json").read_text())
TURNS = {"right": 1, "back": 2, "left": 3}


def normalised(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def unit(seed: int, n: int, d: int) -> np.ndarray:
    return normalised(np.random.RandomState(seed).standard_normal((n, d)).astype(np.float32))


def test_polar_transform_of_bytes_is_equal_to_the_release() -> None:
    stored = np.load(REFERENCE / "polar_small.npz")
    image = torch.from_numpy(stored["image"]).permute(2, 0, 1)[None]
    unrolled = polar_transform(image, stored["polar"].shape[:2])
    assert np.array_equal(unrolled[0].permute(1, 2, 0).numpy(), stored["polar"])


def test_polar_transform_at_the_size_of_cvusa() -> None:
    row, column = torch.meshgrid(torch.arange(750), torch.arange(750), indexing="ij")
    image = torch.stack([column % 251, row % 251, torch.full_like(row, 100)])[None].float()
    unrolled = polar_transform(image, (122, 671))[0]
    expected = VALUES["polar_cvusa_gradient"]
    assert unrolled.double().mean().item() == pytest.approx(expected["mean"], abs=1e-5)
    for i, j, value in expected["samples"]:
        assert unrolled[:, i, j].tolist() == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("width", [16, 671])
@pytest.mark.parametrize("name", TURNS)
def test_turns_cut_where_the_release_cuts(name: str, width: int) -> None:
    expected = VALUES["layout"][f"{name}_W{width}"]
    columns = torch.arange(width).view(1, 1, 1, width)
    aerial, ground = apply_layout(torch.arange(16).view(1, 1, 4, 4), columns, flip=False, turns=TURNS[name])
    unrolled = layout_aerial(columns, flip=False, turns=TURNS[name], polar=True)
    assert aerial[0, 0].tolist() == expected["square"]
    for row, first in ((ground, expected["ground_first_column"]), (unrolled, expected["polar_first_column"])):
        assert row.flatten().tolist() == [(first + j) % width for j in range(width)]


def test_flip_mirrors_the_width_of_both_views() -> None:
    expected = VALUES["layout"]["flip"]
    aerial, ground = apply_layout(torch.arange(16).view(1, 1, 4, 4), torch.arange(8).view(1, 1, 1, 8), flip=True, turns=0)
    assert aerial[0, 0].tolist() == expected["square"]
    assert ground.flatten().tolist() == expected["ground"]


def test_learning_rate_by_epoch() -> None:
    stored = VALUES["lr_schedule"]
    for epoch, rate in stored["values"].items():
        factor = learning_rate_factor("per_epoch", int(epoch), stored["warmup"], stored["total"])
        assert stored["base"] * factor == pytest.approx(rate, rel=1e-12, abs=0)


@pytest.mark.parametrize("ties", ["against", "strict"])
def test_recall_of_cvusa(ties: str) -> None:
    reference = unit(21, 1000, 24)
    query = normalised(reference + 1.2 * unit(22, 1000, 24))
    found = retrieval_metrics(query, reference, np.arange(1000), "cvusa", ties=ties)
    expected = VALUES["recall"]
    assert [found[key] for key in ("r1", "r5", "r10", "r1pct")] == [expected[key] for key in ("R1", "R5", "R10", "R1pct")]


@pytest.mark.parametrize("ties", ["against", "strict"])
def test_recall_and_hit_rate_of_vigor(ties: str) -> None:
    reference = unit(31, 600, 24)
    random = np.random.RandomState(32)
    label = np.stack([random.permutation(600)[:4] for _ in range(400)])
    query = normalised(reference[label[:, 0]] + 0.35 * reference[label[:, 1]] + 1.3 * unit(33, 400, 24))
    found = retrieval_metrics(query, reference, label[:, 0], "vigor", semi_positive=label[:, 1:], ties=ties)
    expected = VALUES["vigor"]
    assert [found[key] for key in ("r1", "r5", "r10", "r1pct", "hit_rate")] == [
        expected[key] for key in ("R1", "R5", "R10", "R1pct", "hit_rate")
    ]
