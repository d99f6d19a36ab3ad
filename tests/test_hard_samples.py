"""Distances by kind of pair and what they tell apart, against closed forms and naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from geodtr_lib.config import resolve_config
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.data.inputs import prepare_ground
from geodtr_lib.evaluation.descriptors import other_places
from geodtr_lib.evaluation.hard_samples import KINDS, pair_distances, separation
from geodtr_lib.geometry import polar_transform


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Pixels(nn.Module):
    """Embeds an image as its own pixels, of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode_ground(self, images: Tensor) -> Tensor:
        return nn.functional.normalize(images.flatten(1), dim=1)

    encode_aerial = encode_ground


def places(n: int = 6) -> ArrayDataset:
    """Tiles, and panoramas that are exactly the unrolled tiles."""
    tiles = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=random())
    return ArrayDataset("city", "a", "test", tiles.numpy(), polar_transform(tiles, (16, 64)).numpy(), "hash")


def test_distances_are_those_of_the_changed_panorama_to_the_unchanged_tile() -> None:
    data, config, model = places(), resolve_config("smoke"), Pixels().train()
    chosen = [4, 0, 2]
    found = pair_distances(model, data, chosen, config, random(), batch_size=2)
    assert tuple(found) == KINDS
    assert model.training
    assert found["original"].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    unit = model.encode_ground(prepare_ground(data.ground(chosen), config.ground_size)).double()
    images = prepare_ground(data.ground(chosen), config.ground_size)
    expected = {
        "flip": images.flip(-1),
        "rot90": images.roll(-16, -1),
        "rot180": images.roll(32, -1),
        "rot270": images.roll(16, -1),
        "unmatched": images[other_places(3, random())],
    }
    for kind, changed in expected.items():
        by_hand = [((unit[i] - model.encode_ground(changed[i : i + 1]).double()[0]) ** 2).sum().item() for i in range(3)]
        assert found[kind].tolist() == pytest.approx(by_hand, abs=1e-6)
        assert min(by_hand) > 0.1


def test_a_model_of_limited_view_is_given_the_middle_of_the_turned_panorama() -> None:
    """Turned before it is narrowed: what a camera of 90 degrees sees of a panorama turned by 90 degrees lay outside its view before."""
    data, config, seen = places(), resolve_config("smoke", fov=90.0), []

    class Recorder(Pixels):
        def encode_ground(self, images: Tensor) -> Tensor:
            seen.append(images)
            return nn.functional.normalize(images.mean((2, 3)), dim=1)

        encode_aerial = encode_ground

    found = pair_distances(Recorder(), data, [4, 0, 2], config, random())
    assert tuple(found) == KINDS
    whole = prepare_ground(data.ground([4, 0, 2]), config.ground_size)  # 3 x 3 x 16 x 64
    middle = slice(24, 40)
    expected = [whole, whole.flip(-1), whole.roll(-16, -1), whole.roll(32, -1), whole.roll(16, -1)]
    assert len(seen) == 1 + len(expected), "the tiles first"
    assert all(torch.equal(given, turned[..., middle]) for given, turned in zip(seen[1:], expected, strict=True))


def test_other_places_are_a_permutation_without_a_fixed_point() -> None:
    for n in range(2, 9):
        other = other_places(n, random(n))
        assert sorted(other.tolist()) == list(range(n))
        assert (other != torch.arange(n)).all()
    with pytest.raises(ValueError, match="no other place"):
        other_places(1, random())


def test_separation_is_the_share_of_ordered_pairs_with_ties_as_halves() -> None:
    original, hard = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([2.0, 3.0, 0.5, 9.0])
    naive = np.mean([1.0 if h > o else 0.5 if h == o else 0.0 for h in hard.tolist() for o in original.tolist()])
    assert separation(original, hard).auc == pytest.approx(naive)
    test = stats.mannwhitneyu(hard.numpy(), original.numpy())
    assert separation(original, hard).auc == pytest.approx(test.statistic / 16)


def test_limits_and_symmetry_of_separation() -> None:
    near, far = torch.linspace(0, 1, 20), torch.linspace(2, 3, 20)
    assert separation(near, far) == (1.0, 1.0, 1.0)
    assert separation(far, near).auc == 0.0
    assert separation(near, near).auc == pytest.approx(0.5)
    x, y = torch.rand(30, generator=random(1)), torch.rand(30, generator=random(2)) + 0.2
    assert separation(x, y).auc + separation(y, x).auc == pytest.approx(1.0)
    with pytest.raises(ValueError, match="as many original as hard"):
        separation(x, y[:3])


def test_the_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    generator, n, held = random(7), 60, 0
    # Distances of one place have a correlation of 0.6; those of two places have none. Each hard one meets n - 1 others and its own.
    others, own = (stats.norm.cdf(0.5 / math.sqrt(2 * (1 - shared))) for shared in (0.0, 0.6))
    truth = ((n - 1) * others + own) / n
    for _ in range(400):
        common = torch.randn(n, generator=generator) * math.sqrt(0.6)
        original, hard = (common + torch.randn(n, generator=generator) * math.sqrt(0.4) + shift for shift in (0.0, 0.5))
        found = separation(original, hard)
        held += found.low <= truth <= found.high
    assert 0.91 <= held / 400 <= 0.985
