"""Training from data to weights, against the bare step of the model.

    python benchmarks/training.py                                    the small preset, embedded data
    python benchmarks/training.py --preset paper --places 4          the paper's sizes, real JPEG files on disk
    python benchmarks/training.py --preset paper --places 32 --device cuda --steps 20

The bare step is forward, backward and optimiser on random tensors that lie on the device: what the two backbones, the layout extractors and
the loss cost. End to end, every step reads its images, makes its views (polar transform, layouts, semantic augmentation), computes
its learning rate and clips its gradients. They take turns, step block by step block.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from measuring import arguments, cvusa_of_renders, finish, median, peak_gb, ratio, seconds
from torch import Tensor

from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.data import open_for
from geodtr_lib.objective import backward
from geodtr_lib.trainer import Trainer
from geodtr_lib.training import resolve_machine


def end_to_end(trainer: Trainer, steps: int) -> Callable[[], None]:
    """So many steps as :func:`geodtr_lib.run` makes them, epoch after epoch."""

    def endless() -> Iterator[None]:
        for epoch in itertools.count():
            batches = trainer.batches(epoch)
            for step, (aerial, ground) in trainer.epoch_views(batches, epoch):
                trainer.train_step(aerial, ground, 0, step)
                yield

    running = endless()
    return lambda: [next(running) for _ in range(steps)] and None


def bare(trainer: Trainer, steps: int) -> Callable[[], None]:
    """So many steps of the model alone, on tensors of the sizes that the trainer's views have."""
    images = [torch.randn_like(view) for view in trainer.views(trainer.batches(0)[0], 0, 0)]
    where = "cuda" if trainer.device.type == "cuda" else "cpu"
    draws = (torch.Generator(where), torch.Generator(where))

    def run() -> None:
        for _ in range(steps):
            trainer.optimizer.zero_grad(set_to_none=True)
            trainer.backward(trainer.forward, images[0], images[1], trainer.config, draws)
            trainer.optimizer.step()

    return run


def views_alone(trainer: Trainer, steps: int) -> Callable[[], list[tuple[Tensor, Tensor]]]:
    """Reading the images and making the views, with nothing beside it."""
    batches = trainer.batches(0)
    return lambda: [trainer.views(batches[step % len(batches)], 0, step) for step in range(steps)]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--preset", choices=("small", "paper"), default="small")
    parser.add_argument("--places", type=int, default=0, help="per step; 0 = the preset's")
    parser.add_argument("--steps", type=int, default=0, help="per repetition; 0 = 30 for small, 1 for paper")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--compare-precision", action="store_true", help="also the step in fp32, eager, against the step in bf16")
    parser.add_argument("--profile", type=Path, help="write torch's profile of one more repetition there; both branches on one thread")
    chosen = parser.parse_args()
    small = chosen.preset == "small"
    steps = chosen.steps or (30 if small else 1)
    with ExitStack() as stack:
        values: dict[str, Any] = {"precision": chosen.precision, "device": chosen.device}
        if chosen.places:
            values["batch_size"] = chosen.places
        if not small:
            places = values.get("batch_size", 32)
            root = stack.enter_context(cvusa_of_renders(max(64, 2 * places)))
            values |= {"dataset": "cvusa", "data_root": str(root), "pretrained": False}
        config = resolve_machine(resolve_config(chosen.preset, **values))
        data = open_for(config, config.train_area, "train")

        def trainer(**other: Any) -> Trainer:
            made = Trainer(RunConfig(**{**config.to_dict(), **other}), data)
            made.model.train()
            return made

        others = {"sampling": "LS", "batch_size": 2 * config.batch_size}
        # Where a model's memory comes to lie makes a few percent. So each has two models, made in opposite order.
        chsg, plain, plain_again, chsg_again = trainer(sampling="L+S"), trainer(**others), trainer(**others), trainer(sampling="L+S")
        measured: dict[str, Callable[[], Any]] = {
            "end to end": end_to_end(chsg, steps),
            "bare": bare(chsg, steps),
            "plain": end_to_end(plain, steps),
            "plain again": end_to_end(plain_again, steps),
            "end to end again": end_to_end(chsg_again, steps),
            "bare again": bare(chsg_again, steps),
            "views": views_alone(chsg, steps),
        }
        if chosen.compare_precision:
            measured["fp32"] = bare(trainer(precision="fp32", compile=False), steps)
            measured["bf16"] = bare(trainer(precision="bf16"), steps)
        with chsg.settings():
            times = seconds(measured, chosen.repetitions, chosen.device)
            if chosen.profile:
                chsg.backward = backward  # the profiler does not see other threads
                write_profile(measured["end to end"], chosen.profile, chosen.device)
    pairs = steps * config.batch_size
    middle = median(times)
    chsg_share = math.sqrt(ratio(times, "end to end", "plain") * ratio(times, "end to end again", "plain again"))
    end_to_end_share = 1 / math.sqrt(ratio(times, "end to end", "bare") * ratio(times, "end to end again", "bare again"))
    rows = [
        {"figure": "end to end, pairs/s over those of the bare step", "value": end_to_end_share, "bound": ">= 0.90"},
        {"figure": "CHSG's step over a plain step with as many views", "value": chsg_share, "bound": "<= 1.03"},
        {"figure": "reading and making views alone, share of the bare step", "value": ratio(times, "views", "bare")},
        {"figure": "places/s end to end", "value": pairs / middle["end to end"]},
        {"figure": "places/s of the bare step", "value": pairs / middle["bare"]},
        {"figure": "peak memory of this process, GB", "value": peak_gb()},
    ]
    if chosen.compare_precision:
        bound = ">= 1.7" if not small and chosen.device == "cpu" else ">= 3" if chosen.device == "cuda" else ""
        rows.append({"figure": "bf16 step, times as fast as the fp32 step", "value": ratio(times, "fp32", "bf16"), "bound": bound})
    settings = {
        "preset": chosen.preset, "places": config.batch_size, "views": 2 * config.batch_size, "precision": config.precision,
        "backbone": config.backbone, "compiled": config.compile, "steps": steps, "repetitions": chosen.repetitions, "device": chosen.device,
    }  # fmt: skip
    finish(f"training-{chosen.preset}", settings, rows, chosen.json)
    return 0


def write_profile(function: Callable[[], Any], path: Path, device: str) -> None:
    """torch.profiler's table of one more repetition, by time spent in each operation itself."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.startswith("cuda"):
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        function()
    order = "self_cuda_time_total" if device.startswith("cuda") else "self_cpu_time_total"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(profile.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60) + "\n")


if __name__ == "__main__":
    sys.exit(main())
