"""What a model costs to use (Table VII): multiply-adds, time, the size of its embeddings, and the search among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from geodtr_lib.evaluation.ranking import top_k
from geodtr_lib.models import CrossViewModel

Size = tuple[int, int]


class Milliseconds(NamedTuple):
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float
    repeats: int


def multiply_adds(model: nn.Module, aerial_size: Size, ground_size: Size) -> int:
    """Multiply-accumulate operations for one pair, both branches: convolutions and matrix products, also those within attention.

    PyTorch's counter gives floating point operations, two for each. It knows neither the transformer's fused path nor fused attention,
    which are therefore not taken while it counts; a counter that misses them finds less (the paper's 11.25 G for GeoDTR+).

    Args:
        model: takes aerial and ground images.
        aerial_size, ground_size: (H, W) in pixels.
    """
    aerial, ground = _images(model, 1, aerial_size, ground_size)
    with _evaluation_mode(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _plain_transformers():
        counter = FlopCounterMode(display=False)
        with counter:
            model(aerial, ground)
    return int(counter.get_total_flops()) // 2


def embedding_length(model: CrossViewModel, aerial_size: Size) -> int:
    """Numbers of the embedding of a tile (H, W); a panorama of limited view may have another (DSM)."""
    with _evaluation_mode(model), torch.inference_mode():
        return int(model.encode_aerial(*_images(model, 1, aerial_size)).shape[1])


def latency(model: nn.Module, aerial_size: Size, ground_size: Size, batch: int = 1, seconds: float = 2.0) -> Milliseconds:
    """Time for both embeddings of ``batch`` pairs, on the model's device and with the threads that torch has now.

    Args:
        model: takes aerial and ground images.
        aerial_size, ground_size: (H, W) in pixels.
        batch: pairs at a time.
        seconds: how long to measure, after a warm-up.
    """
    images = _images(model, batch, aerial_size, ground_size)
    with _evaluation_mode(model), torch.inference_mode():
        return _timed(seconds, "model(aerial, ground)", {"model": model, "aerial": images[0], "ground": images[1]})


def search_latency(
    dimension: int, n_gallery: int, n_query: int = 256, device: torch.device | str = "cpu", seconds: float = 1.0
) -> Milliseconds:
    """Time in which one of ``n_query`` queries finds its nearest reference in a gallery of random embeddings, by exact search."""
    generator = torch.Generator().manual_seed(0)
    query, gallery = (normalize(torch.randn(n, dimension, generator=generator), dim=1).to(device) for n in (n_query, n_gallery))
    found = _timed(seconds, "top_k(query, gallery, 1)", {"top_k": top_k, "query": query, "gallery": gallery})
    return Milliseconds(found.median / n_query, found.low / n_query, found.high / n_query, found.repeats)


def _timed(seconds: float, statement: str, names: dict[str, object]) -> Milliseconds:
    # The benchmark utility waits for the GPU, warms up and keeps the number of threads.
    timer = Timer(statement, globals=names, num_threads=torch.get_num_threads())
    timer.timeit(1)
    measured = timer.adaptive_autorange(min_run_time=seconds, max_run_time=4 * seconds)
    times = torch.tensor(measured.times, dtype=torch.float64) * 1000
    low, median, high = torch.quantile(times, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return Milliseconds(median, low, high, len(times))


def _images(model: nn.Module, batch: int, *sizes: Size) -> list[Tensor]:
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 3, *size, generator=generator).to(device) for size in sizes]


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _plain_transformers() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
