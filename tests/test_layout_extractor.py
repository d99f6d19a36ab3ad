"""Geometric layout extractors against naive loops, their symmetry, their limits and their size rules."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from geodtr_lib.errors import ConfigError
from geodtr_lib.models.layout_extractor import Bottleneck, LayoutExtractorV1, LayoutExtractorV2

VERSIONS = [LayoutExtractorV1, LayoutExtractorV2]


def features(batch: int = 2, channels: int = 8, height: int = 3, width: int = 5) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def scrambled(module: torch.nn.Module) -> torch.nn.Module:
    """Every parameter drawn anew, so that nothing is hidden by a start at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("activation", "low", "high"), [("sigmoid", 0.0, 1.0), ("hardtanh", -1.0, 1.0)])
def test_descriptors_have_the_features_size_and_the_range_of_their_activation(version, activation: str, low: float, high: float) -> None:
    extractor = scrambled(version(8, 3, 5, 4, activation=activation))
    descriptors = extractor(10 * features())
    assert descriptors.shape == (2, 4, 3, 5)
    assert descriptors.min() >= low
    assert descriptors.max() <= high
    assert descriptors.min() < (low + high) / 2 < descriptors.max()
    assert extractor.descriptor_range[1:] == (low, high)


def test_released_activations_are_the_defaults() -> None:
    assert LayoutExtractorV1(8, 3, 5, 4).activation == "hardtanh"
    assert LayoutExtractorV2(8, 3, 5, 4).activation == "sigmoid"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_parameter_has_a_gradient(version) -> None:
    extractor = version(8, 3, 5, 4)
    (extractor(features()) * torch.arange(15.0).view(3, 5)).sum().backward()
    assert [name for name, parameter in extractor.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_batch_equals_one_by_one_in_eval(version) -> None:
    extractor = scrambled(version(8, 3, 5, 4))
    images = features(3)
    with torch.no_grad():
        single = torch.cat([extractor(images[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(extractor(images), single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_dropout_acts_in_training_only(version) -> None:
    extractor = version(8, 3, 5, 4)
    torch.manual_seed(0)
    assert not torch.equal(extractor(features()), extractor(features()))
    extractor.eval()
    assert torch.equal(extractor(features()), extractor(features()))


def test_an_untrained_v2_is_average_pooling() -> None:
    """The release's start: every descriptor is sigmoid(0.1) = 0.525 everywhere, within 0.002."""
    torch.manual_seed(0)
    descriptors = LayoutExtractorV2(384, 7, 41, 8).eval()(features(2, 384, 7, 41))
    assert descriptors.mean().item() == pytest.approx(0.525, abs=0.002)
    assert descriptors.std().item() < 0.004


@pytest.mark.parametrize("version", VERSIONS)
def test_a_start_by_fan_in_differs_between_descriptors_and_images_from_the_first_step_on(version) -> None:
    torch.manual_seed(0)
    images = features(16, 32, 7, 20)
    released, own = (version(32, 7, 20, 8, activation="hardtanh", start=start).eval()(images) for start in ("released", "fan_in"))
    assert own.std(0).mean() > 10 * released.std(0).mean() > 0  # over images
    assert own.std(1).mean() > 0.1  # over descriptors


@pytest.mark.parametrize(("version", "names"), [(LayoutExtractorV1, ("w1", "index_weight", "w2")), (LayoutExtractorV2, ("w1", "w2"))])
def test_a_start_by_fan_in_has_the_spread_that_keeps_the_variance(version, names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    extractor = version(32, 7, 20, 8, start="fan_in")
    holder = extractor.bottleneck if version is LayoutExtractorV2 else extractor
    for name, fan_in in zip(names, (140, 70) if len(names) == 2 else (140, 140, 68), strict=True):
        assert getattr(holder, name).std().item() == pytest.approx(fan_in**-0.5, rel=0.02)
    assert not holder.b1.any()
    assert not holder.b2.any()
    with pytest.raises(ConfigError, match=r"gle_start: 'xavier' is not known; allowed: released, fan_in"):
        version(32, 7, 20, 8, start="xavier")


def test_v2_without_positions_and_bottleneck_does_not_see_where_a_feature_lies() -> None:
    extractor = LayoutExtractorV2(8, 3, 5, 4, bottleneck=False).eval()  # positions start at zero
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    images = features()
    moved = images.flatten(2)[..., order].reshape(images.shape)
    torch.testing.assert_close(extractor(moved), extractor(images).flatten(2)[..., order].reshape(2, 4, 3, 5), rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        extractor.position.normal_(generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(extractor(moved), extractor(images).flatten(2)[..., order].reshape(2, 4, 3, 5), atol=1e-3)


def test_bottleneck_is_two_linear_layers_of_each_descriptor() -> None:
    bottleneck = scrambled(Bottleneck(3, 7))
    maps = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for k in range(3):
            hidden = maps[:, k] @ bottleneck.w1[k] + bottleneck.b1[0, k]  # 2 x 3
            assert hidden.shape == (2, 3)
            torch.testing.assert_close(bottleneck(maps)[:, k], hidden @ bottleneck.w2[k] + bottleneck.b2[0, k])


def test_bottleneck_parameters_exist_only_when_used() -> None:
    with_it, without = (dict(LayoutExtractorV2(8, 3, 5, 4, bottleneck=used).named_parameters()) for used in (True, False))
    assert set(with_it) - set(without) == {f"bottleneck.{name}" for name in ("w1", "b1", "w2", "b2")}


def test_v1_reads_the_saliency_map_and_the_winning_channel() -> None:
    extractor = scrambled(LayoutExtractorV1(8, 3, 4, 2, heads=2))
    images = features(2, 8, 3, 4)
    with torch.no_grad():
        for b in range(2):
            tokens = torch.zeros(1, 2, 6)
            for k in range(2):
                content, index = extractor.b1[0, k].clone(), extractor.position[0, k].clone()
                for n in range(12):
                    column = images[b, :, n // 4, n % 4]
                    content += column.max() * extractor.w1[n, k]
                    index += column.argmax() / 8 * extractor.index_weight[n, k]
                tokens[0, k] = content + index.clamp(-1, 1)
            encoded = extractor.transformer(tokens)[0]
            for k in range(2):
                expected = F.hardtanh(encoded[k] @ extractor.w2[:, k] + extractor.b2[0, k])
                torch.testing.assert_close(extractor(images)[b, k].flatten(), expected, rtol=1e-4, atol=1e-5)


@given(height=st.integers(1, 12), width=st.integers(1, 12), heads=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_v1_runs_at_any_size_with_the_released_width_where_that_exists(height: int, width: int, heads: int) -> None:
    with torch.device("meta"):
        extractor = LayoutExtractorV1(4, height, width, 2, heads=heads, ffn_width=4)
        assert extractor(torch.empty(2, 4, height, width)).shape == (2, 2, height, width)
    positions, token = height * width, extractor.w1.shape[2]
    assert token % heads == 0
    assert token == max(positions // 2 - positions // 2 % heads, heads)
    if positions % 2 == 0 and positions // 2 % heads == 0:
        assert 2 * token == positions


@pytest.mark.parametrize("version", VERSIONS)
def test_impossible_settings_name_the_value(version) -> None:
    with pytest.raises(ConfigError, match="n_desc: 0"):
        version(8, 3, 5, 0)
    with pytest.raises(ConfigError, match="n_desc: 'four'"):
        version(8, 3, 5, "four")
    with pytest.raises(ConfigError, match="'tanh' is not known; allowed: sigmoid, hardtanh"):
        version(8, 3, 5, 4, activation="tanh")
    with pytest.raises(ConfigError, match="heads: 0"):
        version(8, 3, 5, 4, heads=0)
    with pytest.raises(ConfigError, match=r"\(8, 4, 5\).*\(8, 3, 5\)"):
        version(8, 3, 5, 4)(features(2, 8, 4, 5))


def test_v2_needs_heads_that_divide_the_channels() -> None:
    with pytest.raises(ConfigError, match="heads: 3 do not divide the 8 channels"):
        LayoutExtractorV2(8, 3, 5, 4, heads=3)
