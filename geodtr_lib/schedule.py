"""Learning-rate schedule: linear warm-up, then half a cosine."""

from __future__ import annotations

import math

from geodtr_lib.errors import ConfigError

SCHEDULES = ("per_step", "per_epoch")


def learning_rate_factor(schedule: str, position: int, warmup: float, total: float) -> float:
    """Factor on the base learning rate, in [0, 1].

    ``per_epoch`` is the release's (its LambdaLR, stepped once an epoch): epoch ``s`` of the warm-up has ``s / warmup``, so the first
    epoch trains at 0. ``per_step`` never is at 0: step ``s`` of the warm-up has ``(s + 1) / warmup``. Both then follow
    ``(1 + cos(pi (s - warmup) / (total - warmup))) / 2``.

    Args:
        schedule: ``per_step`` or ``per_epoch``.
        position: index from 0 of the step, or of the epoch for ``per_epoch``.
        warmup: length of the warm-up in the same unit; need not be whole for ``per_step``.
        total: length of the training in the same unit.

    Raises:
        ConfigError: an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(f"schedule: {schedule!r} is not known; allowed: {', '.join(SCHEDULES)}")
    if schedule == "per_epoch" and position < warmup:
        return position / warmup
    if schedule == "per_step" and position + 1 <= warmup:
        return (position + 1) / warmup
    if total <= warmup:
        return 1.0
    progress = min(max(position - warmup, 0.0) / (total - warmup), 1.0)
    return 0.5 * (1 + math.cos(math.pi * progress))
