from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geodtr_lib.errors import ConfigError, GeoDTRError
from geodtr_lib.evaluation import products, ranking, ranks, screening, top_k
from geodtr_lib.evaluation.products import Screening
from geodtr_lib.evaluation.screening import count_above
from geodtr_lib.evaluation.similarity import largest_similarity, pair_similarity, similarity


def unit(seed: int, n: int, d: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def by_loop(query: Tensor, gallery: Tensor, positive: Tensor, strict: bool) -> list[int]:
    found = []
    for row, index in zip(query.double(), positive.tolist(), strict=True):
        similarities = [(row * item).sum().item() for item in gallery.double()]
        here = similarities[index]
        before = [value > here + 1e-13 if strict else value >= here - 1e-13 for value in similarities]
        found.append(sum(value for j, value in enumerate(before) if j != index))
    return found


@pytest.mark.parametrize("ties", ["against", "strict"])
@pytest.mark.parametrize("quick", [True, False])
def test_ranks_equal_a_double_loop(ties: str, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not quick:  # float32 products are not to be relied on
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    gallery = unit(0, 40, 6)
    gallery[10:20] = gallery[30:40]  # exact ties
    query = F.normalize(gallery[:25] + 0.8 * unit(1, 25, 6), dim=1)
    positive = torch.randperm(40, generator=torch.Generator().manual_seed(2))[:25]
    assert ranks(query, gallery, positive, ties, block=7).tolist() == by_loop(query, gallery, positive, ties == "strict")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), m=st.integers(1, 40), d=st.integers(1, 20), block=st.integers(1, 50))
def test_ranks_do_not_depend_on_the_block(seed: int, n: int, m: int, d: int, block: int) -> None:
    # Few distinct embeddings: every query has ties.
    distinct = unit(seed, 5, d)
    random = np.random.default_rng(seed)
    query, gallery = distinct[random.integers(0, 5, n)], distinct[random.integers(0, 5, m)]
    positive = random.integers(0, m, n)
    for ties in ("against", "strict"):
        assert torch.equal(ranks(query, gallery, positive, ties, block), ranks(query, gallery, positive, ties))
    assert (ranks(query, gallery, positive, "strict") <= ranks(query, gallery, positive, "against")).all()


def test_a_collapsed_model_ranks_last_or_first() -> None:
    same = unit(0, 1, 96).expand(301, 96)
    positive = np.arange(301)
    assert ranks(same, same, positive, "against", block=100).tolist() == [300] * 301
    assert ranks(same, same, positive, "strict", block=100).tolist() == [0] * 301


def test_repeated_references_tie() -> None:
    gallery = unit(0, 200, 32)
    gallery[100:] = gallery[:100]
    query = gallery[:100]
    assert ranks(query, gallery, torch.arange(100), "against").tolist() == [1] * 100
    assert ranks(query, gallery, torch.arange(100), "strict").tolist() == [0] * 100


def test_similarities_that_float32_cannot_tell_apart_are_ordered() -> None:
    steps = 1.0 - 1e-9 * torch.arange(50, dtype=torch.float64)
    # Embeddings of float64 themselves, and embeddings of float32 whose products differ below float32's resolution.
    wide = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.stack([steps, torch.zeros(50, dtype=torch.float64)], dim=1)
    narrow = torch.tensor([[1.0, 1e-9]]), torch.stack([torch.ones(50), -torch.arange(50.0)], dim=1)
    for query, gallery in (wide, narrow):
        for place in (0, 17, 49):
            for ties in ("against", "strict"):
                assert ranks(query, gallery, [place], ties).tolist() == [place]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_dtype_ranks_as_its_exact_values_do(dtype: torch.dtype) -> None:
    gallery = unit(0, 500, 64).to(dtype)
    query = F.normalize(gallery.float() + 2 * unit(1, 500, 64), dim=1).to(dtype)
    similarities = query.double() @ gallery.double().T
    expected = (similarities > similarities.diagonal()[:, None] + 1e-13).sum(1)
    assert torch.equal(ranks(query, gallery, torch.arange(500), "strict", block=128), expected)


def test_a_memory_mapped_half_precision_gallery(tmp_path: Path) -> None:
    gallery = unit(0, 300, 48).half().numpy()
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    query = unit(1, 20, 48)
    positive = np.arange(20) * 7
    assert torch.equal(ranks(query, mapped, positive, block=64), ranks(query, torch.from_numpy(gallery), positive))


def test_quick_and_float64_counts_agree_on_embeddings_of_real_length(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = unit(0, 1500, 768)
    query = F.normalize(gallery[:300] + 20 * unit(1, 300, 768), dim=1)  # positives among the bulk: many near misses
    quick = ranks(query, gallery, torch.arange(300))
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert torch.equal(quick, ranks(query, gallery, torch.arange(300)))
    assert quick.float().median() > 10


def test_top_k_equals_a_full_sort() -> None:
    query, gallery = unit(0, 30, 16), unit(1, 100, 16)
    similarities, indices = top_k(query, gallery, 7, block=13)
    full = (query.double() @ gallery.double().T).sort(dim=1, descending=True)
    assert torch.equal(indices, full.indices[:, :7])
    assert torch.allclose(similarities, full.values[:, :7])
    assert top_k(query, gallery[:4], 10)[1].shape == (30, 4)


def test_similarity_of_chosen_candidates() -> None:
    query, gallery = unit(0, 9, 16), unit(1, 20, 16)
    candidates = torch.randint(0, 20, (9, 4), generator=torch.Generator().manual_seed(0))
    expected = (query.double() @ gallery.double().T).gather(1, candidates)
    assert torch.allclose(similarity(query, gallery, candidates), expected)


def test_what_does_not_fit_is_refused() -> None:
    query, gallery = unit(0, 5, 8), unit(1, 6, 8)
    with pytest.raises(ConfigError, match="'lenient' is not known; allowed: against, strict"):
        ranks(query, gallery, torch.arange(5), "lenient")
    with pytest.raises(ValueError, match="do not fit"):
        ranks(query, gallery, torch.arange(4))
    with pytest.raises(ValueError, match="do not fit"):
        ranks(query, gallery[:, :7], torch.arange(5))
    with pytest.raises(ValueError, match="from 2 to 6, but the gallery has 6"):
        ranks(query, gallery, torch.arange(2, 7))
    with pytest.raises(ValueError, match="from -1 to 3"):
        ranks(query, gallery, torch.arange(-1, 4))


@pytest.mark.parametrize("which", ["query", "gallery"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_of_a_diverged_model_are_refused(which: str, value: float) -> None:
    embeddings = {"query": unit(0, 5, 8), "gallery": unit(1, 6, 8)}
    embeddings[which][2, 3] = value
    with pytest.raises(GeoDTRError, match=f"1 of . {which} embeddings are not finite"):
        ranks(embeddings["query"], embeddings["gallery"], torch.arange(5))


@pytest.mark.parametrize("chosen", ["fp32", "half"])
def test_few_comparisons_are_left_open(chosen: Screening, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else evaluation would cost more than its one matrix product."""
    gallery = unit(0, 2000, 512)
    query = F.normalize(gallery + 3 * unit(1, 2000, 512), dim=1)
    seen: list[int] = []

    def counted(rows: Tensor, items: Tensor, owner: Tensor, reference: Tensor) -> Tensor:
        seen.append(len(owner))
        return pair_similarity(rows, items, owner, reference)

    monkeypatch.setattr(screening, "pair_similarity", counted)
    ranks(query, gallery, torch.arange(2000), screening=chosen)
    assert sum(seen) < {"fp32": 200, "half": 20_000}[chosen]  # of four million; the positives themselves are none of them


def near_ties(seed: int, n: int, m: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries whose positive has rivals at every distance: copies, and neighbours that float32 or half precision do not tell apart."""
    generator = torch.Generator().manual_seed(seed)
    gallery = unit(seed, m, d)
    positive = torch.randint(0, m // 8, (n,), generator=generator)
    for place in range(m // 8, m):
        step = 10.0 ** -float(torch.randint(1, 9, (), generator=generator))
        gallery[place] = gallery[place % (m // 8)] + step * gallery[place] * (place % 3 > 0)
    query = F.normalize(gallery[positive] + 0.5 * torch.randn(n, d, generator=generator) / d**0.5, dim=1)
    return query, gallery, positive


def by_exact_loop(query: Tensor, gallery: Tensor, positive: Tensor, strict: bool) -> list[int]:
    """Sums without rounding; similarities within float64 rounding of the positive's tie."""
    found = []
    longest = gallery.double().norm(dim=1).max().item()
    for row, index in zip(query.double(), positive.tolist(), strict=True):
        similarities = [math.fsum(products) for products in (row * gallery.double()).tolist()]
        rounding = max(1e-30, row.norm().item() * longest * query.shape[1] * 2.0**-52)
        bound = similarities[index] + (rounding if strict else -rounding)
        found.append(sum(value > bound for j, value in enumerate(similarities) if j != index))
    return found


@pytest.mark.parametrize("ties", ["against", "strict"])
@pytest.mark.parametrize("chosen", ["fp32", "half"])
@pytest.mark.parametrize("wait", [True, False])
def test_near_ties_rank_as_exact_sums_do(ties: str, chosen: Screening, wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "count_above", partial(count_above, wait=wait))
    for seed, scale in ((0, 1.0), (1, 1e-6), (2, 1e6)):
        query, gallery, positive = near_ties(seed, 30, 160, 24)
        expected = by_exact_loop(scale * query, scale * gallery, positive, ties == "strict")
        assert ranks(scale * query, scale * gallery, positive, ties, 64, chosen).tolist() == expected
        assert len(set(expected)) >= 5


@pytest.mark.parametrize("chosen", ["fp32", "half"])
@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("noise", [0.0, 4.0, 25.0])
def test_every_screening_gives_the_ranks_of_float64(chosen: Screening, wait: bool, noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the positive is in the bulk, and half precision settles next to nothing."""
    gallery = unit(0, 700, 256)
    query = F.normalize(gallery[:400] + noise * unit(1, 400, 256), dim=1)
    expected = ranks(query.double(), gallery.double(), torch.arange(400))
    monkeypatch.setattr(ranking, "count_above", partial(count_above, wait=wait))
    assert torch.equal(ranks(query, gallery, torch.arange(400), block=300, screening=chosen), expected)


@pytest.mark.parametrize("chosen", ["fp32", "half"])
@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e-12, 1e22])
def test_equal_embeddings_tie_at_any_length(chosen: Screening, wait: bool, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "count_above", partial(count_above, wait=wait))
    same = torch.full((50, 33), value)
    assert ranks(same, same, torch.arange(50), "against", 20, chosen).tolist() == [49] * 50
    assert ranks(same, same, torch.arange(50), "strict", 20, chosen).tolist() == [0] * 50


def test_the_layout_in_memory_does_not_matter(tmp_path: Path) -> None:
    query, gallery, positive = near_ties(0, 40, 160, 32)
    expected = ranks(query, gallery, positive, block=50)
    np.save(tmp_path / "gallery.npy", gallery.numpy())
    every_second = torch.stack([gallery, torch.zeros_like(gallery)], dim=1).view(320, 32)[::2]
    reversed_view = gallery.numpy()[::-1].copy()[::-1]
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    for stored in (gallery.T.contiguous().T, every_second, reversed_view, mapped, np.asfortranarray(gallery.numpy())):
        for chosen in ("fp32", "half"):
            assert torch.equal(ranks(query, stored, positive, block=50, screening=chosen), expected)
            assert torch.equal(top_k(query, stored, 9, block=50, screening=chosen)[1], top_k(query, gallery, 9)[1])


def test_a_float16_gallery_ranks_as_the_float32_one_where_nothing_is_near_a_tie() -> None:
    gallery = unit(0, 1200, 96)
    query = F.normalize(gallery[:600] + 3 * unit(1, 600, 96), dim=1)
    similarities = query.double() @ gallery.double().T
    gap = (similarities - similarities.diagonal()[:, None]).abs()
    gap.diagonal().fill_(torch.inf)
    lost = (gallery.double() - gallery.half().double()).norm(dim=1)
    apart = (gap > 2 * lost.max()).all(1)  # two similarities of a unit query move by at most this against each other
    assert 100 < apart.sum() < 600
    stored = ranks(query, gallery.half(), torch.arange(600))
    assert torch.equal(stored[apart], ranks(query, gallery, torch.arange(600))[apart])
    assert torch.equal(stored, ranks(query, gallery.half(), torch.arange(600), screening="half"))


@pytest.mark.parametrize("chosen", ["fp32", "half"])
@pytest.mark.parametrize("kind", ["random", "equal numbers", "positive numbers", "float16"])
def test_products_stay_within_the_slack_allowed_to_them(chosen: Screening, kind: str) -> None:
    query, gallery = unit(0, 300, 3072), unit(1, 200, 3072)
    if kind == "equal numbers":  # each addition may round the same way
        query, gallery = (torch.linspace(a, 1, n)[:, None].expand(n, 3072) for a, n in ((0.3, 300), (0.7, 200)))
    elif kind == "positive numbers":
        query, gallery = query.abs(), gallery.abs()
    elif kind == "float16":
        query = query.half()
    largest = largest_similarity(query, gallery)
    screen = products.screens_for(query, gallery, largest, torch.device("cpu"), chosen)[0]
    assert screen.dtype == {"fp32": torch.float32, "half": torch.bfloat16}[chosen]
    product = products.multiply(query, gallery, screen.dtype, products.Workspace())
    exact = query.double() @ gallery.double().T
    low, high = products.limits_of(exact.flatten(), screen.slack.repeat_interleave(200), product.dtype)
    assert (product.flatten() >= low).all()
    assert (product.flatten() <= high).all()
    assert (screen.slack < 0.006 * largest).all()


def test_float32_products_of_unknown_precision_are_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = unit(0, 5, 8), unit(1, 6, 8)
    largest = largest_similarity(query, gallery)

    def dtypes(chosen: Screening) -> list[torch.dtype]:
        return [screen.dtype for screen in products.screens_for(query, gallery, largest, torch.device("cpu"), chosen)]

    assert dtypes("fp32") == [torch.float32, torch.float64]
    assert dtypes("half") == [torch.bfloat16, torch.float32, torch.float64]
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert dtypes("fp32") == dtypes("half") == [torch.bfloat16, torch.float64]
    with pytest.raises(ConfigError, match="screening: 'fp8' is not known; allowed: fp32, half"):
        dtypes("fp8")  # type: ignore[arg-type]


@pytest.mark.parametrize("chosen", ["fp32", "half"])
@pytest.mark.parametrize("k", [1, 7, 60, 1000])
def test_top_k_orders_near_ties_exactly_and_ties_by_index(chosen: Screening, k: int) -> None:
    query, gallery, _ = near_ties(3, 40, 240, 24)
    exact = (query.double()[:, None] * gallery.double()).sum(2).sort(dim=1, descending=True, stable=True)
    for block in (50, 4096):
        similarities, indices = top_k(query, gallery, k, block, chosen)
        assert torch.equal(indices, exact.indices[:, :k])
        assert torch.allclose(similarities, exact.values[:, :k], rtol=0, atol=1e-14)


@pytest.mark.parametrize("chosen", ["fp32", "half"])
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_top_k_of_a_collapsed_model_is_the_first_of_the_gallery(chosen: Screening, value: float) -> None:
    gallery = torch.full((300, 20), value)
    gallery[200] = 0.3  # one that is nearer, and one that is farther
    gallery[0] = -0.1
    query = torch.full((70, 20), 0.1)
    for block in (64, 4096):
        assert top_k(query, gallery, 5, block, chosen)[1].tolist() == [[200, 1, 2, 3, 4]] * 70
    assert top_k(query[:0], gallery, 5)[1].shape == (0, 5)


def test_top_k_refuses_what_it_cannot_order() -> None:
    query, gallery = unit(0, 5, 8), unit(1, 6, 8)
    with pytest.raises(ValueError, match="do not fit"):
        top_k(query, gallery[:, :7], 2)
    gallery[2, 3] = torch.nan
    with pytest.raises(GeoDTRError, match="1 of 6 gallery embeddings are not finite"):
        top_k(query, gallery, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_ranks_on_a_gpu_are_those_on_the_cpu() -> None:
    gallery = unit(0, 3000, 256)
    query = F.normalize(gallery + 4 * unit(1, 3000, 256), dim=1)
    positive = torch.arange(3000)
    expected = ranks(query, gallery.half(), positive)
    nearest = top_k(query, gallery.half(), 5)[1]
    for chosen in ("fp32", "half"):
        assert torch.equal(ranks(query.cuda(), gallery.half(), positive, screening=chosen), expected)
        assert torch.equal(top_k(query.cuda(), gallery.half(), 5, screening=chosen)[1], nearest)
