"""The objective's gradients: one step as a whole, and with one core for each branch."""

from __future__ import annotations

import pytest
import torch

from geodtr_lib import losses
from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.models import GeoDTR, build_model
from geodtr_lib.objective import TwoCores, backward


def setting(**values: object) -> tuple[RunConfig, GeoDTR, torch.Tensor, torch.Tensor]:
    config = resolve_config("smoke", dropout=0.0, precision="fp32", device="cpu", **values)
    torch.manual_seed(0)
    model = build_model(config).train()
    aerial, ground = torch.randn(2, 4, 3, *config.ground_size, generator=torch.Generator().manual_seed(1))
    return config, model, aerial, ground


def generators() -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(2), torch.Generator().manual_seed(3)


def test_the_loss_is_equation_7() -> None:
    config, model, aerial, ground = setting(counterfactual_weight=0.7)
    parts = backward(model, aerial, ground, config, generators())
    model.zero_grad()
    out = build_model(config)
    out.load_state_dict(model.state_dict())
    seen = out.train()(aerial, ground)
    triplet = losses.weighted_soft_margin_triplet(seen.aerial, seen.ground, config.alpha)
    imaginary = [out.counterfactual(f, g) for f, g in zip((seen.aerial_features, seen.ground_features), generators(), strict=True)]
    halves = [losses.counterfactual_loss(e, f, config.beta) for e, f in zip((seen.aerial, seen.ground), imaginary, strict=True)]
    assert parts["triplet_loss"].item() == pytest.approx(triplet.item(), rel=1e-5)
    assert parts["counterfactual_loss"].item() == pytest.approx(sum(half.item() for half in halves) / 2, rel=1e-5)
    assert parts["loss"].item() == pytest.approx(triplet.item() + 0.7 * sum(half.item() for half in halves) / 2, rel=1e-5)


@pytest.mark.parametrize("values", [{}, {"loss": "infonce"}, {"counterfactual_weight": 0.0}, {"gle": "v1"}])
def test_two_cores_give_the_same_gradients(values: dict) -> None:
    config, model, aerial, ground = setting(**values)
    expected = backward(model, aerial, ground, config, generators())
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    cores = TwoCores()
    found = cores.backward(model, aerial, ground, config, generators())
    cores.close()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5), name
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == set(gradients)
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


def test_two_cores_repeat_to_the_bit() -> None:
    config, model, aerial, ground = setting()
    cores, seen = TwoCores(), []
    for _ in range(3):
        model.zero_grad()
        cores.backward(model, aerial, ground, config, generators())
        seen.append([parameter.grad.clone() for parameter in model.parameters()])
    cores.close()
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))
