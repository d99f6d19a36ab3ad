"""What the benchmarks share: interleaved repetitions, medians, the machine's name, and a JSON file of the result."""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from geodtr_lib import data
from geodtr_lib.files import write_json
from geodtr_lib.machine import versions

RESULTS = Path(__file__).parent / "results"


def arguments(document: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark has."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7, help="of each measurement; the median counts")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    parser.add_argument("--json", type=Path, help="also write the result there; benchmarks/page.py makes a page of such files")
    return parser


def seconds(measured: Mapping[str, Callable[[], Any]], repetitions: int, device: str = "cpu", warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each function in each repetition. They take turns, so that what slows the machine for a while slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in measured}
    for repetition in range(-warm, repetitions):
        for name, function in measured.items():
            _wait(device)
            began = time.perf_counter()
            function()
            _wait(device)
            if repetition >= 0:
                times[name].append(time.perf_counter() - began)
    return times


def ratio(times: Mapping[str, list[float]], first: str, second: str) -> float:
    """Median over the repetitions of how much longer ``first`` took than ``second`` beside it."""
    return statistics.median(a / b for a, b in zip(times[first], times[second], strict=True))


def median(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Median seconds of each."""
    return {name: statistics.median(values) for name, values in times.items()}


def peak_gb() -> float:
    """The most memory that this process has held, in GB."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9


def finish(name: str, what: Mapping[str, Any], rows: list[dict[str, Any]], path: Path | None) -> None:
    """Print the rows, and write them with the machine to a file.

    Args:
        name: of the benchmark.
        what: sizes and settings.
        rows: ``figure``, ``value``, and where there is one ``bound`` (such as ">= 0.9").
    """
    found = versions()
    print(f"{name}: {', '.join(f'{key} {value}' for key, value in what.items())}")
    print(f"{found['machine']}; torch {found['torch']}; commit {found['commit']}")
    for row in rows:
        bound = f"   (asked: {row['bound']})" if row.get("bound") else ""
        print(f"  {row['figure']:<70} {row['value']:>10.3g}{bound}")
    if path:
        store(name, what, rows, path)


def store(name: str, what: Mapping[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """Write a result for benchmarks/page.py; the arguments are those of :func:`finish`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"schema": 1, "benchmark": name, "settings": dict(what), "versions": versions(), "rows": rows})


@contextmanager
def cvusa_of_renders(n: int) -> Iterator[Path]:
    """A CVUSA tree of n training pairs: JPEG files of the owners' sizes, with rendered streets in them."""
    places = data.open_dataset("city", area="midrise", split="test", n=min(n, 32), ground_size=(224, 1232), tile_size=256, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = []
        for i in range(n):
            name = f"{i + 1:07d}"
            rows.append(f"bingmap/19/{name}.jpg,streetview/panos/{name}.jpg,streetview/annotations/{name}.png")
            noise = np.random.default_rng(i).integers(-6, 7, (750, 750, 3))  # files as long as photographs', and none like another
            tile = Image.fromarray(places.aerial([i % len(places)])[0].permute(1, 2, 0).numpy())
            tile = tile.resize((750, 750), Image.Resampling.BICUBIC)
            tile = Image.fromarray((np.asarray(tile).astype(int) + noise).clip(0, 255).astype(np.uint8))
            panorama = Image.fromarray(places.ground([i % len(places)])[0].permute(1, 2, 0).numpy())
            for image, path in ((tile, root / "bingmap" / "19" / f"{name}.jpg"), (panorama, root / "streetview" / "panos" / f"{name}.jpg")):
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, quality=92)
        for split in ("train", "val"):
            path = root / "splits" / f"{split}-19zl.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(rows) + "\n")
        yield root


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
