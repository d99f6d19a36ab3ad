"""What lies in a run's folder beside the weights: its state, how far it is, and why it failed. Every file says its schema.

A reader takes what its own or an older version has written, and says so of a newer one's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodtr_lib.config import SCHEMA, RunConfig
from geodtr_lib.errors import CheckpointError, GeoDTRError, RunError, first_line
from geodtr_lib.files import read_versioned, whole_file, write_json

if TYPE_CHECKING:
    import torch

STATE, PROGRESS, FAILURE, LOCK = "state.pt", "progress.json", "failed.json", ".lock"
# Values that say where and how a run goes on, not what it computes: they may differ when it resumes.
_NOT_COMPARED = frozenset({
    "run_dir", "resume", "checkpoint_minutes", "workers", "packed", "eval_batch_size", "data_root", "test_roots", "skip_faulty",
    "tensorboard",
})  # fmt: skip


def identity(config: RunConfig) -> dict[str, Any]:
    """The values that determine a run's numbers, with the data; these are told by their hash, because they may be moved."""
    return {key: value for key, value in config.to_dict().items() if key not in _NOT_COMPARED}


def write_config(run_dir: str | Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json``. Args: ``config`` is ``RunConfig.to_dict()``."""
    write_json(Path(run_dir) / "config.json", {"schema": SCHEMA, **config})


def default_values() -> dict[str, Any]:
    """Every field's default as ``config.json`` has it: what a run's configuration was before the field was added."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in RunConfig.model_fields.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}


def read_metrics(run_dir: str | Path) -> dict[str, Any]:
    """The content of ``metrics.json``.

    Raises:
        RunError: missing, damaged, no results, or of a newer version.
    """
    path = Path(run_dir) / "metrics.json"
    metrics: dict[str, Any] = read_versioned(path, SCHEMA)
    for name in ("config", "train", "evaluation", "versions", "data"):
        if not isinstance(metrics.get(name), dict):
            raise RunError(f"{path} has no {name}; it is no result of a run, remove it and run again")
    if not all(isinstance(measured, dict) for measured in metrics["evaluation"].values()):
        raise RunError(f"{path} has an area without recalls; it is no result of a run, remove it and run again")
    return metrics


def save_state(run_dir: str | Path, state: Mapping[str, Any]) -> None:
    """Write everything that resuming needs, whole or not at all; the state before stays until then.

    Raises:
        RunError: it cannot be written, for instance because the disk is full.
    """
    import torch  # late: results are read without it

    path = Path(run_dir) / STATE
    with whole_file(path) as temporary:
        try:
            torch.save({"schema": SCHEMA, **state}, temporary)
        except RuntimeError as error:  # torch's writer of archives: mostly a full disk
            reason = f"cannot write {path} ({first_line(error)}); the disk may be full"
            raise RunError(f"{reason}: free space, the same call then goes on from the state before") from error


def load_state(run_dir: str | Path, device: torch.device) -> dict[str, Any] | None:
    """What :func:`save_state` has written; None where there is none. Tensors and plain values only: nothing in it can run code.

    Raises:
        CheckpointError: damaged, or of a newer version.
    """
    import torch

    path = Path(run_dir) / STATE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        schema = int(state.pop("schema", 0))
    except Exception as error:  # torch raises many kinds on bytes that are no state
        raise damaged_state(path, error) from None
    if schema > SCHEMA:
        raise CheckpointError(f"{path} is of a newer version (schema {schema}, this one reads up to {SCHEMA}); update geodtr-lib")
    found: dict[str, Any] = state
    return found


def damaged_state(path: Path, error: Exception) -> CheckpointError:
    """The error for a state that cannot be gone on from."""
    return CheckpointError(f"{path} cannot be read ({first_line(error)}); remove it to start this run again")


def other_data(run_dir: str | Path) -> RunError:
    """The error for a folder whose run has the configuration, but not the data."""
    return RunError(
        f"{run_dir} holds a run of this configuration on other data; give data_root (and test_roots) as they were, "
        "choose another run_dir, or resume=False to replace it"
    )


def note_progress(run_dir: str | Path, **values: float) -> None:
    """Say how far a run is; for people, nothing resumes from it."""
    write_json(Path(run_dir) / PROGRESS, {"schema": SCHEMA, **values})


def note_failure(run_dir: str | Path, error: BaseException) -> None:
    """Say why a run has failed, where that can be written."""
    with contextlib.suppress(GeoDTRError):
        write_json(Path(run_dir) / FAILURE, {"schema": SCHEMA, "error": type(error).__name__, "reason": " ".join(str(error).split())})
