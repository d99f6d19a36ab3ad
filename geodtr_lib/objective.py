"""The training objective (Eq. 7, and what other methods add) and its gradients, on one device or with one CPU core for each view.

The two branches share nothing but the contrastive loss. On a CPU a small batch leaves most of a second core idle inside each operation;
giving each branch a core of its own uses both. The gradients are the same: the contrast is differentiated with respect to the two
embeddings first, and each branch then continues on its core.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodtr_lib import losses
from geodtr_lib.config import RunConfig
from geodtr_lib.distributed import ALONE, Ranks
from geodtr_lib.losses_consistency import consistency_loss
from geodtr_lib.losses_highlighting import highlighted_triplet_of
from geodtr_lib.losses_overlap import offset_loss, overlap_loss
from geodtr_lib.shares import AnyGenerator

Parts = dict[str, Tensor]
Generators = tuple[AnyGenerator, AnyGenerator]


@dataclass(frozen=True)
class Beside:
    """What some losses need beside a step's images.

    Attributes:
        flip, turns: V x B, the layouts of the views.
        covering: VB x 3 x H x W, for each row another tile that shows its place.
        offset: VB x 2 x 2, how far north and east of the camera the centres of the positive tile and of that other one lie, in halves
            of a tile's side.
        overlap: VB, the other tile's overlap with a tile around the camera, over the positive's.
        ranks: the processes that the batch is spread over; every other value here is of the rows of this one.
        sizes: rows (VB) of each process; some may be 0.
    """

    flip: Tensor | None = None
    turns: Tensor | None = None
    covering: Tensor | None = None
    offset: Tensor | None = None
    overlap: Tensor | None = None
    ranks: Ranks = ALONE
    sizes: tuple[int, ...] = ()


NOTHING = Beside()


LOSSES = ("loss", "triplet_loss", "counterfactual_loss")
"""What every step gives."""


def loss_names(config: RunConfig) -> tuple[str, ...]:
    """The losses that a step of this configuration gives: their sum, then its parts."""
    others = [f"{name}_loss" for name in ("consistency", "overlap", "offset") if getattr(config, f"{name}_weight")]
    return (*LOSSES, *others)


def autocast(device: torch.device, precision: str) -> Any:
    """bf16 autocast, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def contrast(model: Any, aerial: Tensor, ground: Tensor, config: RunConfig) -> Tensor:
    """The contrastive loss that the configuration names, of embeddings B x D under the model's similarity."""
    similarity = model.similarity(aerial, ground)
    if config.loss == "triplet":
        return losses.soft_margin_triplet_of(similarity, config.alpha)
    if config.loss == "highlighted":
        return highlighted_triplet_of(similarity, config.alpha)
    learnt = model.temperature
    return losses.info_nce_of(similarity, config.temperature if learnt is None else learnt, config.label_smoothing)


def backward(model: Any, aerial: Tensor, ground: Tensor, config: RunConfig, generators: Generators, beside: Beside = NOTHING) -> Parts:
    """Losses of one batch; leaves the gradients in the model's parameters.

    Of a batch that is spread over processes, the contrastive loss is of the embeddings of all, so every process has the same and backs up
    its part of it; the other losses are means over rows, of which it has some. The gradients of all processes add up to the batch's.

    Args:
        aerial, ground: B x 3 x H x W; row i of both is one pair (CHSG twins are rows of their own).
        generators: of the counterfactual descriptors of the aerial and of the ground view.
        beside: what the configuration's further losses need.

    Returns:
        ``loss``, the sum that is minimised, and its parts: those of :func:`loss_names`. ``triplet_loss`` is the contrastive loss.
    """
    with autocast(aerial.device, config.precision):
        if beside.covering is not None:
            views = model.describe_aerial(aerial), model.describe_ground(ground)
            out: Any = _Pair(views[0].embedding, views[1].embedding)
        else:
            out = model(aerial, ground)
        ranks, sizes = beside.ranks, beside.sizes
        parts = {"triplet_loss": contrast(model, ranks.gather(out.aerial, sizes), ranks.gather(out.ground, sizes), config)}
        parts["counterfactual_loss"] = parts["triplet_loss"].new_zeros(())
        for view, generator in zip(("aerial", "ground") if len(aerial) else (), generators, strict=False):
            found = {name: getattr(out, f"{view}_{name}", None) for name in ("features", "descriptors")}
            for name, value in _own_losses(model, getattr(out, view), found, view, generator, config, beside).items():
                parts[name] = parts.get(name, 0.0) + value
        if beside.covering is not None and len(aerial):
            parts |= _covering_losses(model, views[0], views[1], config, beside)
        if ranks.size > 1:
            share = len(aerial) / sum(sizes)
            parts = {name: value / ranks.size if name == "triplet_loss" else value * share for name, value in parts.items()}
        loss = _total(parts, config)
    loss.backward()
    parts = {name: value.detach() for name, value in parts.items()}
    if ranks.size > 1:
        zero = torch.zeros_like(parts["triplet_loss"])
        parts = {name: ranks.sum(parts.get(name, zero)) for name in loss_names(config)[1:]}
        loss = _total(parts, config)
    return {"loss": loss.detach(), **parts}


def _total(parts: Parts, config: RunConfig) -> Tensor:
    return sum((_weight(name, config) * value for name, value in parts.items()), start=parts["triplet_loss"].new_zeros(()))


@dataclass(frozen=True)
class _Pair:
    aerial: Tensor
    ground: Tensor


def _weight(name: str, config: RunConfig) -> float:
    return 1.0 if name == "triplet_loss" else float(getattr(config, name.replace("_loss", "_weight")))


def _own_losses(
    model: Any, embedding: Tensor, found: dict[str, Any], view: str, generator: AnyGenerator, config: RunConfig, beside: Beside
) -> Parts:
    """What one branch contributes without the other."""
    parts: Parts = {}
    if config.counterfactual_weight:
        imaginary = model.counterfactual(found["features"], generator)
        parts["counterfactual_loss"] = 0.5 * losses.counterfactual_loss(embedding, imaginary, config.beta)
    if config.consistency_weight:
        assert beside.flip is not None
        assert beside.turns is not None
        square = view == "aerial" and not config.polar
        parts["consistency_loss"] = 0.5 * consistency_loss(found["descriptors"], beside.flip, beside.turns, square)
    return parts


def _covering_losses(model: Any, aerial: Any, ground: Any, config: RunConfig, beside: Beside) -> Parts:
    """VIGOR's further losses, those that have a weight: of a tile that shows the place off its centre."""
    assert beside.offset is not None
    assert beside.overlap is not None
    other = model.describe_aerial(beside.covering)
    parts: Parts = {}
    if config.overlap_weight:
        positive, semi = ((view.embedding * ground.embedding).sum(1) for view in (aerial, other))
        parts["overlap_loss"] = overlap_loss(positive, semi, beside.overlap)
    if config.offset_weight:
        found = torch.cat([model.offset(aerial, ground), model.offset(other, ground)])
        parts["offset_loss"] = offset_loss(found.float(), beside.offset.transpose(0, 1).flatten(0, 1))
    return parts


class TwoCores:
    """:func:`backward` with one core for each branch, for models whose branches are ``independent``."""

    def __init__(self) -> None:
        # Threads of their own, since the number of threads inside an operation is a property of the thread that calls it.
        self._cores = [ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) for _ in range(2)]

    def close(self) -> None:
        """End the two threads."""
        for core in self._cores:
            core.shutdown()

    def backward(
        self, model: Any, aerial: Tensor, ground: Tensor, config: RunConfig, generators: Generators, beside: Beside = NOTHING
    ) -> Parts:
        """As the function of this name; without tiles off their centre."""

        def forward(name: str, images: Tensor, generator: AnyGenerator) -> tuple[Tensor, Parts]:
            with autocast(images.device, config.precision):
                view = getattr(model, f"describe_{name}")(images)
                found = {key: getattr(view, key, None) for key in ("features", "descriptors")}
                return view.embedding, _own_losses(model, view.embedding, found, name, generator, config, beside)

        images = (("aerial", aerial, generators[0]), ("ground", ground, generators[1]))
        views = [task.result() for task in [core.submit(forward, *inputs) for core, inputs in zip(self._cores, images, strict=True)]]
        leaves = [embedding.detach().requires_grad_() for embedding, _ in views]
        contrastive = contrast(model, leaves[0], leaves[1], config)
        contrastive.backward()  # a learnt temperature gets its gradient here

        def continue_backward(view: tuple[Tensor, Parts], gradient: Tensor | None) -> None:
            embedding, own = view
            terms = {name: value for name, value in own.items() if value.requires_grad}
            weights = [torch.full_like(value, _weight(name, config)) for name, value in terms.items()]
            torch.autograd.backward([embedding, *terms.values()], [gradient, *weights])

        tasks_back = [core.submit(continue_backward, view, leaf.grad) for core, view, leaf in zip(self._cores, views, leaves, strict=True)]
        for task in tasks_back:
            task.result()
        parts = {"triplet_loss": contrastive.detach(), "counterfactual_loss": contrastive.new_zeros(())}
        for _, own in views:
            for name, value in own.items():
                parts[name] = parts.get(name, 0.0) + value.detach()
        return {"loss": _total(parts, config), **{name: value.detach() for name, value in parts.items()}}
