"""The losses of a run for TensorBoard (``pip install 'geodtr-lib[tensorboard]'``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geodtr_lib.errors import ConfigError, RunError


class TensorBoardLog:
    """Writes event files.

    Args:
        folder: of the event files.
        step: the first that will be written; what an interrupted run wrote from there on is taken back.

    Raises:
        ConfigError: tensorboard is not installed.
        RunError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError("tensorboard: True needs the package tensorboard; pip install 'geodtr-lib[tensorboard]'") from None
        try:
            self._writer: Any = SummaryWriter(str(folder), purge_step=step)
        except OSError as error:
            raise RunError(f"cannot write {folder}: {error.strerror or error}; free space or choose another folder") from error

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Values by name, at a step counted from the beginning of the training."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
