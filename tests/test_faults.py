"""A run meets a full disk, an unreadable image, a loss that is no number, another process, a clock that jumps: nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import tiny

from geodtr_lib import checkpoints, run_folder, study, training
from geodtr_lib.checkpoints import load_checkpoint, load_tensors, save_tensors
from geodtr_lib.data.base import ArrayDataset
from geodtr_lib.data.images import UnreadableImage
from geodtr_lib.data.loading import read_rows
from geodtr_lib.errors import CheckpointError, ConfigError, DatasetError, RunError
from geodtr_lib.files import locked
from geodtr_lib.finite import FiniteSteps
from geodtr_lib.run_folder import load_state, read_metrics, save_state
from geodtr_lib.trainer import Trainer
from geodtr_lib.training import run


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Writing beyond so many bytes fails in the kernel, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")[0]


def same_weights(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(tiny(folder), progress=False)
    return folder


# --- full disk --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda folder, values: save_state(folder, {"values": values}),
        lambda folder, values: save_tensors(folder / "state.pt", {"values": values}),
        lambda folder, values: run_folder.write_config(folder, {"values": values.tolist()}),
    ],
    ids=["state", "tensors", "json"],
)
def test_no_writer_leaves_half_a_file_on_a_full_disk(tmp_path: Path, write: Any) -> None:
    values = torch.zeros(20_000)
    write(tmp_path, torch.zeros(4))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match=r"cannot write .*(state\.pt|config\.json)") as caught, no_file_beyond(10_000):
        write(tmp_path, values)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_met_a_full_disk_goes_on_from_the_state_before(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = run_folder.save_state
    calls = []

    def full_at_the_third(folder: Path, state: dict[str, Any]) -> None:
        calls.append(1)
        if len(calls) != 3:
            return original(folder, state)
        with no_file_beyond(50_000):
            original(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save_state", full_at_the_third)
        with pytest.raises(RunError, match=r"cannot write .*state\.pt .*the disk may be full"):
            run(tiny(tmp_path), progress=False)
    state = load_state(tmp_path, torch.device("cpu"))
    assert state is not None
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (0, 2)
    assert not list(tmp_path.glob(".*.part"))
    assert json.loads((tmp_path / "failed.json").read_text())["error"] == "RunError"
    run(tiny(tmp_path), progress=False)
    assert same_weights(tmp_path, finished)
    assert sorted(os.listdir(tmp_path)) == [".lock", "config.json", "log.csv", "metrics.json", "model.safetensors"]


def test_a_run_killed_right_after_its_last_state_has_its_whole_log(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.save

    def killed_after_the_last(self: Trainer, run_dir: Path) -> None:
        original(self, run_dir)
        if self.progress.epoch == self.config.epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", killed_after_the_last)
        with pytest.raises(KeyboardInterrupt):
            run(tiny(tmp_path), progress=False)
    run(tiny(tmp_path), progress=False)
    assert (tmp_path / "log.csv").read_bytes() == (finished / "log.csv").read_bytes()


def test_what_killed_writers_left_goes_with_the_next_start(tmp_path: Path) -> None:
    (tmp_path / ".state.pt.abc123.part").write_bytes(b"half")
    (tmp_path / ".tmp9Xox9K").write_bytes(b"half")  # safetensors' own
    training._prepare_folder(training.resolve_machine(training.config_from(tiny(tmp_path))), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["config.json"]


def test_a_finished_run_killed_before_it_was_tidy_is_tidied(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "state.pt").write_bytes(b"of the time before")
    run(tiny(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run" / "state.pt").exists()


# --- unreadable images ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_panorama(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training split's panorama 7 cannot be decoded."""
    original = ArrayDataset.ground

    def ground(self: ArrayDataset, indices: Any) -> torch.Tensor:
        if self.split == "train" and 7 in np.asarray(indices).tolist():
            raise UnreadableImage("panos/0000008.jpg", OSError("image file is truncated"))
        return original(self, indices)

    monkeypatch.setattr(ArrayDataset, "ground", ground)


@pytest.mark.usefixtures("broken_panorama")
def test_an_unreadable_image_names_its_file_and_the_step_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"epoch 1, step \d: panos/0000008.jpg cannot be decoded .*truncated.*skip_faulty=True"):
        run(tiny(tmp_path), progress=False)


@pytest.mark.usefixtures("broken_panorama")
def test_a_run_told_to_skip_goes_on_where_it_stopped_and_counts(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        run(tiny(tmp_path), progress=False)
    metrics = run(tiny(tmp_path, skip_faulty=True), progress=False)
    assert (metrics["train"]["skipped_pairs"], metrics["train"]["skipped_steps"]) == (2, 0), "one in each epoch"
    assert np.isfinite(metrics["train"]["loss"]).all()


@pytest.mark.usefixtures("broken_panorama")
def test_the_other_pairs_of_a_batch_keep_their_draws(tmp_path: Path) -> None:
    config = training.resolve_machine(training.config_from(tiny(tmp_path, skip_faulty=True)))
    data = training.open_for(config, "midrise", "train")
    batch = (np.array([3, 7, 9]), np.array([3, 7, 9]))
    trainer = Trainer(config, data)
    part = trainer.views(batch, 0, 0)
    assert trainer.shares[0, 0].rows.tolist() == [0, 2]
    others = Trainer(config, data)
    others._read = lambda *_: (data.aerial([3, 7, 9]), data.ground([3, 5, 9]))  # type: ignore[method-assign]
    whole = others.views(batch, 0, 0)
    for some, all_ in zip(part, whole, strict=True):
        assert torch.equal(some, all_[[0, 2, 3, 5]])


def test_rows_that_can_be_read_are_found_one_by_one() -> None:
    def read(rows: np.ndarray) -> tuple[torch.Tensor, ...]:
        if 5 in rows:
            raise DatasetError("row 5")
        return (torch.from_numpy(rows),)

    images, rows = read_rows(read, np.array([4, 5, 6]), skip=True)
    assert rows.tolist() == images[0].tolist() == [4, 6]
    for arguments in (([4, 5], False), ([5], True)):
        with pytest.raises(DatasetError, match="row 5"):
            read_rows(read, np.array(arguments[0]), arguments[1])
    images, rows = read_rows(read, np.zeros(0, dtype=np.int64))
    assert images[0].shape == (0,)


# --- losses that are no numbers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def poisoned_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second step of the second epoch gets images that are not finite."""
    original = Trainer._make_views

    def make_views(self: Trainer, epoch: int, step: int, *images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        views = original(self, epoch, step, *images)
        return tuple(view * float("nan") for view in views) if (epoch, step) == (1, 1) else views

    monkeypatch.setattr(Trainer, "_make_views", make_views)


@pytest.mark.usefixtures("poisoned_views")
def test_a_loss_that_is_not_finite_stops_at_its_step_and_names_pairs_and_checkpoint(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        run(tiny(tmp_path), progress=False)
    said = str(caught.value)
    assert "the loss is nan in epoch 2 at step 2 (queries [midrise-train-" in said
    assert said.count("midrise-train-") == 4
    assert f"the last good checkpoint is {tmp_path / 'state.pt'} (epoch 2, after step 1)" in said
    state = load_state(tmp_path, torch.device("cpu"))
    assert state is not None
    assert all(value.isfinite().all() for value in state["model"].values())
    # With the fault gone the run ends as if it had never been.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_make_views", _plain_views)
        run(tiny(tmp_path), progress=False)
    assert same_weights(tmp_path, finished)


_plain_views = Trainer._make_views


@pytest.mark.usefixtures("poisoned_views")
def test_steps_that_are_not_finite_are_skipped_and_counted_when_asked(tmp_path: Path) -> None:
    metrics = run(tiny(tmp_path, skip_faulty=True), progress=False)
    assert metrics["train"]["skipped_steps"] == 1
    assert np.isfinite(metrics["train"]["loss"]).all()
    assert all(value.isfinite().all() for value in weights(tmp_path).values()), "batch statistics too"


def test_where_nobody_waits_for_the_device_the_first_faulty_step_is_still_known() -> None:
    finite = FiniteSteps(torch.nn.Linear(1, 1), at_once=False, keep_statistics=False)
    values = [(1.0, 1.0), (2.0, float("inf")), (float("nan"), float("nan"))]
    assert all(finite.allows(step, torch.tensor(loss), torch.tensor(norm)) for step, (loss, norm) in enumerate(values))
    assert finite.faulty() == (1, "the gradient's norm is inf")
    assert finite.faulty() is None


# --- others, clocks, versions -----------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_says_nothing_of_a_failure(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock"), pytest.raises(RunError, match="in use by another process"):
        run(tiny(tmp_path), progress=False)
    assert os.listdir(tmp_path) == [".lock"]


def test_a_laptop_that_slept_and_a_clock_set_back_change_nothing(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic, slept = time.monotonic, []

    def sleeps() -> float:
        slept.append(1)
        return monotonic() + 8 * 3600 * (len(slept) // 5)  # a night every few looks

    monkeypatch.setattr(time, "monotonic", sleeps)
    monkeypatch.setattr(time, "time", lambda: -1.0 * len(slept))
    run(tiny(tmp_path, checkpoint_minutes=5), progress=False)
    assert same_weights(tmp_path, finished)


def test_the_state_of_another_run_is_not_gone_on_from(tmp_path: Path) -> None:
    config = training.resolve_machine(training.config_from(tiny(tmp_path)))
    save_state(tmp_path, {"model": {}, "optimizer": {}, "progress": {}, "identity": run_folder.identity(config.replace(seed=4))})
    with pytest.raises(CheckpointError, match=r"another run: seed differ.*remove it"):
        run(tiny(tmp_path), progress=False)


def test_a_run_of_an_older_version_is_read_and_one_of_a_newer_says_so(finished: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, schema in ((old, None), (new, 99)):
        shutil.copytree(finished, folder)
        for name in ("config.json", "metrics.json"):
            content = json.loads((folder / name).read_text())
            assert content["schema"] == 1
            content = {**content, "schema": schema} if schema else {key: value for key, value in content.items() if key != "schema"}
            (folder / name).write_text(json.dumps(content))
    stored = json.loads((old / "config.json").read_text())
    del stored["label_smoothing"]  # a parameter that came later
    (old / "config.json").write_text(json.dumps(stored))
    assert run(tiny(old), progress=False)["evaluation"] == read_metrics(finished)["evaluation"]
    load_checkpoint(old)
    for call in (lambda: run(tiny(new), progress=False), lambda: read_metrics(new), lambda: load_checkpoint(new)):
        with pytest.raises((RunError, ConfigError), match="newer version.*update geodtr-lib"):
            call()
    with pytest.warns(UserWarning, match=r"new/metrics.json is of a newer version"):
        assert len(study.collect(tmp_path)) == 1
    assert (finished / "log.csv").read_text().splitlines()[0].endswith(",schema")
    assert checkpoints.load_tensors(finished / "model.safetensors")[1]["schema"] == "1"


def test_losses_for_tensorboard_when_asked(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tiny(tmp_path, tensorboard=True), progress=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert same_weights(tmp_path, finished)
