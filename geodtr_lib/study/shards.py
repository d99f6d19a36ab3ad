"""The gallery of a large area, embedded in parts: on any executor, each part a file written whole, and no part twice."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

import geodtr_lib
from geodtr_lib import run_folder
from geodtr_lib.config import SCHEMA, RunConfig, config_from
from geodtr_lib.errors import CheckpointError, ConfigError, GeoDTRError, RunError
from geodtr_lib.files import digest, file_digest, read_json, read_versioned, write_json
from geodtr_lib.study.grids import Executor

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "gallery.json"


def embed_sharded(
    run_dir: str | Path,
    area: str,
    folder: str | Path,
    executor: Executor | None = None,
    *,
    split: str = "test",
    view: str = "aerial",
    shard: int = 4096,
    weights: str = "model",
    **changes: Any,
) -> list[Path]:
    """Embed an area with a run's model, in shards. What is there already, of the same weights and images, is kept.

    Args:
        run_dir: of a finished run, seen by all workers.
        area: ``area`` or ``dataset:area``.
        folder: of the shards ``<view>-00000.safetensors``, ... and of ``gallery.json``, which is written when all are there.
        executor: as in :func:`geodtr_lib.study.sweep`; None = here, one after another.
        split: ``train`` or ``test``.
        view: ``aerial`` (references) or ``ground`` (queries).
        shard: rows of each.
        weights: ``model`` or ``best``.
        changes: of the run's configuration, such as ``data_root``, ``n_test`` (0 = all places) or ``device``.

    Returns:
        The shards in order.

    Raises:
        RunError: some shards failed; the same call makes only these.
        ConfigError, DatasetError, CheckpointError: as opening the run and the data does.
    """
    if view not in ("aerial", "ground"):
        raise ConfigError(f"view: {view!r} is not known; allowed: aerial, ground")
    if shard < 1:
        raise ConfigError(f"shard: {shard} is not possible; a shard has at least 1 row")
    folder, config = Path(folder), config_from(read_json(Path(run_dir) / "config.json")).replace(**changes)
    data = geodtr_lib.data.open_for(config, area, split)
    n = data.n_references if view == "aerial" else len(data)
    if not n:
        raise RunError(f"{data!r} has nothing to embed")
    of_run = {"weights": file_digest(Path(run_dir) / f"{weights}.safetensors"), "config": run_folder.identity(config)}
    key = digest([of_run, data.hash, area, split, view, shard])
    tasks: list[dict[str, Any]] = [
        dict(
            run_dir=str(run_dir), weights=weights, config=config.to_dict(), area=area, split=split, view=view, key=key,
            start=start, stop=min(start + shard, n), path=str(folder / f"{view}-{start // shard:05d}.safetensors"),
        )
        for start in range(0, n, shard)
    ]  # fmt: skip
    missing = [task for task in tasks if not _is_there(task)]
    futures = [(task, executor.submit(embed_shard, task) if executor is not None else None) for task in missing]
    failures = []
    for task, future in tqdm(futures, desc="shards", disable=not futures):
        try:
            reason = embed_shard(task) if future is None else future.result()
        except Exception as error:  # the worker itself was lost
            reason = f"{type(error).__name__}: {error}"
        if reason:
            failures.append(f"{task['path']}: {reason}")
    if failures:
        raise RunError(f"{len(failures)} of {len(tasks)} shards failed; the same call makes only these. {' | '.join(failures[:5])}")
    shards = [Path(task["path"]) for task in tasks]
    manifest = {"key": key, "area": area, "split": split, "view": view, "rows": n, "shards": [path.name for path in shards]}
    write_json(folder / MANIFEST, {"schema": SCHEMA, **manifest, "data": data.hash, "weights": of_run["weights"]})
    return shards


def read_shards(folder: str | Path) -> Tensor:
    """The embeddings of a whole gallery, N x D float32.

    Raises:
        RunError: no ``gallery.json``, or one of a newer version.
        CheckpointError: a shard is missing or damaged, or of another gallery.
    """
    import torch  # late, as in all of the study

    folder = Path(folder)
    manifest = read_versioned(folder / MANIFEST, SCHEMA)
    names = manifest.get("shards")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise RunError(f"{folder / MANIFEST} does not name its shards; embed the area again")
    parts = []
    for name in names:
        tensors, metadata = geodtr_lib.checkpoints.load_tensors(folder / name)
        if metadata.get("key") != manifest.get("key") or "embedding" not in tensors or tensors["embedding"].ndim != 2:
            raise CheckpointError(f"{folder / name} is no part of this gallery; remove it and embed the area again")
        parts.append(tensors["embedding"])
    if len({part.shape[1] for part in parts}) > 1 or sum(map(len, parts)) != manifest.get("rows"):
        raise CheckpointError(f"{folder}: the shards do not make up the gallery's {manifest.get('rows')} rows; embed the area again")
    return torch.cat(parts)


def embed_shard(task: dict[str, Any]) -> str:
    """Make one shard, in any process. Returns why it failed, or ""."""
    try:
        model, data, config = _opened(json.dumps({name: task[name] for name in ("run_dir", "weights", "key", "config", "area", "split")}))
        rows = geodtr_lib.evaluation.embed_view(model, data, task["view"], config, rows=range(task["start"], task["stop"]))
        geodtr_lib.checkpoints.save_tensors(task["path"], {"embedding": rows}, {"key": task["key"], "schema": str(SCHEMA)})
    except GeoDTRError as error:
        return f"{type(error).__name__}: {error}"
    return ""


@lru_cache(maxsize=1)
def _opened(described: str) -> tuple[Any, Any, RunConfig]:
    """A model and its data, opened once for all shards that a process makes."""
    task = json.loads(described)
    config = geodtr_lib.training.resolve_machine(config_from(task["config"]))
    model = geodtr_lib.checkpoints.load_checkpoint(task["run_dir"], task["weights"]).to(config.device)
    return model, geodtr_lib.data.open_for(config, task["area"], task["split"]), config


def _is_there(task: dict[str, Any]) -> bool:
    try:
        tensors, metadata = geodtr_lib.checkpoints.load_tensors(task["path"])
    except CheckpointError:
        return False
    return metadata.get("key") == task["key"] and "embedding" in tensors and len(tensors["embedding"]) == task["stop"] - task["start"]
