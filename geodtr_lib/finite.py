"""Whether losses and gradients are numbers: seen at the very step, before the weights are touched, or on CUDA without waiting for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FiniteSteps:
    """Looks at every step's loss and gradient.

    Where asking the device is cheap, or steps are to be skipped, the answer is known before the optimiser's step. On CUDA it is kept on the
    device, so that nobody waits, and read now and then; it still names the first step that was not finite.

    Args:
        model: whose batch statistics are put back after a step that is not taken.
        at_once: know the answer before the optimiser's step.
        keep_statistics: put them back (a copy of them is made at every step).
    """

    def __init__(self, model: nn.Module, at_once: bool, keep_statistics: bool) -> None:
        self.at_once = at_once
        self._buffers = list(model.buffers()) if keep_statistics else []
        self._kept: list[Tensor] = []
        self._step: Tensor | int = -1
        self._values: tuple[Tensor, Tensor] | None = None

    def before(self) -> None:
        """A step begins."""
        self._kept = [buffer.clone() for buffer in self._buffers]

    def allows(self, step: int, loss: Tensor, norm: Tensor) -> bool:
        """Whether the optimiser may take the step.

        Args:
            step: its number.
            loss, norm: of the step: the loss, and the norm of the gradient.
        """
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        if not self.at_once:
            first = ~finite & (torch.as_tensor(self._step, device=loss.device) < 0)
            before = self._values or (loss, norm)
            self._step = torch.where(first, step, self._step)
            self._values = (torch.where(first, loss, before[0]), torch.where(first, norm, before[1]))
            return True
        if bool(finite):
            return True
        self._step, self._values = step, (loss, norm)
        for buffer, kept in zip(self._buffers, self._kept, strict=True):
            buffer.copy_(kept)
        return False

    def faulty(self) -> tuple[int, str] | None:
        """The first step that was not finite since this was last asked, and what was wrong with it; None when all was well."""
        step = int(self._step)
        if step < 0 or self._values is None:
            return None
        loss, norm = (float(value) for value in self._values)
        self._step, self._values = -1, None
        return step, f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
