"""Each stage of a training step alone, as a share of the whole bare step.

    python benchmarks/stages.py                                   paper sizes
    python benchmarks/stages.py --preset small --places 16

Decoding, resizing, polar transform, layouts, semantic augmentation and losses (forward and backward, on embeddings of the model's width),
each on one batch of the sizes that the preset gives them.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from measuring import arguments, cvusa_of_renders, finish, median, ratio, seconds
from training import bare

from geodtr_lib.config import resolve_config
from geodtr_lib.data import open_for
from geodtr_lib.data.augment import semantic_augmentation
from geodtr_lib.data.images import for_each, read_rgb
from geodtr_lib.data.inputs import fit_aerial, fit_ground, normalise, to_unit_range
from geodtr_lib.geometry import apply_layout
from geodtr_lib.losses import counterfactual_loss, weighted_soft_margin_triplet
from geodtr_lib.sampling import draw_layouts, policy_named
from geodtr_lib.trainer import Trainer
from geodtr_lib.training import resolve_machine

OUR_OWN = ("polar transform", "layouts", "semantic augmentation", "losses")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--preset", choices=("small", "paper"), default="paper")
    parser.add_argument("--places", type=int, default=4, help="per step; CHSG makes two views of each")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        values: dict[str, Any] = {"batch_size": chosen.places, "device": chosen.device}
        files: list[str] = []
        if chosen.preset == "paper":
            root = stack.enter_context(cvusa_of_renders(max(64, 2 * chosen.places)))
            values |= {"dataset": "cvusa", "data_root": str(root), "pretrained": False}
            files = [str(path) for path in sorted(root.rglob("*.jpg"))]
            files = files[: chosen.places] + files[-chosen.places :]  # tiles and panoramas
        config = resolve_machine(resolve_config(chosen.preset, **values))
        trainer = Trainer(config, open_for(config, config.train_area, "train"))
        trainer.model.train()
        device, views = trainer.device, 2 * chosen.places
        rows = np.arange(chosen.places)
        tiles, panoramas = trainer.data.aerial(rows).to(device), trainer.data.ground(rows).to(device)
        unrolled = fit_aerial(tiles, config.aerial_size, config.polar)
        floats = to_unit_range(unrolled).repeat(2, 1, 1, 1)
        flip, turns = (values.flatten() for values in draw_layouts(policy_named("L+S"), chosen.places, torch.Generator().manual_seed(0)))
        width = trainer.model(*trainer.views(trainer.batches(0)[0], 0, 0)).aerial.shape[1]
        unit = [torch.nn.functional.normalize(torch.randn(views, width, device=device), dim=1).requires_grad_() for _ in range(4)]
        generator = torch.Generator()

        def losses() -> None:
            loss = weighted_soft_margin_triplet(unit[0], unit[1])
            (loss + counterfactual_loss(unit[0], unit[2]) + counterfactual_loss(unit[1], unit[3])).backward()

        measured = {
            "bare": bare(trainer, 1),
            "polar transform": lambda: fit_aerial(tiles, config.aerial_size, config.polar),
            "resize": lambda: fit_ground(panoramas, (config.ground_size[0], config.ground_size[1] - 1)),
            "layouts": lambda: apply_layout(floats, floats, flip, turns, config.polar),
            "semantic augmentation": lambda: [semantic_augmentation(floats, config.semantic, generator) for _ in range(2)],
            "normalisation": lambda: [normalise(floats.clone(), config.normalisation) for _ in range(2)],
            "losses": losses,
        }
        if files:
            measured["decode"] = lambda: for_each(read_rgb, files)
        with trainer.settings():
            times = seconds(measured, chosen.repetitions, chosen.device, warm=2)
    bound = "<= 0.05" if chosen.device == "cuda" else "<= 0.08" if chosen.preset == "paper" else ""
    shares = {name: ratio(times, name, "bare") for name in measured if name != "bare"}
    together = sum(shares[name] for name in OUR_OWN)
    found = [{"figure": "polar + layouts + semantic + losses, share of the bare step", "value": together, "bound": bound}]
    found += [{"figure": f"{name}, share of the bare step", "value": share} for name, share in shares.items()]
    found.append({"figure": "bare step, seconds", "value": median(times)["bare"]})
    settings = {
        "preset": chosen.preset, "places": chosen.places, "views": views, "precision": config.precision, "backbone": config.backbone,
        "repetitions": chosen.repetitions, "device": chosen.device,
    }  # fmt: skip
    finish(f"stages-{chosen.preset}", settings, found, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
