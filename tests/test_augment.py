from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from geodtr_lib.data.augment import SemanticParameters, apply_semantic, draw_semantic
from geodtr_lib.errors import ConfigError

ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)


def semantic_augmentation(batch: torch.Tensor, strength: str, generator: torch.Generator) -> torch.Tensor:
    return apply_semantic(batch, draw_semantic(len(batch), strength, generator))


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, height: int = 9, width: int = 14, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, height, width, generator=random(seed))


def parameters(
    factors: Tensor | None = None,
    order: Tensor | None = None,
    gray: Tensor | None = None,
    posterize: Tensor | None = None,
    sigma: Tensor | None = None,
    n: int = 6,
) -> SemanticParameters:
    """Changing nothing, but for what is given."""
    return SemanticParameters(
        factors=torch.ones(n, 3) if factors is None else factors,
        order=torch.arange(3).repeat(n, 1) if order is None else order,
        gray=torch.zeros(n, dtype=torch.bool) if gray is None else gray,
        posterize=torch.zeros(n, dtype=torch.bool) if posterize is None else posterize,
        sigma=sigma,
    )


def by_torchvision(image: Tensor, drawn: SemanticParameters, i: int) -> Tensor:
    """The same parameters through torchvision's functions, one image (3 x H x W) at a time."""
    for kind in drawn.order[i].tolist():
        image = ADJUST[kind](image, drawn.factors[i, kind].item())
    if drawn.gray[i]:
        image = tv.rgb_to_grayscale(image, num_output_channels=3)
    if drawn.posterize[i]:
        image = tv.posterize(image, bits=4)
    return image if drawn.sigma is None else tv.gaussian_blur(image, kernel_size=[1, 5], sigma=[drawn.sigma[i].item()] * 2)


def test_colour_jitter_in_each_of_its_orders() -> None:
    orders = torch.tensor(list(itertools.permutations(range(3))))
    factors = 0.7 + 0.6 * torch.rand(6, 3, generator=random())
    batch, drawn = images(6), parameters(factors, orders)
    expected = torch.stack([by_torchvision(image, drawn, i) for i, image in enumerate(batch)])
    assert torch.allclose(apply_semantic(batch, drawn), expected, atol=1e-6)
    assert not torch.allclose(expected[0], expected[5], atol=1e-3)


def test_grayscale_and_posterise_where_drawn() -> None:
    batch = images(6)
    batch[:, :, 0, 0] = 1.0  # full white stays in the highest of the 16 levels
    for some in ("gray", "posterize"):
        chosen = torch.tensor([True, False, True, False, False, True])
        drawn = parameters(**{some: chosen})
        found = apply_semantic(batch, drawn)
        for i, image in enumerate(batch):
            assert torch.allclose(found[i], by_torchvision(image, drawn, i), atol=1e-6)
            assert chosen[i] or torch.equal(found[i], image)


def test_blur_is_vertical_and_reflects() -> None:
    batch = images(6)
    drawn = parameters(sigma=torch.tensor([0.1, 0.3, 1.0, 2.0, 3.7, 5.0]))
    expected = torch.stack([by_torchvision(image, drawn, i) for i, image in enumerate(batch)])
    assert torch.allclose(apply_semantic(batch, drawn), expected, atol=1e-6)
    rows = torch.rand(6, 3, 9, 1, generator=random()).expand(6, 3, 9, 14)
    assert torch.equal(apply_semantic(rows, drawn)[..., :1].expand(6, 3, 9, 14), apply_semantic(rows, drawn))
    columns = torch.rand(6, 3, 1, 14, generator=random()).expand(6, 3, 9, 14)
    assert torch.allclose(apply_semantic(columns, drawn), columns, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), strength=st.sampled_from(["strong", "weak"]), height=st.integers(3, 12))
def test_whole_augmentation_equals_torchvision_image_by_image(seed: int, strength: str, height: int) -> None:
    batch = images(5, height, 7, seed)
    drawn = draw_semantic(5, strength, random(seed))
    found = apply_semantic(batch, drawn)
    for i, image in enumerate(batch):
        # Posterising is a step: a value at its edge may fall to either side.
        far = (found[i] - by_torchvision(image, drawn, i)).abs() > 1e-5
        assert far.float().mean() <= (0.2 if drawn.posterize[i] else 0)
    assert found.min() > -1e-6
    assert found.max() < 1 + 1e-6


def test_large_images_are_done_in_parts_with_the_same_result() -> None:
    batch, drawn = images(5, 600, 800), draw_semantic(5, "strong", random())
    each = torch.cat([apply_semantic(batch[i : i + 1], drawn[i : i + 1]) for i in range(5)])
    assert torch.equal(apply_semantic(batch, drawn), each)


def test_the_input_is_left_alone() -> None:
    batch = images(6)
    before = batch.clone()
    semantic_augmentation(batch, "strong", random())
    assert torch.equal(batch, before)


def test_draws_follow_the_released_distributions() -> None:
    n = 40_000
    strong, weak = draw_semantic(n, "strong", random()), draw_semantic(n, "weak", random())
    for drawn, jitter, gray, posterize in ((strong, 0.3, 0.2, 0.2), (weak, 0.1, 0.1, 0.0)):
        assert drawn.factors.min() >= 1 - jitter
        assert drawn.factors.max() <= 1 + jitter
        assert torch.allclose(drawn.factors.mean(0), torch.ones(3), atol=0.01)
        assert torch.allclose(drawn.factors.std(0), torch.full((3,), jitter / 3**0.5), rtol=0.02)
        assert drawn.gray.float().mean() == pytest.approx(gray, abs=0.01)
        assert drawn.posterize.float().mean() == pytest.approx(posterize, abs=0.01)
        orders = torch.unique(drawn.order @ torch.tensor([9, 3, 1]), return_counts=True)[1]
        assert len(orders) == 6
        assert torch.allclose(orders / n, torch.full((6,), 1 / 6), atol=0.01)
    assert weak.sigma is None
    assert strong.sigma is not None
    assert 0.1 <= strong.sigma.min() < 0.11
    assert 4.99 < strong.sigma.max() <= 5.0
    assert strong.sigma.mean().item() == pytest.approx(2.55, abs=0.03)


def test_brightness_of_augmented_images_is_distributed_as_by_torchvisions_transforms() -> None:
    """End to end against the classes that the release composes, on one image many times."""
    image = torch.full((1, 3, 4, 4), 0.5)
    image[:, 0] = 0.8
    n = 3000
    ours = semantic_augmentation(image.expand(n, -1, -1, -1), "strong", random()).mean((2, 3))
    composed = v2.Compose(
        [v2.ColorJitter(0.3, 0.3, 0.3), v2.RandomGrayscale(0.2), v2.RandomPosterize(4, 0.2), v2.GaussianBlur((1, 5), (0.1, 5.0))]
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = torch.stack([composed(image[0]).mean((1, 2)) for _ in range(n)])
    quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    assert torch.allclose(ours.quantile(quantiles, dim=0), theirs.quantile(quantiles, dim=0), atol=0.025)
    gray = [(values[:, 0] == values[:, 1]).float().mean().item() for values in (ours, theirs)]
    assert gray[0] == pytest.approx(gray[1], abs=0.04)


def test_the_same_generator_state_gives_the_same_images_in_any_dtype() -> None:
    batch = images(4)
    assert torch.equal(semantic_augmentation(batch, "strong", random(3)), semantic_augmentation(batch, "strong", random(3)))
    assert not torch.equal(semantic_augmentation(batch, "strong", random(3)), semantic_augmentation(batch, "strong", random(4)))
    assert semantic_augmentation(batch.to(torch.bfloat16), "strong", random(3)).dtype == torch.bfloat16


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="'medium' is not known; allowed: strong, weak"):
        draw_semantic(1, "medium", random())
    with pytest.raises(ValueError, match="2 rows are too low"):
        semantic_augmentation(images(1, height=2), "strong", random())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_augmentation_on_a_gpu_is_that_on_the_cpu() -> None:
    batch, drawn = images(64, 32, 32), draw_semantic(64, "strong", random())
    far = (apply_semantic(batch.cuda(), drawn).cpu() - apply_semantic(batch, drawn)).abs() > 1e-5
    assert far.float().mean() < 0.01
