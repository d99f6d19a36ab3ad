"""Attention as torch computes it, also where it is widened; and its names and numbers in an encoder stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geodtr_lib.models.attention import SelfAttention, attend


def draws(*shape: int, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(*shape, generator=generator) for _ in range(count)]


def test_without_autocast_it_is_torchs() -> None:
    query, key, value = draws(2, 4, 9, 6)
    assert torch.equal(attend(query, key, value), F.scaled_dot_product_attention(query, key, value))


def test_under_autocast_the_values_are_those_of_float32() -> None:
    query, key, value = (part.bfloat16().requires_grad_() for part in draws(2, 4, 9, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attend(query, key, value)
    wide = [part.detach().float().requires_grad_() for part in (query, key, value)]
    expected = F.scaled_dot_product_attention(*wide)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    expected.sum().backward()
    for narrow, part in zip((query, key, value), wide, strict=True):
        assert narrow.grad is not None
        assert part.grad is not None
        torch.testing.assert_close(narrow.grad, part.grad.bfloat16())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_an_encoder_it_is_multi_head_attention(precision: str) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(24, 4, 32, 0.0, activation="gelu", batch_first=True)
    plain = nn.TransformerEncoderLayer(24, 4, 32, 0.0, activation="gelu", batch_first=True)
    plain.load_state_dict(layer.state_dict())
    layer.self_attn = SelfAttention.like(layer.self_attn)
    assert list(layer.state_dict()) == list(plain.state_dict())
    (tokens,) = draws(3, 10, 24, count=1)
    outs = []
    for module in (layer, plain):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            out = module(tokens)
        out.float().pow(2).sum().backward()
        outs.append(out.detach().float())
    tolerance = {"rtol": 0.05, "atol": 0.05} if precision == "bf16" else {}
    torch.testing.assert_close(outs[0], outs[1], **tolerance)
    for (name, one), other in zip(layer.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        difference = (one.grad - other.grad).norm() / other.grad.norm()
        assert difference < (0.05 if precision == "bf16" else 1e-5), name


def test_masks_and_asked_weights_are_multi_head_attentions_own() -> None:
    torch.manual_seed(1)
    plain = nn.MultiheadAttention(24, 4, batch_first=True)
    ours = SelfAttention.like(plain)
    (tokens,) = draws(2, 5, 24, count=1)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[:, -1] = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for named in ({"need_weights": True}, {"need_weights": False, "key_padding_mask": mask}):
            for found, expected in zip(ours(tokens, tokens, tokens, **named), plain(tokens, tokens, tokens, **named), strict=True):
                assert (found is None) == (expected is None)
                if expected is not None:
                    assert torch.equal(found, expected)


def test_dropout_changes_the_mix_only_while_training() -> None:
    ours = SelfAttention.like(nn.MultiheadAttention(24, 4, dropout=0.5, batch_first=True))
    (tokens,) = draws(2, 5, 24, count=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(3)
        first, second = (ours(tokens, tokens, tokens, need_weights=False)[0] for _ in range(2))
        assert not torch.equal(first, second)
        ours.eval()
        first, second = (ours(tokens, tokens, tokens, need_weights=False)[0] for _ in range(2))
        assert torch.equal(first, second)
