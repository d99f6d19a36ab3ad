"""Training as a whole: a run from its configuration to its folder's results. Its steps are those of :mod:`geodtr_lib.trainer`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from geodtr_lib import checkpoints, paths, run_folder
from geodtr_lib.config import SCHEMA, RunConfig, config_from
from geodtr_lib.data import areas, open_for, regions
from geodtr_lib.data.base import PairDataset
from geodtr_lib.distributed import Ranks, joined
from geodtr_lib.errors import RunError
from geodtr_lib.evaluation import embed_dataset, evaluate, score
from geodtr_lib.files import digest, locked, read_versioned, remove_leftovers, write_bytes, write_json
from geodtr_lib.machine import choose_device, choose_precision, versions
from geodtr_lib.models.geodtr import count_parameters
from geodtr_lib.objective import loss_names
from geodtr_lib.tensorboard_log import TensorBoardLog
from geodtr_lib.trainer import Progress, Trainer

_TURN = threading.Lock()  # torch's random state is the whole process's: runs on several threads of one take turns


def resolve_machine(config: RunConfig) -> RunConfig:
    """Replace what is left to the machine by what this one has, so that the recorded configuration is complete."""
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    compiled = device.type == "cuda" if config.compile is None else config.compile
    return config.replace(device=str(device), precision=precision, compile=compiled)


def default_run_dir(config: RunConfig) -> Path:
    """``runs/<data>-<model>-<sampling>-<hash of the configuration>``."""
    name = f"{config.dataset}-{config.train_area}-{config.model}-{config.gle}-{config.n_desc}-{config.sampling}-seed{config.seed}"
    return paths.runs_folder() / f"{name}-{digest(run_folder.identity(config))[:8]}".replace("/", "_")


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Leave the caller's generators and cuDNN settings as they were."""
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark


def test_areas_of(config: RunConfig) -> tuple[str, ...]:
    """Areas to evaluate: the training area first, then those named, or all others of the data set when none is."""
    trained = config.train_area.split("+")
    # VIGOR's areas overlap: `same` holds panoramas that training on `cross` has seen.
    known = () if config.dataset == "vigor" else areas(config.dataset, config.data_root)
    others = config.test_areas or [area for area in known if area not in trained]
    return tuple(dict.fromkeys((config.train_area, *others)))


def protocol_of(config: RunConfig, area: str, split: str = "test") -> str:
    """'same' when the model was trained anywhere in this area, else 'cross'."""
    name, _, inner = area.rpartition(":")
    if (name or config.dataset) != config.dataset:
        return "cross"
    trained, met = regions(config.dataset, config.train_area, "train"), regions(config.dataset, inner, split)
    return "cross" if trained.isdisjoint(met) else "same"


def run(config: RunConfig | Mapping[str, Any], progress: bool = True) -> dict[str, Any]:
    """Train, evaluate and write the run's folder; resume it, or give back its stored result, if it is there already.

    Args:
        config: a configuration, or values for :func:`geodtr_lib.config.resolve_config`.
        progress: show progress bars.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ConfigError, DatasetError: impossible values or data.
        RunError: the folder cannot be written, is in use, or holds a run of another configuration or on other data; a loss is not finite.
        CheckpointError: the stored state is damaged.

    In processes that ``accelerate launch`` or ``notebook_launcher`` has started, all make this call, and take a share of each batch.
    """
    config = config_from(config)
    ranks = joined(config.device)
    config = resolve_machine(config)
    run_dir = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    config = config.replace(run_dir=str(run_dir))
    with _TURN, ExitStack() as held:

        def claim() -> tuple[bool, dict[str, Any] | None]:
            held.enter_context(locked(run_dir / run_folder.LOCK))
            replaces = not config.resume and (run_dir / "config.json").is_file()
            return replaces, None if replaces else _prepare_folder(config, run_dir)

        replaces, done = ranks.agreed(claim)
        if done is not None:
            found: dict[str, Any] = done
            return found
        held.enter_context(_own_random_state(torch.device(config.device)))
        try:
            trainer, tests = _opened(config, ranks)
            if replaces:  # only now: whatever was wrong with the new run, the old one would still be there
                ranks.agreed(lambda: _replace(config, run_dir))
                replaces = False
            return _run(trainer, tests, run_dir, progress)
        except Exception as error:
            if ranks.first and not replaces:  # a run that is to be replaced has not failed
                run_folder.note_failure(run_dir, error)
            raise


def _prepare_folder(config: RunConfig, run_dir: Path) -> dict[str, Any] | None:
    """Check what the folder holds, and make it this run's; the stored metrics if the run is finished."""
    stored = run_dir / "config.json"
    remove_leftovers(run_dir)
    if stored.is_file():
        before, now = read_versioned(stored, SCHEMA), run_folder.identity(config)
        # What an older version did not know was as it is by default.
        before = {**run_folder.default_values(), **before}
        changed = [key for key in now if before[key] != now[key]]
        if changed:
            listed = ", ".join(f"{key} {before.get(key)!r} -> {now[key]!r}" for key in changed[:5])
            raise RunError(
                f"{run_dir} holds a run of another configuration ({listed}{', ...' if len(changed) > 5 else ''}); "
                "choose another run_dir, or resume=False to replace it"
            )
        if (run_dir / "metrics.json").is_file():
            metrics = run_folder.read_metrics(run_dir)
            if _may_be_other_data(config, metrics["config"]) and data_hash(*open_data(config)) != metrics["data"]["hash"]:
                raise run_folder.other_data(run_dir)
            metrics["config"]["run_dir"] = str(run_dir)  # the folder may have been moved
            _tidy(run_dir)  # it may have been killed before it could
            return metrics
    _begin(config, run_dir)
    return None


def _begin(config: RunConfig, run_dir: Path) -> None:
    (run_dir / run_folder.FAILURE).unlink(missing_ok=True)
    run_folder.write_config(run_dir, config.to_dict())


def _replace(config: RunConfig, run_dir: Path) -> None:
    """Remove the run that the folder holds, and make it this one's."""
    remove_leftovers(run_dir)
    # The state last: as long as it is there, a run that was killed here says what the folder holds.
    for name in ("metrics.json", "model.safetensors", "best.safetensors", "log.csv", run_folder.PROGRESS, run_folder.STATE):
        (run_dir / name).unlink(missing_ok=True)
    _begin(config, run_dir)


def _may_be_other_data(config: RunConfig, before: Mapping[str, Any]) -> bool:
    """Whether a finished run's data are to be opened and compared: they lie elsewhere now, or in a map that may be another of the name."""
    roots = config.to_dict()
    if any(roots[name] != before.get(name, roots[name]) for name in ("data_root", "test_roots")):
        return True
    return bool(config.data_root and config.dataset == "osm") or "osm" in config.test_roots


def open_data(config: RunConfig) -> tuple[PairDataset, dict[str, PairDataset]]:
    """The training split, and the test splits of the areas that the run is evaluated on."""
    return open_for(config, config.train_area, "train"), {area: open_for(config, area, "test") for area in test_areas_of(config)}


def data_hash(data: PairDataset, tests: Mapping[str, PairDataset]) -> str:
    """One hash of what :func:`open_data` gives: that of a run's ``metrics.json``."""
    return digest([data.hash, *(test.hash for test in tests.values())])


def _tidy(run_dir: Path) -> None:
    """A finished run needs no optimiser state."""
    for name in (run_folder.STATE, run_folder.PROGRESS, run_folder.FAILURE):
        (run_dir / name).unlink(missing_ok=True)


def _opened(config: RunConfig, ranks: Ranks) -> tuple[Trainer, dict[str, PairDataset]]:
    """Everything that can be wrong with the data and the model is found here, before the first step."""
    with ranks.first_alone():
        data, tests = open_data(config)
    return Trainer(config, data, ranks), tests


def _run(trainer: Trainer, tests: Mapping[str, PairDataset], run_dir: Path, show: bool) -> dict[str, Any]:
    config, ranks, data, names = trainer.config, trainer.ranks, trainer.data, tuple(tests)
    trainer.restore(run_dir)
    show = show and ranks.first
    total, at = trainer.expected_steps, trainer.progress.steps
    with (
        trainer.settings(),
        tqdm(total=total, initial=at, unit=" steps", desc="training", disable=not show, leave=True, mininterval=0.5) as bar,
        ExitStack() as held,
    ):
        log = TensorBoardLog(run_dir / "tensorboard", at + 1) if config.tensorboard and ranks.first else None
        for part in (trainer.two_cores, log):
            if part is not None:
                held.callback(part.close)
        while trainer.progress.epoch < config.epochs:
            trainer.train_epoch(run_dir, bar, log)
            if config.best_epoch:
                _keep_best(trainer, tests[names[0]], run_dir)
            if ranks.first:
                _write_log(run_dir, trainer.progress)  # before the state: an epoch that the state has behind it is in the log
            trainer.save(run_dir)
    trainer.model.eval()
    stored = config.to_dict()
    if ranks.first:
        checkpoints.save_model(run_dir, trainer.model, stored)
    began = time.monotonic()
    evaluation = {area: {"protocol": protocol_of(config, area), **_measured(trainer, tests[area])} for area in names}
    history = trainer.progress.history
    metrics = {
        "schema": SCHEMA,
        "config": stored,
        "versions": versions(trainer.device),
        "data": {
            "hash": data_hash(data, tests),
            "n_train": len(data),
            "n_test": {area: len(tests[area]) for area in names},
        },
        "train": {
            "epochs": config.epochs,
            "steps": trainer.progress.steps,
            "seconds": trainer.progress.seconds,
            "pairs_per_second": trainer.progress.pairs / max(trainer.progress.seconds, 1e-9),
            **{name: [record[name] for record in history] for name in loss_names(config)},
            "parameters": count_parameters(trainer.model).whole,
            "lr": [record["lr"] for record in history],
            "curve": {name: [point[name] for point in trainer.progress.curve] for name in ("step", *loss_names(config))},
            "skipped_pairs": trainer.progress.skipped_pairs,
            "skipped_steps": trainer.progress.skipped_steps,
            "processes": ranks.size,
        },
        "evaluation_seconds": time.monotonic() - began,
        "evaluation": evaluation,
        **({"best_epoch": trainer.progress.best} if config.best_epoch else {}),
    }
    if ranks.first:
        write_json(run_dir / "metrics.json", metrics)
        _tidy(run_dir)
    found: dict[str, Any] = ranks.broadcast(metrics)
    return found


def _measured(trainer: Trainer, test: PairDataset) -> dict[str, float | int]:
    """Recalls on a test set: each process embeds its share, the first one ranks."""
    config, ranks = trainer.config, trainer.ranks
    if ranks.size == 1:
        return evaluate(trainer.model, test, config)
    embeddings = embed_dataset(trainer.model, test, config, trainer.device, ranks=ranks)
    found: dict[str, float | int] = ranks.agreed(lambda: score(embeddings, test, config.ties, device=trainer.device))
    return found


def _keep_best(trainer: Trainer, test: PairDataset, run_dir: Path) -> None:
    """Keep the weights of the best epoch on the first test area, as the release selects them (on the reported split)."""
    trainer.model.eval()
    found = _measured(trainer, test)
    trainer.progress.history[-1]["r1"] = found["r1"]
    if found["r1"] > trainer.progress.best.get("r1", -1.0):
        trainer.progress.best = {"epoch": trainer.progress.epoch, "area": test.area, **found}
        if trainer.ranks.first:
            checkpoints.save_model(run_dir, trainer.model, trainer.config.to_dict(), name="best")


def _write_log(run_dir: Path, progress: Progress) -> None:
    columns = list(progress.history[0])
    rows = [",".join(f"{record[name]:.8g}" for name in columns) for record in progress.history]
    lines = [",".join([*columns, "schema"]), *(f"{row},{SCHEMA}" for row in rows)]
    write_bytes(run_dir / "log.csv", ("\n".join(lines) + "\n").encode())
