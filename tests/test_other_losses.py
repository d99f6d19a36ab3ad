"""Losses beyond the paper's: of similarities, weighted, of overlap and of consistency."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodtr_lib.geometry import layout_aerial, layout_ground
from geodtr_lib.losses import info_nce, info_nce_of, soft_margin_triplet_of, weighted_soft_margin_triplet
from geodtr_lib.losses_consistency import consistency_loss
from geodtr_lib.losses_highlighting import highlight, highlighted_triplet_of
from geodtr_lib.losses_overlap import offset_loss, overlap_loss, tile_overlap
from geodtr_lib.models.base import CrossViewModel


def pairs(n: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.randn(2, n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(draw[0], dim=1), F.normalize(draw[1], dim=1)


def test_losses_of_embeddings_are_those_of_their_products() -> None:
    aerial, ground = pairs()
    assert soft_margin_triplet_of(aerial @ ground.T, 7.0).item() == weighted_soft_margin_triplet(aerial, ground, 7.0).item()
    assert info_nce_of(aerial @ ground.T, 0.2, 0.1).item() == info_nce(aerial, ground, 0.2, 0.1).item()
    with pytest.raises(ValueError, match=r"must be B x B, not \(2, 3\)"):
        info_nce_of(torch.zeros(2, 3))


def test_a_learnt_temperature_has_the_closed_form_s_gradient_and_moves_towards_the_best() -> None:
    model = CrossViewModel()
    assert model.temperature is None
    model.temper(0.07)
    assert model.temperature.item() == pytest.approx(0.07, rel=1e-6)
    model.temper(0.2)
    info_nce_of(torch.eye(4), model.temperature).backward()
    scale = 1 / 0.2  # loss = log(1 + 3 exp(-scale)); derivative by log scale
    expected = -scale * 3 * math.exp(-scale) / (1 + 3 * math.exp(-scale))
    assert model.log_scale.grad.item() == pytest.approx(expected, rel=1e-3)
    with torch.no_grad():
        model.log_scale.fill_(20.0)
    assert model.temperature.item() == pytest.approx(0.01), "as CLIP caps it"


def test_highlighting_is_a_bell_that_favours_the_middle() -> None:
    assert highlight(torch.zeros(1)).item() == 1
    half = math.log(3 + 2 * math.sqrt(2)) / 4  # where 4 s (1 - s) = 1 / 2
    assert highlight(torch.tensor([-half, half])).tolist() == pytest.approx([0.5, 0.5], rel=1e-5)
    weights = highlight(torch.linspace(-1.5, 1.5, 101))
    assert (weights[:50].diff() > 0).all()
    assert (weights[51:].diff() < 0).all()
    assert torch.allclose(weights, weights.flip(0), atol=1e-6)
    with pytest.raises(ValueError, match="-1"):
        highlight(torch.zeros(1), steepness=-1)


def test_the_highlighted_loss_is_a_weighted_loop_and_weights_have_no_gradient() -> None:
    aerial, ground = (value.requires_grad_() for value in pairs(4))
    similarity = (aerial @ ground.T).detach()
    total = weight_sum = 0.0
    for i in range(4):
        for j in range(4):
            if i != j:
                for negative in (similarity[i, j], similarity[j, i]):
                    difference = 2 * (negative - similarity[i, i])
                    weight = highlight(difference).item()
                    total += weight * math.log1p(math.exp(10 * difference))
                    weight_sum += weight
    loss = highlighted_triplet_of(aerial @ ground.T)
    assert loss.item() == pytest.approx(total / weight_sum, rel=1e-9)
    loss.backward()
    frozen = (aerial @ ground.T).requires_grad_()
    weights = [highlight(2 * (frozen - frozen.diagonal()[:, None])).detach(), highlight(2 * (frozen - frozen.diagonal()[None])).detach()]
    weights = [weight * ~torch.eye(4, dtype=torch.bool) for weight in weights]
    softs = [F.softplus(20 * (frozen - frozen.diagonal()[:, None])), F.softplus(20 * (frozen - frozen.diagonal()[None]))]
    expected = sum((soft * weight).sum() for soft, weight in zip(softs, weights, strict=True)) / sum(weight.sum() for weight in weights)
    (gradient,) = torch.autograd.grad(expected, aerial)
    assert torch.allclose(aerial.grad, gradient, atol=1e-9)


def test_an_untrained_model_s_highlighted_loss_is_the_plain_one() -> None:
    similarity = torch.full((5, 5), 0.3)
    assert highlighted_triplet_of(similarity).item() == pytest.approx(soft_margin_triplet_of(similarity).item(), rel=1e-6)


def test_overlap_of_two_tiles() -> None:
    offsets = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0], [1.0, 1.0], [2.0, 0.0], [0.5, -0.5]])
    expected = [1, (1 / 2) / (3 / 2), 1 / 3, (1 / 4) / (7 / 4), 0, 0.5625 / (2 - 0.5625)]
    assert tile_overlap(offsets).tolist() == pytest.approx(expected)


def test_overlap_loss_is_a_loop_and_zero_in_proportion() -> None:
    positive, semi, share = torch.tensor([0.8, 0.05]), torch.tensor([[0.4, 0.2], [0.3, 0.1]]), torch.tensor([[0.5, 0.25], [0.4, 0.2]])
    terms = [(0.4 / 0.8 - 0.5) ** 2, (0.2 / 0.8 - 0.25) ** 2, (0.3 / 0.1 - 0.4) ** 2, (0.1 / 0.1 - 0.2) ** 2]
    assert overlap_loss(positive, semi, share).item() == pytest.approx(sum(terms) / 4, rel=1e-5)
    assert overlap_loss(positive[:1], semi[:1], share[:1]).item() == pytest.approx(0, abs=1e-12)
    assert overlap_loss(positive, semi[:, 0], share[:, 0]).item() == pytest.approx((terms[0] + terms[2]) / 2, rel=1e-5)
    assert offset_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])).item() == 2.5
    with pytest.raises(ValueError, match="overlaps"):
        overlap_loss(positive, semi, share[:1])
    with pytest.raises(ValueError, match="equal B x 2"):
        offset_loss(torch.zeros(1, 2), torch.zeros(2, 2))


@pytest.mark.parametrize("views", [2, 3, 4])
@pytest.mark.parametrize("square", [False, True])
def test_descriptors_that_turn_with_the_image_are_consistent(views: int, square: bool) -> None:
    random = np.random.default_rng(views)
    flip = torch.from_numpy(random.integers(0, 2, (views, 5)).astype(bool))
    turns = torch.from_numpy(random.integers(0, 4, (views, 5)))
    plain = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(views, 1, 1, 1)
    turn = (lambda maps: layout_aerial(maps, flip.flatten(), turns.flatten())) if square else (
        lambda maps: layout_ground(maps, flip.flatten(), turns.flatten())
    )  # fmt: skip
    assert consistency_loss(turn(plain), flip, turns, square).item() == pytest.approx(0, abs=1e-12)
    noisy = turn(plain) + torch.randn(plain.shape, generator=torch.Generator().manual_seed(1))
    loss = consistency_loss(noisy, flip, turns, square)
    assert loss.item() == pytest.approx(2, rel=0.1), "twice the variance of the noise"
    assert consistency_loss(plain, flip, turns, square).item() > 0.1, "descriptors that stay where they are do not turn"


def test_consistency_is_the_mean_squared_difference_of_two_views() -> None:
    first, second = torch.randn(2, 4, 2, 3, 8, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(2, 4, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.int64)
    assert consistency_loss(torch.cat([first, second]), *none).item() == pytest.approx((first - second).square().mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match="nothing to be consistent with"):
        consistency_loss(first, none[0][:1], none[1][:1])
