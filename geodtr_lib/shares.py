"""Which rows of a step's batch are here, and random numbers drawn as if all were.

A step's batch may be spread over processes, and pairs with unreadable images may be left out of it. Either way each pair gets the draws
that it would get in the whole batch, so that the numbers of a run do not hang on how its batches are spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Some pairs of a batch.

    Attributes:
        rows: their places in the batch, increasing.
        total: pairs of the whole batch.
    """

    rows: Tensor
    total: int

    @classmethod
    def whole(cls, total: int) -> Share:
        """All pairs."""
        return cls(torch.arange(total), total)

    def views(self, views: int) -> Tensor:
        """Places among the batch's ``views * total`` views, view after view, of those that are here."""
        return torch.cat([view * self.total + self.rows for view in range(views)])


@dataclass(frozen=True)
class SharedGenerator:
    """A generator that draws for a whole batch and gives the rows that are here.

    Attributes:
        generator: the same in every process.
        rows: places of the rows here.
        total: rows of the whole batch.
    """

    generator: torch.Generator
    rows: Tensor
    total: int

    @property
    def device(self) -> torch.device:
        """Where it draws."""
        return self.generator.device


AnyGenerator = torch.Generator | SharedGenerator


def uniform(generator: AnyGenerator, *shape: int) -> Tensor:
    """Numbers in [0, 1) of this shape, on the generator's device; the first axis holds the rows that are here."""
    if isinstance(generator, torch.Generator):
        return torch.rand(shape, generator=generator, device=generator.device)
    drawn = torch.rand((generator.total, *shape[1:]), generator=generator.generator, device=generator.device)
    return drawn[generator.rows.to(drawn.device)]
