"""Evaluation against one bare matrix product of the same size.

    python benchmarks/evaluation.py [--n 8884] [--gallery 8884] [--dimension 3072] [--repetitions 5] [--json FILE]
    python benchmarks/evaluation.py --device cuda --n 92802

The bare product is float32, in blocks of the same size, written into one buffer that is used again. Every case and the bare product run in
turn, several times, in one process; a ratio is the median of those within a repetition. On a CPU the processors' time is compared too: it
tells more than the clock where other programs run. Peak memory is that of a process of its own. Embeddings are random: a query is its
reference plus noise of `--noise` times its length (16: the positive is first for a third of 8,884 queries; 0: always). Ends with an error
when the recalls or the nearest items of two screenings differ.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import store

from geodtr_lib.evaluation import retrieval_metrics, top_k
from geodtr_lib.evaluation.products import BLOCK
from geodtr_lib.machine import versions

CASES = {
    "recalls": "recalls, fp32 screening",
    "vigor": "recalls and hit rates of VIGOR, fp32",
    "half": "recalls, half-precision screening",
    "float16": "recalls, gallery stored in float16",
    "top_k": "ten nearest, fp32 screening",
    "top_k half": "ten nearest, half-precision screening",
}


def embeddings(chosen: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, gallery, positives (N), and three semi-positives of each query (N x 3)."""
    generator = torch.Generator(chosen.device).manual_seed(0)
    size = max(chosen.n, chosen.gallery)
    query, gallery = (torch.empty(n, chosen.dimension, device=chosen.device) for n in (chosen.n, chosen.gallery))
    for start in range(0, size, 1024):
        shape = min(1024, size - start), chosen.dimension
        first, second = (torch.nn.functional.normalize(torch.randn(shape, generator=generator, device=chosen.device)) for _ in range(2))
        if start < chosen.gallery:
            gallery[start : start + 1024] = first[: chosen.gallery - start]
        if start < chosen.n:
            query[start : start + 1024] = torch.nn.functional.normalize(first + chosen.noise * second)[: chosen.n - start]
    positive = torch.arange(chosen.n) % chosen.gallery
    return query, gallery, positive, (positive[:, None] + torch.arange(1, 4)) % chosen.gallery


def bare_product(query: torch.Tensor, gallery: torch.Tensor, buffer: torch.Tensor) -> None:
    """All products of the blocks, and nothing done with them."""
    for items in gallery.split(BLOCK):
        for rows in query.split(BLOCK):
            torch.mm(rows, items.T, out=buffer[: len(rows) * len(items)].view(len(rows), len(items)))


def cases(chosen: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    query, gallery, positive, semi_positive = embeddings(chosen)
    found: dict[str, Callable[[], Any]] = {
        "recalls": lambda: retrieval_metrics(query, gallery, positive),
        "vigor": lambda: retrieval_metrics(query, gallery, positive, "vigor", semi_positive),
        "half": lambda: retrieval_metrics(query, gallery, positive, screening="half"),
        "top_k": lambda: top_k(query, gallery, 10),
        "top_k half": lambda: top_k(query, gallery, 10, screening="half"),
    }
    if "float16" in chosen.cases:
        stored = gallery.half()
        found["float16"] = lambda: retrieval_metrics(query, stored, positive)
    if chosen.peak:
        return found
    buffer = torch.empty(min(BLOCK, chosen.n) * min(BLOCK, chosen.gallery), device=chosen.device)
    return {"bare": lambda: bare_product(query, gallery, buffer), **{name: found[name] for name in chosen.cases}}


def peak_bytes(device: str) -> int:
    """The most memory that this process has held; on a GPU, of the GPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # the usage of resources may still hold the parent's
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(work: Callable[[], Any], device: str) -> tuple[float, float, Any]:
    """Seconds by the clock, seconds of the processors, and the result."""
    if device != "cpu":
        torch.cuda.synchronize(device)
    began, worked = time.perf_counter(), time.process_time()
    result = work()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, time.process_time() - worked, result


def same(results: dict[str, Any]) -> bool:
    """Whether screening changed nothing."""
    recalls = results.get("recalls") == results.get("half") or not {"recalls", "half"} <= results.keys()
    if not {"top_k", "top_k half"} <= results.keys():
        return recalls
    return recalls and all(torch.equal(*pair) for pair in zip(results["top_k"], results["top_k half"], strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=8_884, help="queries")
    parser.add_argument("--gallery", type=int, default=None, help="references; as many as queries unless told")
    parser.add_argument("--dimension", type=int, default=3_072)
    parser.add_argument("--noise", type=float, default=16.0, help="of a query, in lengths of its reference")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--json", type=Path, help="file that the numbers are written to")
    parser.add_argument("--peak", choices=CASES, help="run one case once and print the peak memory in bytes")
    chosen = parser.parse_args()
    chosen.gallery = chosen.gallery or chosen.n
    if chosen.peak:
        chosen.cases = [chosen.peak]
        cases(chosen)[chosen.peak]()
        print(peak_bytes(chosen.device))
        return 0

    machine = versions()
    print(f"{machine['machine']}; torch {machine['torch']}; commit {machine['commit'] or 'unknown'}")
    pairs = f"{chosen.n:,} queries, {chosen.gallery:,} references of {chosen.dimension:,}"
    print(f"{pairs} on {chosen.device}, {chosen.repetitions} repetitions", flush=True)
    # Before this process holds anything.
    size = [f"--{name}={getattr(chosen, name)}" for name in ("n", "gallery", "dimension", "noise", "device")]
    peak = {
        name: int(subprocess.run([sys.executable, __file__, *size, "--peak", name], check=True, capture_output=True, text=True).stdout)
        for name in chosen.cases
    }
    work = cases(chosen)
    results = {name: measured(run, chosen.device)[2] for name, run in work.items()}  # once before, to warm up
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(chosen.repetitions):
        for name, run in work.items():
            seconds[name].append(measured(run, chosen.device)[:2])
    rows = {}
    for name, times in seconds.items():
        clock, processor = zip(*times, strict=True)
        ratio, work_ratio = (statistics.median(own[i] / bare[i] for own, bare in zip(times, seconds["bare"], strict=True)) for i in (0, 1))
        rows[name] = {
            "seconds": statistics.median(clock),
            "ratio": ratio,
            "processor_seconds": statistics.median(processor),
            "processor_ratio": work_ratio,
            "peak_gb": peak[name] / 1e9 if name in peak else None,
        }
    print(f"{'':42}{'seconds':>9}{'ratio':>7}{'CPU s':>8}{'ratio':>7}{'peak GB':>9}")
    for name, row in rows.items():
        held = f"{row['peak_gb']:9.2f}" if row["peak_gb"] is not None else ""
        label = CASES.get(name, "bare blocked product, float32")
        print(f"{label:42}{row['seconds']:9.2f}{row['ratio']:7.2f}{row['processor_seconds']:8.2f}{row['processor_ratio']:7.2f}{held}")
    if "recalls" in results:
        print(f"R@1 {results['recalls']['r1']:.4f}")
    if chosen.json:
        values = {name: value for name, value in vars(chosen).items() if name not in ("json", "peak", "cases")}
        found = []
        for name, row in rows.items():
            if name != "bare":
                bound = "<= 1.25" if name == "recalls" else ""
                found.append({"figure": f"{CASES[name]}, clock over that of the bare product", "value": row["ratio"], "bound": bound})
                found.append({"figure": f"{CASES[name]}, processor's time over that of it", "value": row["processor_ratio"]})
                found.append({"figure": f"{CASES[name]}, peak memory, GB", "value": row["peak_gb"], "bound": "<= 1.5" if bound else ""})
        store("evaluation", values, found, chosen.json)
    if not same(results):
        print("screening changed a result")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
