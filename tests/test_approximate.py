from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geodtr_lib.errors import ConfigError
from geodtr_lib.evaluation import ranks, top_k
from geodtr_lib.evaluation.approximate import HNSW, IVF, ApproximateIndex, compare_with_exact


def unit(seed: int, n: int, d: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_without_faiss_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"needs FAISS, which is not installed: pip install 'geodtr-lib\[faiss\]'"):
        ApproximateIndex(unit(0, 20, 4), HNSW())


def test_the_library_does_not_import_faiss() -> None:
    code = "import sys, geodtr_lib.evaluation.approximate; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestWithFaiss:
    @pytest.fixture(autouse=True)
    def _faiss(self) -> None:
        pytest.importorskip("faiss", reason="FAISS is not installed (the extra 'faiss')")

    @pytest.mark.parametrize("method", [IVF(lists=8, probes=8), HNSW(neighbours=32, construction=300, search=300)])
    def test_a_search_of_everything_is_the_exact_search(self, method: HNSW | IVF) -> None:
        gallery = unit(0, 300, 24)
        query = F.normalize(gallery[:90] + 1.5 * unit(1, 90, 24), dim=1)
        index = ApproximateIndex(gallery, method)
        for found, exact in zip(index.search(query, 12), top_k(query, gallery, 12), strict=True):
            assert torch.equal(found, exact)
        compared = compare_with_exact(index, query, torch.arange(90), k=12)
        rank = ranks(query, gallery, torch.arange(90))
        assert compared["neighbour_recall"] == 1
        for k in (1, 5, 10):
            assert compared[f"r{k}"] == compared[f"exact_r{k}"] == (rank < k).double().mean()
        assert 0 < compared["r1"] < 1

    def test_less_searching_finds_less_and_says_so(self) -> None:
        gallery = unit(0, 2000, 32)
        query = F.normalize(gallery[:200] + unit(1, 200, 32), dim=1)
        recalls = [compare_with_exact(ApproximateIndex(gallery, IVF(64, probes)), query, torch.arange(200)) for probes in (1, 8, 64)]
        shares = [found["neighbour_recall"] for found in recalls]
        assert 0 < shares[0] < shares[1] < shares[2] == 1
        assert recalls[0]["r1"] < recalls[2]["r1"] == recalls[2]["exact_r1"] == recalls[0]["exact_r1"]

    def test_the_share_of_exact_neighbours_by_a_loop(self) -> None:
        gallery, query = unit(0, 500, 16), unit(1, 40, 16)
        index = ApproximateIndex(gallery, IVF(20, 2))
        found, exact = index.search(query, 10)[1], top_k(query, gallery, 10)[1]
        expected = sum(len(set(row.tolist()) & set(right.tolist())) for row, right in zip(found, exact, strict=True)) / 400
        assert compare_with_exact(index, query, torch.arange(40))["neighbour_recall"] == pytest.approx(expected)

    @pytest.mark.parametrize("method", [IVF(16, 2, seed=3), HNSW(8, 40, 16)])
    def test_the_same_gallery_gives_the_same_search(self, method: HNSW | IVF) -> None:
        gallery, query = unit(0, 600, 16), unit(1, 50, 16)
        first, second = (ApproximateIndex(gallery, method).search(query, 10)[1] for _ in range(2))
        assert torch.equal(first, second)

    def test_too_few_found_are_marked(self) -> None:
        gallery = torch.eye(40)
        similarities, indices = ApproximateIndex(gallery, IVF(20, 1)).search(gallery[:5], 30)
        assert (similarities.isinf() == (indices == -1)).all()
        assert (indices[:, -1] == -1).all()
        assert (indices[:, 0] == torch.arange(5)).all()

    def test_a_collapsed_model_is_not_found_unless_ties_are_strict(self) -> None:
        same = unit(0, 1, 8).expand(60, 8).contiguous()
        index = ApproximateIndex(same, IVF(1, 1))
        assert compare_with_exact(index, same, torch.arange(60), k=60)["r10"] == 0
        assert compare_with_exact(index, same, torch.arange(60), k=60, ties="strict")["r1"] == 1

    def test_what_does_not_fit_is_refused(self) -> None:
        gallery = unit(0, 30, 8)
        with pytest.raises(ConfigError, match="lists, probes: 31, 2 do not fit; allowed: probes <= lists <= 30"):
            ApproximateIndex(gallery, IVF(31, 2))
        with pytest.raises(ConfigError, match="neighbours: 0 is not allowed"):
            ApproximateIndex(gallery, HNSW(neighbours=0))
        with pytest.raises(ValueError, match="k = 5"):
            compare_with_exact(ApproximateIndex(gallery, IVF(2, 2)), gallery, torch.arange(30), k=5)
