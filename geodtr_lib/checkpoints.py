"""Checkpoints: our run folders (safetensors), and the authors' released files in both directions. Nothing is ever unpickled blindly."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geodtr_lib.config import SCHEMA, config_from
from geodtr_lib.errors import CheckpointError, RunError, first_line
from geodtr_lib.files import read_versioned, whole_file, write_json
from geodtr_lib.lookup import expanded
from geodtr_lib.models import build_model
from geodtr_lib.models.base import CrossViewModel, Size
from geodtr_lib.models.geodtr import GeoDTR
from geodtr_lib.models.released import BACKBONES, from_released, infer_settings, to_released
from geodtr_lib.run_folder import write_config

# Of the authors' layout.
_EPOCH = re.compile(r"epoch_(\d+|last)")
_FILES = "epoch_*/epoch_*.pth"

# --- tensors in files -------------------------------------------------------------------------------------------------------------


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all; from any device and in any memory format.

    Raises:
        RunError: the file cannot be written.
    """
    with whole_file(path) as temporary:
        try:
            save_file({key: _plain(value) for key, value in tensors.items()}, temporary, metadata=dict(metadata) if metadata else None)
        except SafetensorError as error:
            raise RunError(f"cannot write {path}: {first_line(error)}; free space or choose another folder") from error


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: tensors on the CPU, and the metadata.

    Raises:
        CheckpointError: the file is missing, cut short or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except PermissionError:
        raise _locked(path) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); remove it and train again, or copy it again") from error


def check_tensors(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str | Path) -> None:
    """Compare names and shapes.

    Raises:
        CheckpointError: any difference; the message lists the first five missing, unexpected and mis-shaped keys, and how many there are.
    """
    misfits = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "mis-shaped": [
            f"{key} {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in expected
            if key in given and given[key].shape != expected[key].shape
        ],
    }
    if any(misfits.values()):
        listed = (f"{len(keys)} {kind} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})" for kind, keys in misfits.items() if keys)
        raise CheckpointError(f"{source} does not fit the model: {'; '.join(listed)}")


# --- our run folders --------------------------------------------------------------------------------------------------------------


def save_model(run_dir: str | Path, model: nn.Module, config: Mapping[str, Any], name: str = "model") -> None:
    """Write ``config.json`` and ``<name>.safetensors`` into a run folder.

    Args:
        config: ``RunConfig.to_dict()``.
        name: ``model``, or another for a second set of weights in the same folder, e.g. ``best``.

    Raises:
        RunError: the folder cannot be written.
    """
    write_config(run_dir, config)
    save_tensors(Path(run_dir) / f"{name}.safetensors", model.state_dict(), {"format": "pt", "schema": str(SCHEMA)})


def load_checkpoint(run_dir: str | Path, name: str = "model") -> CrossViewModel:
    """The trained model of a run folder, in eval mode on the CPU. Needs no network; leaves the global random state alone.

    Args:
        run_dir: folder with ``config.json`` and ``<name>.safetensors``.
        name: which weights, as in :func:`save_model`.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are of another model.
        ConfigError: the configuration is not one of this version.
    """
    folder = expanded(run_dir)
    try:
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder} is no run folder: it has no config.json")
    except PermissionError:
        raise _locked(folder) from None
    # Every weight comes from the folder, and the model is not trained on.
    config = config_from({**read_versioned(folder / "config.json", SCHEMA), "pretrained": False, "frozen_stride": 0})
    state, _ = load_tensors(folder / f"{name}.safetensors")
    with torch.random.fork_rng(devices=[]):
        model = build_model(config)
    check_tensors(model.state_dict(), state, folder / f"{name}.safetensors")
    model.load_state_dict(state)
    return model.eval()


# --- the authors' files -----------------------------------------------------------------------------------------------------------


def load_released_checkpoint(
    path: str | Path,
    epoch: int | str | None = None,
    aerial_size: Size | None = None,
    ground_size: Size | None = None,
    heads: int | None = None,
    bottleneck: bool | None = None,
) -> GeoDTR:
    """A model of the authors, GeoDTR+ or GeoDTR, in eval mode on the CPU.

    GeoDTR expects images normalised with mean and deviation 0.5, GeoDTR+ those of ImageNet.

    Args:
        path: the authors' folder (``*_parameter.json`` and ``epoch_<N>/epoch_<N>.pth``), an ``epoch_<N>`` of it, or one ``.pth`` file:
            their dictionary or the bare state dict, with or without ``module.`` before each key. A parameter file beside a ``.pth`` is
            read too.
        epoch: which one of the folder; by default the largest N (the best one), ``"last"`` only where there is no other.
        aerial_size, ground_size, heads, bottleneck: what a bare ``.pth`` does not tell, where it differs from the paper's. A model
            without bottleneck drops the bottleneck tensors ``w1 b1 w2 b2`` of each branch, which a released GeoDTR+ always holds.

    Raises:
        CheckpointError: no such file, a damaged one, one that holds more than tensors and plain values, or tensors that do not fit;
            the message lists the keys.
    """
    file, parameter_file = _find_released(path, epoch)
    state = _released_state(file)
    parameters = _read_parameters(parameter_file) if parameter_file else {}
    given = dict(aerial_size=aerial_size, ground_size=ground_size, heads=heads, bottleneck=bottleneck)
    settings = infer_settings(state, parameters, str(file), **given)
    with torch.device("meta"):  # no numbers are drawn that would only be replaced
        model = GeoDTR(**settings)
    check_tensors(to_released(model), state, file)
    model.load_state_dict(from_released(state, model), assign=True)
    return model.float().eval()


def released_parameters(path: str | Path, epoch: int | str | None = None) -> dict[str, Any]:
    """What the authors' parameter file says of a checkpoint, under their names; empty where there is none. Arguments as above.

    Raises:
        CheckpointError: no such checkpoint, or a damaged parameter file.
    """
    _, parameter_file = _find_released(path, epoch)
    return _read_parameters(parameter_file) if parameter_file else {}


def save_released_checkpoint(model: GeoDTR, path: str | Path, epoch: int = 1, dataset: str = "") -> None:
    """Write a model so that the authors' code loads it.

    Args:
        path: a ``.pth`` file, whose parameter file is written beside it as ``<stem>_parameter.json``; or a folder, for their layout
            ``geodtr_lib_parameter.json`` and ``epoch_<N>/epoch_<N>.pth``.
        epoch: N.
        dataset: the authors' name of the data set; empty = VIGOR for panoramas of its size, else CVUSA.

    Raises:
        CheckpointError: the authors' code has no such model.
        RunError: the file cannot be written.
    """
    path = expanded(path)
    state = {f"module.{key}": _plain(value) for key, value in to_released(model).items()}
    polar = model.aerial_size == model.ground_size
    parameters = {
        "backbone": BACKBONES[model.backbone][0],
        "dataset": dataset or ("VIGOR" if model.ground_size == (320, 640) else "CVUSA"),
        "descriptors": model.n_desc,
        "tr_heads": model.heads,
        "tr_layers": model.layers,
        "tr_dim": model.ffn_width,
        "dropout": model.dropout,
        "bottleneck": model.bottleneck,
        "polar": polar,
        "no_polar": not polar,
        "aerial": list(model.aerial_size),
        "ground": list(model.ground_size),
    }
    if path.suffix == ".pth":
        file, parameter_file = path, path.with_name(f"{path.stem}_parameter.json")
    else:
        file, parameter_file = path / f"epoch_{epoch}" / f"epoch_{epoch}.pth", path / "geodtr_lib_parameter.json"
    write_json(parameter_file, parameters)
    with whole_file(file) as temporary:
        try:
            torch.save({"epoch": epoch, "model_state_dict": state, "optimizer_state_dict": {}, "scheduler_state_dict": {}}, temporary)
        except RuntimeError as error:  # torch's writer of archives: mostly a full disk
            raise RunError(f"cannot write {file}: {first_line(error)}; free space or choose another folder") from error


def _find_released(path: str | Path, epoch: int | str | None) -> tuple[Path, Path | None]:
    """The weights file, and the parameter file if there is one."""
    path = expanded(path)
    try:
        return _look_for_released(path, epoch)
    except PermissionError:
        raise _locked(path) from None


def _look_for_released(path: Path, epoch: int | str | None) -> tuple[Path, Path | None]:
    if path.is_file() and path.suffix.lower() == ".zip":
        raise CheckpointError(f"{path} is an archive; unpack it and give the folder that holds epoch_<N>")
    if path.is_file():
        own = path.with_name(f"{path.stem}_parameter.json")
        if own.is_file() or not _EPOCH.fullmatch(path.parent.name):
            return path, own if own.is_file() else None
        return path, max(path.parent.parent.glob("*_parameter.json"), default=None)
    if not path.is_dir():
        raise CheckpointError(f"{path} does not exist; give the authors' folder or a .pth file")
    if (match := _EPOCH.fullmatch(path.name)) and (path / f"{path.name}.pth").is_file():
        path, epoch = path.parent, match[1] if epoch is None else epoch
    files = {match[1]: file for file in path.glob(_FILES) if (match := _EPOCH.fullmatch(file.parent.name))}
    if not files:
        # The authors' download holds one folder for each model.
        below = sorted({str(file.parents[1].relative_to(path)) for depth in ("*/", "*/*/") for file in path.glob(f"{depth}{_FILES}")})
        there = f"; give one of its folders that do: {', '.join(below)}" if below else "; give the authors' folder or a .pth file"
        raise CheckpointError(f"{path} holds no epoch_<N>/epoch_<N>.pth{there}")
    numbers = sorted((name for name in files if name != "last"), key=int)
    wanted = str(epoch) if epoch is not None else (numbers or ["last"])[-1]
    if wanted not in files:
        raise CheckpointError(f"{path} has no epoch {wanted}; it has {', '.join([*numbers, *(['last'] if 'last' in files else [])])}")
    return files[wanted], max(path.glob("*_parameter.json"), default=None)


def _released_state(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError:
        raise _locked(file) from None
    except pickle.UnpicklingError as error:
        # torch's message advises to load the file unsafely; only its reason is passed on.
        found = re.search(r"(?i)unsupported global:?( GLOBAL)? ([\w.]+)", str(error))
        reason = f"{file} is not loaded: it is damaged, or holds more than tensors and plain values, which could run code"
        raise CheckpointError(f"{reason} ({found[2]})" if found else reason) from None
    except Exception as error:  # on damaged bytes torch's reader raises whatever it stumbles over
        raise CheckpointError(f"{file} is damaged or no PyTorch file ({first_line(error)}); copy it again") from None
    state = content.get("model_state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file} holds neither a state dict nor a dictionary with model_state_dict")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _read_parameters(file: Path) -> dict[str, Any]:
    try:
        parameters = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not readable as JSON ({error})") from None
    if not isinstance(parameters, dict):
        raise CheckpointError(f"{file} must hold names and values, not {type(parameters).__name__}")
    return parameters


def _locked(path: str | Path) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: permission denied; change its permissions, or those of its folders")


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)
