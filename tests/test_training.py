"""Training runs: reproducible, resumable to the bit, and honest about folders that hold something else."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import geodtr_lib
from geodtr_lib import objective, training
from geodtr_lib.checkpoints import load_checkpoint, load_tensors
from geodtr_lib.config import resolve_config
from geodtr_lib.errors import CheckpointError, ConfigError, GeoDTRError, RunError
from geodtr_lib.models import build_model
from geodtr_lib.sampling import seed_for
from geodtr_lib.training import Trainer, choose_device, protocol_of, resolve_machine, run

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
    from geodtr_lib.data import open_for
    from geodtr_lib.evaluation import evaluate

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
    original = Trainer.train_step
    calls = []

    def stops(self: Trainer, *arguments: object) -> dict:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, *arguments)  # type: ignore[arg-type]

    config = {**QUICK, "checkpoint_minutes": 1e-9, "run_dir": str(tmp_path)}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stops)
        with pytest.raises(KeyboardInterrupt):
            run(config, progress=False)
    assert (tmp_path / "state.pt").is_file()
    assert not (tmp_path / "metrics.json").exists()
    resumed = run(config, progress=False)
    assert comparable(resumed) == comparable(metrics)


def test_a_killed_process_resumes_to_the_same_weights(finished: tuple[Path, dict], tmp_path: Path) -> None:
    folder, metrics = finished
    config = {**QUICK, "checkpoint_minutes": 1e-9, "run_dir": str(tmp_path)}
    code = "import sys, json, geodtr_lib; geodtr_lib.run(json.loads(sys.argv[1]), progress=False)"
    environment = {**os.environ, "PYTHONPATH": str(Path(geodtr_lib.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(config)], env=environment)
    deadline = time.monotonic() + 120
    while not (tmp_path / "state.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = run(config, progress=False)
    assert comparable(resumed) == comparable(metrics)
    first, second = (load_tensors(path / "model.safetensors")[0] for path in (folder, tmp_path))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_damaged_state_says_what_to_do(tmp_path: Path) -> None:
    config = resolve_machine(resolve_config(**{**QUICK, "run_dir": str(tmp_path)}))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match=r"state.pt cannot be read .* remove it to start"):
        run(config, progress=False)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = training.backward

    def poisoned(*arguments: object) -> dict:
        parts = original(*arguments)  # type: ignore[arg-type]
        return {**parts, "loss": parts["loss"] * float("nan")}

    monkeypatch.setattr(training, "backward", poisoned)
    with pytest.raises(RunError, match=r"the loss is nan in epoch 1 .*queries \["):
        run({**QUICK, "run_dir": str(tmp_path)}, progress=False)
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("sampling", ["raw", "L", "S", "LS", "L+S", "L+sameS", "sameL+S"])
def test_every_sampling_trains(sampling: str, tmp_path: Path) -> None:
    metrics = run({**QUICK, "epochs": 1, "sampling": sampling, "test_areas": ["midrise"], "run_dir": str(tmp_path)}, progress=False)
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
    from geodtr_lib.data import open_for

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
    from geodtr_lib.data import open_for
    from geodtr_lib.evaluation import evaluate

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
