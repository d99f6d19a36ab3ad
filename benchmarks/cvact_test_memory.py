"""Memory and time of ranking at the size of CVACT_test: 92,802 queries and references of 3,072 numbers.

    python benchmarks/cvact_test_memory.py [--dtype float16] [--stride 20] [--check 50]

Embeddings are random: a query is its reference plus noise. The gallery is made block by block, a strided subset of the queries is ranked,
and a few ranks are compared with brute force. Ends with an error when the process held 4 GB or more.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch

from geodtr_lib.evaluation import ranks, recall_within, retrieval_metrics, top_k

N, D, BLOCK = 92_802, 3_072, 4_096
LIMIT_GB = 4.0


def unit_rows(n: int, generator: torch.Generator) -> torch.Tensor:
    """n x D float32, unit length."""
    return torch.nn.functional.normalize(torch.randn(n, D, generator=generator), dim=1)


def peak_gb() -> float:
    """The most memory that the process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the gallery")
    parser.add_argument("--stride", type=int, default=20, help="every so manieth query is ranked")
    parser.add_argument("--check", type=int, default=50, help="ranks that are compared with brute force")
    parser.add_argument("--noise", type=float, default=16.0, help="of a query, in lengths of its reference")
    chosen = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    gallery = torch.empty(N, D, dtype=getattr(torch, chosen.dtype))
    queries = torch.empty(N, D)  # all of them are held, as in an evaluation
    for start in range(0, N, BLOCK):
        part = unit_rows(min(BLOCK, N - start), generator)
        gallery[start : start + BLOCK] = part
        queries[start : start + BLOCK] = part + chosen.noise * unit_rows(len(part), generator)
    queries /= queries.norm(dim=1, keepdim=True)
    positive = torch.arange(0, N, chosen.stride)
    query = queries[:: chosen.stride]
    position = torch.rand(N, 2, generator=generator, dtype=torch.float64).mul_(5_000).numpy()  # metres
    print(f"{N:,} queries and references of {D:,} ({chosen.dtype}): {peak_gb():.2f} GB; every {chosen.stride}th is ranked")

    began = time.monotonic()
    found = ranks(query, gallery, positive)
    top_k(query, gallery, 1)
    print(f"ranks and nearest of {len(query):,}: {time.monotonic() - began:.0f} s, {peak_gb():.2f} GB")
    began = time.monotonic()
    exact = retrieval_metrics(query, gallery, positive)
    within = recall_within(query, gallery, position[positive.numpy()], position)
    print(f"R@1 {exact['r1']:.4f} exact, {within['r1']:.4f} within 5 m: {time.monotonic() - began:.0f} s, {peak_gb():.2f} GB")

    checked = torch.linspace(0, len(query) - 1, chosen.check).long()
    rows = query[checked].double()
    own = (gallery[positive[checked]].double() * rows).sum(1)
    expected = sum((gallery[start : start + BLOCK].double() @ rows.T > own + 1e-12).sum(0) for start in range(0, N, BLOCK))
    if not torch.equal(found[checked], torch.as_tensor(expected)):
        print(f"ranks {found[checked].tolist()} are not those of brute force, {torch.as_tensor(expected).tolist()}")
        return 1
    print(f"{len(checked)} ranks, 0 to {int(found[checked].max()):,}, are those of brute force; {peak_gb():.2f} of {LIMIT_GB} GB")
    return int(peak_gb() >= LIMIT_GB)


if __name__ == "__main__":
    sys.exit(main())
