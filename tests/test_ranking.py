from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geodtr_lib.errors import ConfigError, GeoDTRError
from geodtr_lib.evaluation import ranks, screening, top_k
from geodtr_lib.evaluation.screening import Screening
from geodtr_lib.evaluation.similarity import pair_similarity, similarity


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
    if not quick:  # as on other devices: float64 throughout
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


def test_float32_products_stay_within_the_slack_allowed_to_them() -> None:
    query, gallery = unit(0, 400, 3072), unit(1, 400, 3072)
    gallery[:200] = F.normalize(query[:200] + unit(2, 200, 3072), dim=1)
    error = (query @ gallery.T).double() - query.double() @ gallery.double().T
    assert error.abs().max() < (8 * 3072**0.5 + 4) * 2.0**-24 / 4


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_ranks_on_a_gpu_are_those_on_the_cpu() -> None:
    gallery = unit(0, 3000, 256)
    query = F.normalize(gallery + 4 * unit(1, 3000, 256), dim=1)
    positive = torch.arange(3000)
    assert torch.equal(ranks(query.cuda(), gallery.half(), positive), ranks(query, gallery.half(), positive))
