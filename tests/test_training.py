"""Training runs: reproducible, resumable to the bit, and honest about folders that hold something else."""

from __future__ import annotations

import copy
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import miniature
import numpy as np
import pytest
import torch
from tiny_runs import tiny

from geodtr_lib import machine, objective, run_folder, training
from geodtr_lib.checkpoints import load_checkpoint, load_tensors
from geodtr_lib.config import resolve_config
from geodtr_lib.data import open_for
from geodtr_lib.errors import CheckpointError, ConfigError, GeoDTRError, RunError, first_line
from geodtr_lib.evaluation import evaluate
from geodtr_lib.machine import choose_device
from geodtr_lib.models import build_model
from geodtr_lib.sampling import POLICIES, seed_for
from geodtr_lib.trainer import Trainer
from geodtr_lib.training import protocol_of, resolve_machine, run

QUICK = dict(preset="smoke", epochs=2, n_train=24, n_test=20, batch_size=8, test_areas=["midrise", "oldtown"])


def comparable(metrics: dict) -> dict:
    """What must be equal in two runs of one configuration: everything but times and places."""
    train = {key: value for key, value in metrics["train"].items() if "second" not in key}
    return {"train": train, "evaluation": metrics["evaluation"], "data": metrics["data"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("runs") / "first"
    return folder, run({**QUICK, "run_dir": str(folder)}, progress=False)


def test_a_run_leaves_what_the_interface_names(finished: tuple[Path, dict]) -> None:
    folder, metrics = finished
    assert {"config.json", "metrics.json", "model.safetensors", "log.csv"} <= set(os.listdir(folder))
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["config"]["device"] == "cpu"
    assert metrics["config"]["precision"] in ("fp32", "bf16")
    assert list(metrics["evaluation"]) == ["midrise", "oldtown"]
    assert [area["protocol"] for area in metrics["evaluation"].values()] == ["same", "cross"]
    for area in metrics["evaluation"].values():
        assert (area["n_query"], area["n_gallery"]) == (20, 20)
        assert 0 <= area["r1"] <= area["r5"] <= area["r10"] <= 1
    assert len(metrics["train"]["loss"]) == 2
    total = np.add(metrics["train"]["triplet_loss"], metrics["train"]["counterfactual_loss"])
    assert np.allclose(total, metrics["train"]["loss"])
    log = (folder / "log.csv").read_text().splitlines()
    assert log[0].startswith("epoch,lr,loss")
    assert len(log) == 3


def test_the_stored_model_gives_the_stored_recalls(finished: tuple[Path, dict]) -> None:
    folder, metrics = finished
    model = load_checkpoint(folder)
    assert not model.training
    config = resolve_config(**metrics["config"])
    found = evaluate(model, open_for(config, "oldtown", "test"), config)
    assert found == {key: value for key, value in metrics["evaluation"]["oldtown"].items() if key != "protocol"}


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(finished: tuple[Path, dict], tmp_path: Path) -> None:
    folder, metrics = finished
    again = run({**QUICK, "run_dir": str(tmp_path / "again")}, progress=False)
    assert comparable(again) == comparable(metrics)
    first, second = (load_tensors(path / "model.safetensors")[0] for path in (folder, tmp_path / "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = run({**QUICK, "seed": 1, "run_dir": str(tmp_path / "other")}, progress=False)
    assert other["train"]["loss"] != metrics["train"]["loss"]


def test_a_run_does_not_touch_the_callers_random_state(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run({**QUICK, "epochs": 1, "run_dir": str(tmp_path / "r")}, progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_a_finished_run_is_given_back_not_repeated(finished: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, metrics = finished
    monkeypatch.setattr(training, "_run", lambda *_: pytest.fail("trained again"))
    assert run({**QUICK, "run_dir": str(folder)}, progress=False) == metrics


def test_a_finished_run_may_be_moved(finished: tuple[Path, dict], tmp_path: Path) -> None:
    folder, metrics = finished
    shutil.copytree(folder, tmp_path / "moved")
    read = run({**QUICK, "run_dir": str(tmp_path / "moved")}, progress=False)
    assert read["config"]["run_dir"] == str(tmp_path / "moved")
    assert read["evaluation"] == metrics["evaluation"]


def test_another_configuration_is_refused(finished: tuple[Path, dict]) -> None:
    folder, _ = finished
    with pytest.raises(RunError, match=r"holds a run of another configuration \(n_desc 8 -> 4\); choose another run_dir"):
        run({**QUICK, "n_desc": 4, "run_dir": str(folder)}, progress=False)


def test_resume_false_replaces_the_run(tmp_path: Path) -> None:
    run({**QUICK, "epochs": 1, "run_dir": str(tmp_path)}, progress=False)
    replaced = run({**QUICK, "epochs": 1, "n_desc": 2, "resume": False, "run_dir": str(tmp_path)}, progress=False)
    assert replaced["config"]["n_desc"] == 2


@pytest.mark.parametrize("wrong", [dict(test_areas=["mars"]), dict(backbone="resnet18", heads=7)], ids=str)
def test_a_run_that_cannot_be_replaced_stays(finished: tuple[Path, dict], tmp_path: Path, wrong: dict) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(GeoDTRError):
        run({**QUICK, **wrong, "resume": False, "run_dir": str(tmp_path / "run")}, progress=False)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_new_run_that_cannot_begin_says_so_in_its_folder(tmp_path: Path, resume: bool) -> None:
    with pytest.raises(GeoDTRError):
        run({**QUICK, "test_areas": ["mars"], "resume": resume, "run_dir": str(tmp_path)}, progress=False)
    assert "mars" in json.loads((tmp_path / "failed.json").read_text())["reason"]


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write .*file"):
        run({**QUICK, "run_dir": str(tmp_path / "file" / "run")}, progress=False)


def test_interrupted_at_any_step_the_run_ends_the_same(
    finished: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints after every step, a stop in the middle of the second epoch."""
    _, metrics = finished
    config = {**QUICK, "checkpoint_minutes": 1e-9, "run_dir": str(tmp_path)}
    stop_at(5, config, monkeypatch)
    assert (tmp_path / "state.pt").is_file()
    assert not (tmp_path / "metrics.json").exists()
    resumed = run(config, progress=False)
    assert comparable(resumed) == comparable(metrics)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run whose epochs have 8, 7 and 7 steps: several panoramas have a tile in common, and tiles overlap."""
    root = miniature.make_vigor(tmp_path_factory.mktemp("vigor"), n_train=6, n_test=2, grid=3)
    given = dict(dataset="vigor", data_root=str(root), test_areas=["same"], tile_size=32, batch_size=6, epochs=3)
    return tiny(Path("unused"), **given, warmup_epochs=1.0, precision="fp32")


def test_steps_are_counted_where_epochs_differ_in_length(uneven: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[int] = []
    noted: list[tuple[float, float]] = []

    class Log:
        def __init__(self, folder: Path, step: int) -> None:
            assert step == 1

        def add(self, step: int, values: dict[str, float]) -> None:
            logged.append(step)

        def close(self) -> None:
            pass

    monkeypatch.setattr(training, "TensorBoardLog", Log)
    monkeypatch.setattr(run_folder, "note_progress", lambda _, steps, of, **__: noted.append((steps, of)))
    metrics = run({**uneven, "tensorboard": True, "run_dir": str(tmp_path)}, progress=False)
    assert metrics["train"]["steps"] == 22
    assert metrics["train"]["curve"]["step"] == list(range(1, 23))
    assert logged == list(range(1, 23))
    assert [steps for steps, _ in noted] == list(range(1, 23))
    assert noted[0] == (1, 24), "as long as nobody knows of the epochs to come"
    assert noted[-1] == (22, 22)


def test_epochs_of_any_length_take_the_same_share_of_the_schedule(uneven: dict[str, Any]) -> None:
    config = resolve_machine(resolve_config(**uneven))
    trainer = Trainer(config, open_for(config, "same", "train"))
    lengths = [len(trainer.batches(epoch)) for epoch in range(3)]
    assert lengths == [8, 7, 7]
    rates = [[trainer.learning_rate(epoch, step) for step in range(steps)] for epoch, steps in enumerate(lengths)]
    assert np.allclose(rates[0], config.lr * np.arange(1, 9) / 8, rtol=1e-12)
    for epoch in (1, 2):
        position = (epoch - 1 + np.arange(7) / 7) / 2
        assert np.allclose(rates[epoch], config.lr * (1 + np.cos(np.pi * position)) / 2, rtol=1e-12)


def stop_at(number: int, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a run that is stopped in its step of this number, from 1."""
    original, calls = Trainer.train_step, []

    def stops(self: Trainer, *arguments: Any) -> dict:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stops)
        with pytest.raises(KeyboardInterrupt):
            run(config, progress=False)


def test_a_run_with_epochs_of_any_length_resumes(uneven: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**uneven, "batches": "near"}
    expected = run({**given, "run_dir": str(tmp_path / "whole")}, progress=False)
    stop_at(18, {**given, "run_dir": str(tmp_path / "stopped")}, monkeypatch)
    assert comparable(run({**given, "run_dir": str(tmp_path / "stopped")}, progress=False)) == comparable(expected)


def as_of_an_earlier_version(folder: Path) -> None:
    """The state without the count of steps."""
    state = torch.load(folder / "state.pt", weights_only=True)
    del state["progress"]["before"]
    torch.save(state, folder / "state.pt")


def test_a_state_without_a_count_of_steps_is_gone_on_from_where_epochs_are_alike(
    finished: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**QUICK, "checkpoint_minutes": 1e-9, "run_dir": str(tmp_path)}
    stop_at(5, config, monkeypatch)
    as_of_an_earlier_version(tmp_path)
    assert comparable(run(config, progress=False)) == comparable(finished[1])


def test_a_state_without_a_count_of_steps_is_refused_where_epochs_differ(
    uneven: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**uneven, "run_dir": str(tmp_path)}
    stop_at(4, config, monkeypatch)
    as_of_an_earlier_version(tmp_path)  # in the first epoch all was the same
    stop_at(8, config, monkeypatch)
    as_of_an_earlier_version(tmp_path)
    with pytest.raises(CheckpointError, match=r"state\.pt .*earlier version, which had other learning rates .*remove it to start this run"):
        run(config, progress=False)


def test_neighbours_of_a_state_may_lie_on_another_device() -> None:
    class OnAnotherDevice(torch.Tensor):
        def numpy(self, **_: Any) -> np.ndarray:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

        def cpu(self, **_: Any) -> torch.Tensor:
            return self.as_subclass(torch.Tensor)

    config = resolve_machine(resolve_config(**{**QUICK, "batches": "similar"}))
    trainer = Trainer(config, open_for(config, "midrise", "train"))
    table = (torch.arange(24)[:, None] + torch.arange(1, 9)) % 24
    trainer.progress.neighbours = (1, table.as_subclass(OnAnotherDevice))  # type: ignore[arg-type]
    found = trainer.neighbours(1)
    assert found is not None
    assert found.tolist() == table.tolist()


def test_a_damaged_state_says_what_to_do(tmp_path: Path) -> None:
    config = resolve_machine(resolve_config(**{**QUICK, "run_dir": str(tmp_path)}))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match=r"state.pt cannot be read .* remove it to start"):
        run(config, progress=False)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = objective.backward

    def poisoned(*arguments: object) -> dict:
        parts = original(*arguments)  # type: ignore[arg-type]
        return {**parts, "loss": parts["loss"] * float("nan")}

    monkeypatch.setattr("geodtr_lib.trainer.backward", poisoned)
    with pytest.raises(RunError, match=r"the loss is nan in epoch 1 .*queries \["):
        run({**QUICK, "run_dir": str(tmp_path)}, progress=False)
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("sampling", POLICIES)
def test_every_sampling_trains(sampling: str, tmp_path: Path) -> None:
    metrics = run(tiny(tmp_path, epochs=1, sampling=sampling), progress=False)
    assert np.isfinite(metrics["train"]["loss"]).all()


@pytest.mark.parametrize(
    "options",
    [dict(gle="v1"), dict(polar=False), dict(loss="infonce"), dict(schedule="per_epoch", warmup_epochs=1), dict(fov=90, heading="random")],
)
def test_every_option_trains(options: dict, tmp_path: Path) -> None:
    metrics = run({**QUICK, **options, "test_areas": ["midrise"], "run_dir": str(tmp_path)}, progress=False)
    assert np.isfinite(metrics["train"]["loss"]).all()


def test_the_first_epoch_of_the_released_schedule_changes_no_parameter(tmp_path: Path) -> None:
    config = {**QUICK, "epochs": 1, "schedule": "per_epoch", "warmup_epochs": 5, "test_areas": ["midrise"]}
    metrics = run({**config, "run_dir": str(tmp_path)}, progress=False)
    assert metrics["train"]["lr"] == [0.0]
    torch.manual_seed(seed_for(metrics["config"]["seed"], "model"))
    start, trained = build_model(resolve_config(**metrics["config"])), load_checkpoint(tmp_path)
    assert all(torch.equal(own, theirs) for own, theirs in zip(start.parameters(), trained.parameters(), strict=True))


def test_a_step_is_adamws_on_clipped_gradients(tmp_path: Path) -> None:
    """Of the configuration's learning rate, weight decay and epsilon, with the gradient's norm cut to the configuration's."""
    chosen = {"counterfactual_weight": 0.0, "dropout": 0.0, "clip": 1e-3, "weight_decay": 0.5, "adam_eps": 1e-3, "precision": "fp32"}
    config = resolve_machine(resolve_config(**{**QUICK, **chosen, "run_dir": str(tmp_path)}))
    trainer = Trainer(config, open_for(config, "midrise", "train"))
    batch = trainer.batches(0)[0]
    aerial, ground = trainer.views(batch, 0, 3)
    own = copy.deepcopy(trainer.model)
    objective.backward(own, aerial, ground, config, (torch.Generator(), torch.Generator()))
    norm = torch.nn.utils.clip_grad_norm_(own.parameters(), 1e-3)
    assert norm > 1e-3
    torch.optim.AdamW(own.parameters(), lr=trainer.learning_rate(0, 3), eps=1e-3, weight_decay=0.5).step()
    trainer.train_step(aerial, ground, 0, 3, trainer.beside(batch[0], 0, 3))
    for (name, found), expected in zip(trainer.model.named_parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


def test_training_learns(tmp_path: Path) -> None:
    """Well above chance on the places it was trained on: the step does what it should."""
    long = {"epochs": 40, "sampling": "raw", "dropout": 0.0, "test_areas": ["midrise"]}
    config = resolve_config(**{**QUICK, **long, "run_dir": str(tmp_path)})
    metrics = run(config, progress=False)
    assert metrics["train"]["triplet_loss"][-1] < 0.5 * metrics["train"]["triplet_loss"][0]
    found = evaluate(load_checkpoint(tmp_path), open_for(config, "midrise", "train"), resolve_machine(config))
    assert found["r1"] > 0.5  # chance is 1 / 24


def test_best_epoch_is_kept_beside_the_last(tmp_path: Path) -> None:
    metrics = run({**QUICK, "best_epoch": True, "run_dir": str(tmp_path)}, progress=False)
    assert metrics["best_epoch"]["epoch"] in (1, 2)
    assert metrics["best_epoch"]["r1"] >= metrics["evaluation"]["midrise"]["r1"]
    assert (tmp_path / "best.safetensors").is_file()


def test_devices_are_named_when_they_are_not_there() -> None:
    with pytest.raises(ConfigError, match="device: 'abacus' is not available"):
        choose_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device: 'cuda' is not available"):
            choose_device("cuda")


def test_an_error_without_words_is_told_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(torch, "empty", refuses)
    with pytest.raises(ConfigError, match=r"device: 'cpu' is not available here \(RuntimeError\)"):
        choose_device("cpu")
    assert first_line(ValueError("\n  no such key\nat line 3")) == "no such key"
    assert first_line(KeyError()) == "KeyError"


def test_a_machine_is_named_by_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = f", {platform.system()}, {torch.get_num_threads()} threads"
    monkeypatch.setattr(machine, "_processor", lambda: "a processor")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"GPU {device.index if device else 'current'}")
    for there, named in ((True, ["a processor", "GPU current", "GPU 1", "GPU current"]), (False, ["a processor"] * 4)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        found = [machine.name_of("cpu"), machine.name_of("auto"), machine.name_of(torch.device("cuda:1")), machine.name_of()]
        assert found == [name + rest for name in named]
    assert machine.versions("cpu")["machine"] == "a processor" + rest


def test_a_run_on_the_cpu_names_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(machine, "name_of", lambda device="auto": asked.append(str(device)) or "here")
    run(tiny(tmp_path, epochs=1, device="cpu"), progress=False)
    assert asked == ["cpu"]


def test_what_an_older_version_did_not_know_was_as_it_is_by_default(tmp_path: Path) -> None:
    config = resolve_machine(resolve_config("smoke", run_dir=str(tmp_path)))
    older = {name: value for name, value in config.to_dict().items() if name not in ("test_areas", "options", "sampling", "ties")}
    (tmp_path / "config.json").write_text(json.dumps(older))
    with pytest.raises(RunError, match=r"another configuration \(test_areas \[\] -> \['midrise'\]\)"):
        training._prepare_folder(config.replace(test_areas=["midrise"]), tmp_path)
    assert training._prepare_folder(config, tmp_path) is None


@pytest.mark.parametrize(
    ("train_area", "area", "expected"),
    [
        ("midrise", "midrise", "same"),
        ("midrise", "oldtown", "cross"),
        ("midrise+oldtown", "oldtown", "same"),
        ("midrise", "osm:helsinki", "cross"),
    ],
)
def test_protocols(train_area: str, area: str, expected: str) -> None:
    assert protocol_of(resolve_config("smoke", train_area=train_area), area) == expected
