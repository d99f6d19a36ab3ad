"""Losses against naive loops, closed forms, limits, symmetries, gradients and the reference values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geodtr_lib.losses import counterfactual_loss, info_nce, weighted_soft_margin_triplet

REFERENCE = Path(__file__).parent / "reference" / "values.json"
LOG_2 = math.log(2.0)


def unit(seed: int, rows: int, width: int) -> np.ndarray:
    values = np.random.RandomState(seed).standard_normal((rows, width)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def pairs(rows: int = 5, width: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(unit(0, rows, width)).to(dtype), torch.from_numpy(unit(1, rows, width)).to(dtype)


def naive_triplet(aerial: Tensor, ground: Tensor, alpha: float, mask: Tensor | None = None) -> float:
    terms = []
    for i in range(len(aerial)):
        for j in range(len(aerial)):
            if i == j:
                continue
            if mask is None or not mask[i, j]:  # aerial i against ground j
                positive, negative = (aerial[i] - ground[i]).square().sum(), (aerial[i] - ground[j]).square().sum()
                terms.append(math.log1p(math.exp(alpha * float(positive - negative))))
            if mask is None or not mask[j, i]:  # ground i against aerial j
                positive, negative = (ground[i] - aerial[i]).square().sum(), (ground[i] - aerial[j]).square().sum()
                terms.append(math.log1p(math.exp(alpha * float(positive - negative))))
    return sum(terms) / len(terms)


def test_values_of_the_published_implementation() -> None:
    expected = json.loads(REFERENCE.read_text())["losses"]
    first, noise = unit(11, 16, 32), unit(12, 16, 32)
    mixed = first + 2 * noise
    aerial, other = torch.from_numpy(first), torch.from_numpy(unit(13, 16, 32))
    ground = torch.from_numpy(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))
    assert weighted_soft_margin_triplet(aerial, ground, 10.0).item() == pytest.approx(expected["triplet_gamma10"], rel=1e-5)
    assert weighted_soft_margin_triplet(aerial, ground, 5.0).item() == pytest.approx(expected["triplet_gamma5"], rel=1e-5)
    # The published log(1 + exp(x)) rounds 1 + 6e-5 in float32, which softplus does not.
    assert counterfactual_loss(aerial, other, 5.0).item() == pytest.approx(expected["counterfactual_beta5"], rel=1e-5)
    assert counterfactual_loss(aerial, ground, 5.0).item() == pytest.approx(expected["counterfactual_close"], rel=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 10.0])
def test_triplet_is_the_mean_over_a_double_loop(alpha: float) -> None:
    aerial, ground = pairs()
    assert weighted_soft_margin_triplet(aerial, ground, alpha).item() == pytest.approx(naive_triplet(aerial, ground, alpha), rel=1e-6)


def test_triplet_mask_takes_pairs_out_of_the_loop() -> None:
    aerial, ground = pairs()
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[0, 3] = mask[3, 0] = mask[1, 2] = True
    masked = weighted_soft_margin_triplet(aerial, ground, 10.0, mask).item()
    assert masked == pytest.approx(naive_triplet(aerial, ground, 10.0, mask), rel=1e-6)
    assert masked != pytest.approx(weighted_soft_margin_triplet(aerial, ground, 10.0).item(), rel=1e-6)


def test_triplet_without_any_negative_left_is_zero_and_has_a_gradient() -> None:
    aerial, ground = (value.requires_grad_() for value in pairs())
    loss = weighted_soft_margin_triplet(aerial, ground, mask=torch.ones(5, 5, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.count_nonzero(aerial.grad) == 0


def test_info_nce_is_the_mean_over_a_double_loop() -> None:
    aerial, ground = pairs()
    smoothing, temperature = 0.1, 0.2
    total = 0.0
    for a, g in ((aerial, ground), (ground, aerial)):
        for i in range(5):
            logits = [float(a[i] @ g[j]) / temperature for j in range(5)]
            normaliser = math.log(sum(math.exp(value) for value in logits))
            target = [(1 - smoothing) * (i == j) + smoothing / 5 for j in range(5)]
            total += sum(weight * (normaliser - value) for weight, value in zip(target, logits, strict=True)) / 5
    assert info_nce(aerial, ground, temperature, smoothing).item() == pytest.approx(total / 2, rel=1e-9)


@pytest.mark.parametrize("loss", [weighted_soft_margin_triplet, info_nce], ids=lambda loss: loss.__name__)
def test_swapping_the_views_or_permuting_the_batch_changes_nothing(loss) -> None:
    aerial, ground = pairs()
    order = torch.tensor([3, 1, 4, 0, 2])
    value = loss(aerial, ground).item()
    assert loss(ground, aerial).item() == pytest.approx(value, rel=1e-9)
    assert loss(aerial[order], ground[order]).item() == pytest.approx(value, rel=1e-9)


def test_collapsed_embeddings_give_log_2_and_the_log_of_the_batch() -> None:
    same = F.normalize(torch.ones(6, 4), dim=1)
    assert weighted_soft_margin_triplet(same, same).item() == pytest.approx(LOG_2, rel=1e-5)
    assert counterfactual_loss(same, same).item() == pytest.approx(LOG_2, rel=1e-5)
    assert info_nce(same, same).item() == pytest.approx(math.log(6), rel=1e-5)


def test_orthogonal_pairs_have_a_closed_form() -> None:
    basis = torch.eye(4, dtype=torch.float64)  # positives at distance 0, negatives at squared distance 2
    assert weighted_soft_margin_triplet(basis, basis, 3.0).item() == pytest.approx(math.log1p(math.exp(-6)), rel=1e-9)
    assert counterfactual_loss(basis, basis.roll(1, 0), 5.0).item() == pytest.approx(math.log1p(math.exp(-10)), rel=1e-9)
    assert info_nce(basis, basis, 0.5).item() == pytest.approx(math.log1p(3 * math.exp(-2)), rel=1e-9)


@pytest.mark.parametrize("loss", [weighted_soft_margin_triplet, counterfactual_loss, info_nce], ids=lambda loss: loss.__name__)
def test_gradients_agree_with_finite_differences(loss) -> None:
    aerial, ground = (value.requires_grad_() for value in pairs(4, 3))
    assert torch.autograd.gradcheck(loss, (aerial, ground), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_stays_half(dtype: torch.dtype) -> None:
    # Positives opposite, negatives identical: the exponent is 40, and exp(40) is far above the largest float16.
    aerial = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=dtype, requires_grad=True)
    ground = -aerial.detach()
    loss = weighted_soft_margin_triplet(aerial, ground)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(40.0, rel=1e-3)
    assert torch.isfinite(aerial.grad).all()


def test_autocast_does_not_lower_the_precision() -> None:
    aerial, ground = pairs(8, 16, torch.float32)
    for loss in (weighted_soft_margin_triplet, counterfactual_loss, info_nce):
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(aerial, ground)
        assert inside.item() == loss(aerial, ground).item()


def test_impossible_input_is_refused_with_its_value() -> None:
    aerial, ground = pairs()
    with pytest.raises(ValueError, match="at least 2 pairs"):
        weighted_soft_margin_triplet(aerial[:1], ground[:1])
    with pytest.raises(ValueError, match=r"\(5, 7\) and \(4, 7\)"):
        weighted_soft_margin_triplet(aerial, ground[:4])
    with pytest.raises(ValueError, match=r"mask is \(4, 4\)"):
        weighted_soft_margin_triplet(aerial, ground, mask=torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="-1"):
        info_nce(aerial, ground, temperature=-1.0)
