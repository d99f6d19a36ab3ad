"""One run in several processes: who takes which rows, rows gathered with their gradients, and one batch norm over all of them.

Every process takes its share of each batch, embeds it, and gathers the embeddings of all, so that every pair meets every negative. The
objective's mean is over the whole batch, and the gradients of all processes are added up: a step is that of one process with the same
batch. The processes are started by ``accelerate launch`` or by ``accelerate.notebook_launcher``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from geodtr_lib.errors import ConfigError, GeoDTRError, RunError

LONGEST_WAIT = timedelta(hours=6)
"""How long processes wait for another one. By default NCCL ends a run after 10 minutes, which packing a large data set takes easily."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        rank: number of this one, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """This is the one that writes."""
        return self.rank == 0

    def sizes(self, n: int) -> list[int]:
        """How many of n rows each process takes: they differ by one at most, and some are 0 when there are fewer rows than processes."""
        return [n // self.size + (rank < n % self.size) for rank in range(self.size)]

    def share(self, n: int) -> range:
        """Which of n rows this process takes; every row is taken once."""
        sizes = self.sizes(n)
        start = sum(sizes[: self.rank])
        return range(start, start + sizes[self.rank])

    def exchanged(self, value: int, device: torch.device | str = "cpu") -> list[int]:
        """A number from each process."""
        if self.size == 1:
            return [value]
        found = torch.zeros(self.size, dtype=torch.int64, device=device)
        found[self.rank] = value
        dist.all_reduce(found)
        return [int(number) for number in found.tolist()]

    def gather(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of all processes, in the order of their ranks; gradients go back to the process that a row is from.

        Args:
            rows: B x ..., B = ``sizes[rank]``.
            sizes: rows of each process.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, list(sizes), self.rank)
        return gathered

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, without gradient."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in all of them. A parameter that has none in any of them is left without one."""
        if self.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if not trained:
            return
        parts = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in trained]
        has = torch.tensor([float(parameter.grad is not None) for parameter in trained], device=parts[0].device)
        flat = torch.cat([*(part.reshape(-1) for part in parts), has])  # one message instead of hundreds
        dist.all_reduce(flat)
        *sums, having = flat.split([*(part.numel() for part in parts), len(trained)])
        # Zeros in place of None would be decayed by AdamW. Asking the device is a sync, so only where one is missing here.
        missing = any(parameter.grad is None for parameter in trained)
        anywhere = having.tolist() if missing else [1.0] * len(trained)
        for parameter, part, processes in zip(trained, sums, anywhere, strict=True):
            if processes:
                # In the parameter's own memory format: the fused optimisers take both element by element as they lie.
                parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape))

    def broadcast(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def agreed(self, function: Callable[[], Any]) -> Any:
        """What ``function`` gives in the first process, in all of them.

        Raises:
            RunError: in the others, with the reason, whatever error it raises in the first: they would wait for it until the time is up.
        """
        if self.size == 1:
            return function()
        outcome: tuple[Any, str] = (None, "")
        fault: Exception | None = None
        if self.first:
            try:
                outcome = (function(), "")
            except Exception as error:
                kind = type(error).__name__
                said = str(error) if isinstance(error, GeoDTRError) else f"the first process failed ({kind}: {error})"
                outcome, fault = (None, said or kind), error
        value, reason = self.broadcast(outcome)
        if fault is not None:
            raise fault
        if reason:
            raise RunError(reason)
        return value

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process passes the block before the others enter it: it fills caches that they read."""
        if self.size > 1 and not self.first:
            dist.barrier()
        try:
            yield
        finally:
            if self.size > 1 and self.first:
                dist.barrier()


ALONE = Ranks()


def joined(device: str) -> Ranks:
    """The processes that this one was started with; alone where it was started by nobody.

    Args:
        device: a configuration's: ``cpu`` keeps the processes off the GPUs. On CUDA each gets one of its own as the current device.

    Raises:
        ConfigError: several processes were started, and accelerate is not installed.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ and "MASTER_ADDR" in os.environ
    if started and not dist.is_initialized():
        try:
            from accelerate import PartialState
        except ImportError:
            raise ConfigError("several processes share this run, which needs accelerate; pip install geodtr-lib[gpus]") from None
        # Chooses the way to talk and the GPU of this process. The others wait while the first reads, checks or packs the data.
        PartialState(cpu=device == "cpu", timeout=LONGEST_WAIT)
    if not dist.is_available() or not dist.is_initialized():
        return ALONE
    return Ranks(dist.get_rank(), dist.get_world_size())


class _Gather(torch.autograd.Function):
    """``all_gather`` of uneven rows, whose gradient is the sum of what every process's part of the loss says of a row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int], rank: int) -> Tensor:
        ctx.sizes, ctx.rank = sizes, rank
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        start = sum(ctx.sizes[: ctx.rank])
        return gradient[start : start + ctx.sizes[ctx.rank]], None, None


class _Sum(torch.autograd.Function):
    """``all_reduce``, and its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.contiguous().clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of all processes' rows, however many each has; on any device (torch's own knows GPUs only).

    It shares parameters and running statistics with ``source``, and does what timm's variant does behind the norm (dropout, activation).
    """

    def __init__(self, source: nn.BatchNorm2d) -> None:
        super().__init__(source.num_features, source.eps, source.momentum, source.affine, source.track_running_stats)
        self.weight, self.bias = source.weight, source.bias
        self.running_mean, self.running_var = source.running_mean, source.running_var
        self.num_batches_tracked = source.num_batches_tracked
        for name in ("drop", "act"):
            if hasattr(source, name):
                setattr(self, name, getattr(source, name))
        self.train(source.training)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """B x C x H x W to the same."""
        out = self._whole_batch(input) if self.training else super().forward(input)
        for name in ("drop", "act"):
            if hasattr(self, name):
                out = getattr(self, name)(out)
        return out

    def _whole_batch(self, images: Tensor) -> Tensor:
        x = images.float()
        count = torch.tensor([float(x.numel() // x.shape[1])], device=x.device)
        sums = _Sum.apply(torch.cat([x.sum((0, 2, 3)), count]))  # C + 1
        mean, n = sums[:-1] / sums[-1], sums[-1].detach()
        centred = x - mean[None, :, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / n
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.detach(), weight)
                self.running_var.lerp_(variance.detach() * n / (n - 1).clamp(min=1), weight)
        out: Tensor = centred * torch.rsqrt(variance + self.eps)[None, :, None, None]
        if self.affine:
            out = out * self.weight[None, :, None, None] + self.bias[None, :, None, None]
        return out.to(images.dtype)


def synchronise(model: nn.Module) -> None:
    """Put :class:`SynchronisedBatchNorm` in place of every batch norm that is trained; names and values of the model's state stay."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and child.training and not isinstance(child, SynchronisedBatchNorm):
                setattr(module, name, SynchronisedBatchNorm(child))
