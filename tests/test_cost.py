"""What a model costs, against closed forms; times only as far as they are times."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from geodtr_lib.evaluation.cost import latency, multiply_adds, search_latency
from geodtr_lib.models import GeoDTR
from geodtr_lib.models.backbones import build_backbone
from geodtr_lib.study.efficiency import measure_efficiency, record_efficiency
from geodtr_lib.study.records import EFFICIENCY, Records


class Two(nn.Module):
    """A convolution for one view, a matrix product for the other."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3, padding=1)
        self.linear = nn.Linear(3 * 4 * 16, 7)

    def forward(self, aerial: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
        return self.convolution(aerial), self.linear(ground.flatten(1))


def test_multiply_adds_are_those_of_the_closed_form() -> None:
    model = Two().train()
    assert multiply_adds(model, (8, 8), (4, 16)) == 8 * 8 * 5 * 3 * 3 * 3 + 3 * 4 * 16 * 7
    assert model.training


def test_attention_is_counted() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.embed = nn.Conv2d(3, 16, 1)

        def forward(self, aerial: Tensor, ground: Tensor) -> Tensor:
            return self.encoder(self.embed(aerial).flatten(2).mT)

    tokens, width = 64, 16
    expected = tokens * 3 * width + tokens * width * (4 * width + 2 * 32) + 2 * tokens * tokens * width
    before = torch.backends.mha.get_fastpath_enabled()
    assert multiply_adds(Attention(), (8, 8), (8, 8)) == expected
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_the_papers_count_leaves_the_transformers_out() -> None:
    model = GeoDTR(backbone="resnet18_small", aerial_size=(32, 64), ground_size=(32, 64))
    with_transformers = multiply_adds(model, (32, 64), (32, 64))
    trunks = sum(multiply_adds(OneTrunk(branch.backbone), (32, 64), (32, 64)) for branch in (model.aerial_branch, model.ground_branch))
    assert trunks < with_transformers < 2 * trunks


def test_the_trunks_of_geodtr_plus_are_the_published_count() -> None:
    """11.25 GFLOPS of Table VII: multiply-adds of both trunks at CVUSA's size."""
    trunk = OneTrunk(build_backbone("convnext_tiny"))
    assert 2 * multiply_adds(trunk, (122, 671), (8, 8)) == pytest.approx(11.25e9, rel=0.01)


class OneTrunk(nn.Module):
    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, aerial: Tensor, ground: Tensor) -> Tensor:
        return self.trunk(aerial)


def test_times_are_ordered_and_grow_with_the_work() -> None:
    found = latency(Two(), (8, 8), (4, 16), seconds=0.02)
    assert 0 < found.low <= found.median <= found.high
    assert found.repeats >= 1
    small, large = (search_latency(64, n, 8, seconds=0.05) for n in (10, 20_000))
    assert 0 < small.median < large.median


def test_a_row_per_model_is_recorded_once(tmp_path: Path) -> None:
    models = {"a": {"n_desc": 2, "n_test": 8}, "b": {"gle": "v1"}}
    rows = measure_efficiency("smoke", models, batch=2, seconds=0.02, gallery=100, device="cpu")
    for _ in range(2):
        path = record_efficiency(rows, Records(tmp_path))
    frame = Records(tmp_path).read(EFFICIENCY)
    assert path == tmp_path / EFFICIENCY
    assert frame["model"].tolist() == ["a", "b"]
    assert frame["dimension"].tolist() == [2 * 128, 8 * 128]
    assert (frame["gallery_bytes"] == 400 * frame["dimension"]).all()
    assert (frame["parameters"] > frame["backbone_parameters"]).all()
