"""Trained models, ours and the authors', and what they can be evaluated on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from geodtr_lib import data
from geodtr_lib.checkpoints import load_checkpoint, load_released_checkpoint, released_parameters, save_model
from geodtr_lib.config import RunConfig, config_from, resolve_config
from geodtr_lib.errors import ConfigError, RunError
from geodtr_lib.evaluation.limited_view import LimitedView
from geodtr_lib.files import digest, read_json
from geodtr_lib.geometry import field_of_view_width
from geodtr_lib.lookup import expanded
from geodtr_lib.models import CrossViewModel
from geodtr_lib.paths import runs_folder
from geodtr_lib.training import resolve_machine, test_areas_of

# What a bare .pth does not tell: arguments of load_released_checkpoint, and how images are normalised.
_NOT_IN_TENSORS = ("aerial_size", "ground_size", "heads", "bottleneck")
UNTOLD = (*_NOT_IN_TENSORS, "normalisation")
_TRAINED_ON = {"cvusa": "cvusa:cvusa", "cvact": "cvact:cvact", "vigor:same": "vigor:same", "vigor:cross": "vigor:cross"}
# What evaluation may choose. Everything else made the model what it is.
_FREE = frozenset({
    "dataset", "data_root", "test_areas", "n_test", "tile_size", "data_seed", "environment", "fov", "heading", "skip_missing", "options",
    "workers", "packed", "ties", "eval_batch_size", "seed", "device", "precision",
})  # fmt: skip
_NOT_OF_EVALUATION = frozenset({"preset", "run_dir"})  # they say where a model comes from


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        path: file of a run's weights, or the authors' folder or file.
        model: in eval mode, on the CPU.
        config: what it was made with. The authors' files tell the model's part; the rest is the paper's.
        trained_on: ``dataset:area``; empty where the authors' files do not tell.
        folder: where results go: the run's folder, or one of the runs folder, because the authors' is not ours to write in.
    """

    path: str
    model: CrossViewModel
    config: RunConfig
    trained_on: str
    folder: Path


def open_trained(
    run_dir: str | Path = "",
    checkpoint: str | Path = "",
    *,
    weights: str = "model",
    epoch: int | str = "",
    trained_on: str = "",
    given: Mapping[str, Any] | None = None,
) -> Trained:
    """Open a run folder, or a checkpoint in the authors' form.

    Args:
        run_dir: folder of a run; ``~`` is the home folder, here and in ``checkpoint``.
        checkpoint: the authors' folder, or a ``.pth`` file; one of the two is given.
        weights: of a run folder: ``model`` (last epoch) or ``best``.
        epoch: of the authors' folder; empty = the largest.
        trained_on: ``cvusa``, ``cvact``, ``vigor:same`` or ``vigor:cross``, where the checkpoint's parameter file does not tell.
        given: what else is known of a checkpoint, of the names in ``UNTOLD``: ``aerial_size``, ``ground_size``, ``heads``,
            ``bottleneck``, and ``normalisation`` where it is not its release's (``half`` for GeoDTR, ``imagenet`` for GeoDTR+).
            Other names say nothing of a checkpoint and are left to :func:`evaluated`.

    Raises:
        ConfigError: both or neither of ``run_dir`` and ``checkpoint``, an unknown ``trained_on``, or an impossible value in ``given``.
        CheckpointError: a missing, damaged or unfitting file.
    """
    if bool(run_dir) == bool(checkpoint):
        raise ConfigError("give run_dir (a run's folder) or checkpoint (the authors' folder or a .pth file), one of the two")
    if run_dir:
        run = expanded(run_dir)
        trained = load_checkpoint(run, weights)
        config = config_from(read_json(run / "config.json"))
        return Trained(str(run / f"{weights}.safetensors"), trained, config, f"{config.dataset}:{config.train_area}", run)
    chosen = epoch if epoch != "" else None
    given = {name: value for name, value in (given or {}).items() if name in UNTOLD}
    checked = resolve_config("paper", polar=False, **given)  # before the file is read; without polar the sizes are free of each other
    model = load_released_checkpoint(checkpoint, chosen, **{name: getattr(checked, name) for name in _NOT_IN_TENSORS if name in given})
    if trained_on and trained_on not in _TRAINED_ON:
        raise ConfigError(f"trained_on: {trained_on!r} is not known; allowed: {', '.join(_TRAINED_ON)}")
    # The authors' parameter file names the data set, which for VIGOR does not tell the area.
    trained_on = _TRAINED_ON.get(trained_on or str(released_parameters(checkpoint, chosen).get("dataset")).lower(), "")
    dataset, _, area = trained_on.partition(":")
    config = resolve_config(
        "paper", dataset=dataset or "cvusa", train_area=area, backbone=model.backbone, gle=model.gle, n_desc=model.n_desc,
        bottleneck=model.bottleneck, heads=model.heads, layers=model.layers, ffn_width=model.ffn_width, dropout=model.dropout,
        ground_size=model.ground_size, aerial_size=model.aerial_size, polar=model.aerial_size == model.ground_size, precision="fp32",
        normalisation=given.get("normalisation") or ("half" if model.gle == "v1" else "imagenet"),
        sampling="LS" if model.gle == "v1" else "L+S",
    )  # fmt: skip
    place = expanded(checkpoint).resolve()
    return Trained(str(checkpoint), model, config, trained_on, runs_folder() / f"evaluation-{place.stem}-{digest(str(place))[:8]}")


def save_as_run(trained: Trained, run_dir: str | Path) -> Path:
    """Write a trained model as a run folder, which everything that looks into runs takes: a released checkpoint, above all.

    Returns:
        The folder; it holds weights and configuration, and no results.

    Raises:
        ConfigError: a checkpoint that does not tell where it was trained.
        RunError: the folder holds a run already, or cannot be written.
    """
    folder = expanded(run_dir)
    if not trained.trained_on:
        raise ConfigError(f"trained_on: {trained.path} does not tell where it was trained; say it: {', '.join(_TRAINED_ON)}")
    if os.path.lexists(folder / "config.json"):
        raise RunError(f"{folder} holds a run already; choose another folder")
    save_model(folder, trained.model, trained.config.replace(run_dir=str(folder)).to_dict())
    return folder


def narrowed(trained: Trained, config: RunConfig) -> nn.Module:
    """The model as it takes panoramas of ``config.fov`` degrees: where it was made for more, the mean colour stands for the rest."""
    if config.fov >= trained.config.fov:
        return trained.model
    view = LimitedView(trained.model, field_of_view_width(config.ground_size[1], trained.config.fov))
    return view.train(trained.model.training)  # a module begins in training mode, and would bring the model back into it


def target_config(trained: Trained, given: Mapping[str, Any], area: str = "") -> RunConfig:
    """The configuration to evaluate a trained model with: the model's own, on the data that ``given`` says.

    Args:
        trained: the model.
        given: values that differ from the model's, such as ``dataset``, ``data_root``, ``fov``; without ``dataset`` its own.
        area: area or several joined by commas; empty = those that the data set's runs are evaluated on.

    Returns:
        ``test_areas`` are of ``dataset``; ``train_area`` is empty on another data set than the model's; ``seed`` is of unknown headings;
        ``device`` is one that this machine has.

    Raises:
        ConfigError: a value that the model cannot take, or an unknown one.
    """
    config = trained.config
    for name, value in given.items():
        if name not in _FREE | _NOT_OF_EVALUATION and not _equal(name, value, getattr(config, name)):
            made = f"{trained.path} was made with {getattr(config, name)!r}, not {value!r}"
            raise ConfigError(f"{name}: {made}, which evaluation cannot change; leave {name} out")
    home = trained.trained_on.partition(":")[0]
    dataset = given.get("dataset") or home
    if not dataset:
        raise ConfigError(f"dataset: {trained.path} does not say where it was trained; name the test data: {', '.join(data.NAMES)}")
    values: dict[str, Any] = {"device": "auto", "seed": config.data_seed, "test_roots": {}, "dataset": dataset}
    if dataset != home:
        values |= {"train_area": "", "options": {}, "data_root": config.test_roots.get(dataset, "")}
    if dataset in ("city", "osm") and not config.embedded:
        values |= {"n_test": 1000, "tile_size": 256}  # the embedded data sets have no owner's size
    values |= {name: value for name, value in given.items() if name in _FREE}
    root = values.get("data_root", config.data_root)
    moved = dataset == "osm" and root != config.data_root  # other extracts are other areas
    own = data.areas(dataset, root) if dataset != home or moved else [name for name in test_areas_of(config) if ":" not in name]
    values["test_areas"] = area or given.get("test_areas") or own
    target = resolve_machine(config.replace(**values))
    if target.fov > config.fov:
        raise ConfigError(f"fov: {trained.path} was made for {config.fov:g} degrees; give at most that, not {target.fov:g}")
    return target


def _equal(name: str, value: Any, own: Any) -> bool:
    """Is this, perhaps typed as text, the model's own value?"""
    kind: Any = RunConfig.model_fields[name].annotation
    try:
        return bool(TypeAdapter(kind).validate_python(value) == own)
    except ValidationError:
        return False
