"""The training objective (Eq. 7) and its gradients, on one device or with one CPU core for each view.

The two branches share nothing but the contrastive loss. On a CPU a small batch leaves most of a second core idle inside each operation;
giving each branch a core of its own uses both. The gradients are the same: the contrast is differentiated with respect to the two
embeddings first, and each branch then continues on its core.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from geodtr_lib import losses
from geodtr_lib.config import RunConfig

Parts = dict[str, Tensor]


def autocast(device: torch.device, precision: str) -> Any:
    """bf16 autocast, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def contrast(aerial: Tensor, ground: Tensor, config: RunConfig) -> Tensor:
    """The contrastive loss that the configuration names, of embeddings B x D."""
    if config.loss == "triplet":
        return losses.weighted_soft_margin_triplet(aerial, ground, config.alpha)
    return losses.info_nce(aerial, ground, config.temperature)


def backward(model: Any, aerial: Tensor, ground: Tensor, config: RunConfig, generators: tuple[torch.Generator, torch.Generator]) -> Parts:
    """Losses of one batch; leaves the gradients in the model's parameters.

    Args:
        aerial, ground: B x 3 x H x W; row i of both is one pair (CHSG twins are rows of their own).
        generators: of the counterfactual descriptors of the aerial and of the ground view.

    Returns:
        ``loss``, the sum that is minimised, and its parts ``triplet_loss`` and ``counterfactual_loss``.
    """
    with autocast(aerial.device, config.precision):
        out = model(aerial, ground)
        contrastive = contrast(out.aerial, out.ground, config)
        counterfactual = contrastive.new_zeros(())
        if config.counterfactual_weight:
            views = ((out.aerial, out.aerial_features), (out.ground, out.ground_features))
            for (embedding, features), generator in zip(views, generators, strict=True):
                imaginary = model.counterfactual(features, generator)
                counterfactual = counterfactual + 0.5 * losses.counterfactual_loss(embedding, imaginary, config.beta)
        loss = contrastive + config.counterfactual_weight * counterfactual
    loss.backward()
    return {"loss": loss.detach(), "triplet_loss": contrastive.detach(), "counterfactual_loss": counterfactual.detach()}


class TwoCores:
    """:func:`backward` with one core for each branch, for models that have ``describe_aerial`` and ``describe_ground``."""

    def __init__(self) -> None:
        # Threads of their own, since the number of threads inside an operation is a property of the thread that calls it.
        self._cores = [ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) for _ in range(2)]

    def close(self) -> None:
        """End the two threads."""
        for core in self._cores:
            core.shutdown()

    def backward(
        self, model: Any, aerial: Tensor, ground: Tensor, config: RunConfig, generators: tuple[torch.Generator, torch.Generator]
    ) -> Parts:
        """As the function of this name."""

        def forward(describe: Any, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            with autocast(images.device, config.precision):
                view = describe(images)
                if not config.counterfactual_weight:
                    return view.embedding, view.embedding.new_zeros(())
                imaginary = model.counterfactual(view.features, generator)
                return view.embedding, 0.5 * losses.counterfactual_loss(view.embedding, imaginary, config.beta)

        describes = (model.describe_aerial, model.describe_ground)
        tasks = zip(self._cores, describes, (aerial, ground), generators, strict=True)
        views = [task.result() for task in [core.submit(forward, *arguments) for core, *arguments in tasks]]
        leaves = [embedding.detach().requires_grad_() for embedding, _ in views]
        contrastive = contrast(leaves[0], leaves[1], config)
        gradients = torch.autograd.grad(contrastive, leaves)

        def continue_backward(view: tuple[Tensor, Tensor], gradient: Tensor) -> None:
            embedding, counterfactual = view
            if counterfactual.requires_grad:
                weight = torch.full_like(counterfactual, config.counterfactual_weight)
                torch.autograd.backward([embedding, counterfactual], [gradient, weight])
            else:
                embedding.backward(gradient)

        for task in [core.submit(continue_backward, view, part) for core, view, part in zip(self._cores, views, gradients, strict=True)]:
            task.result()
        counterfactual = views[0][1].detach() + views[1][1].detach()
        contrastive = contrastive.detach()
        loss = contrastive + config.counterfactual_weight * counterfactual
        return {"loss": loss, "triplet_loss": contrastive, "counterfactual_loss": counterfactual}
